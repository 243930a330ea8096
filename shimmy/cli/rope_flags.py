"""Flags that stretch positions beyond what a model was trained with, under llama.cpp's names."""

from __future__ import annotations

from collections.abc import Callable

import click

from shimmy.cli.numbers import Real, Whole

_REAL = Real(min=0)
_POSITIVE = Real(min=0, min_open=True)

ROPE_OPTIONS: list[Callable[[Callable[..., None]], Callable[..., None]]] = [
    click.option(
        "--rope-scaling",
        "rope_scaling",
        type=click.Choice(("none", "linear", "yarn", "longrope")),
        help="How positions are stretched.",
    ),
    click.option(
        "--rope-freq-base",
        "rope_freq_base",
        type=_POSITIVE,
        metavar="X",
        help="RoPE base frequency.",
    ),
    click.option(
        "--rope-freq-scale",
        "rope_freq_scale",
        type=_POSITIVE,
        metavar="X",
        help="RoPE frequency factor: 0.5 doubles the context.",
    ),
    click.option(
        "--yarn-orig-ctx",
        "yarn_orig_ctx",
        type=Whole(min=1),
        metavar="N",
        help="YaRN: context the model was trained with.",
    ),
    click.option(
        "--yarn-ext-factor",
        "yarn_ext_factor",
        type=_REAL,
        metavar="X",
        help="YaRN: mix of extrapolation.",
    ),
    click.option(
        "--yarn-attn-factor",
        "yarn_attn_factor",
        type=_REAL,
        metavar="X",
        help="YaRN: scale of attention.",
    ),
    click.option(
        "--yarn-beta-fast",
        "yarn_beta_fast",
        type=_REAL,
        metavar="X",
        help="YaRN: low correction dimension.",
    ),
    click.option(
        "--yarn-beta-slow",
        "yarn_beta_slow",
        type=_REAL,
        metavar="X",
        help="YaRN: high correction dimension.",
    ),
]

ROPE_NAMES = (
    "rope_scaling",
    "rope_freq_base",
    "rope_freq_scale",
    "yarn_orig_ctx",
    "yarn_ext_factor",
    "yarn_attn_factor",
    "yarn_beta_fast",
    "yarn_beta_slow",
)
