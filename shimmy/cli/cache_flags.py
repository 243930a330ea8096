"""Flags for attention, the KV cache and what is kept of it, under llama.cpp's names."""

from __future__ import annotations

from collections.abc import Callable

import click

from shimmy.cli.numbers import Whole
from shimmy.engine.types.options import CACHE_TYPES

CACHE_OPTIONS: list[Callable[[Callable[..., None]], Callable[..., None]]] = [
    click.option(
        "-fa",
        "--flash-attn",
        "flash_attn",
        type=click.Choice(("on", "off", "auto")),
        help="Flash attention.",
    ),
    click.option(
        "-ctk",
        "--cache-type-k",
        "cache_type_k",
        type=click.Choice(CACHE_TYPES),
        metavar="TYPE",
        help="Type of the K cache.",
    ),
    click.option(
        "-ctv",
        "--cache-type-v",
        "cache_type_v",
        type=click.Choice(CACHE_TYPES),
        metavar="TYPE",
        help="Type of the V cache.",
    ),
    click.option(
        "-kvu/-no-kvu",
        "--kv-unified/--no-kv-unified",
        "kv_unified",
        default=None,
        help="One pool of KV cells for all slots (default), or each its own part.",
    ),
    click.option(
        "--swa-full/--no-swa-full",
        "swa_full",
        default=None,
        help="Layers that see a sliding window only keep all tokens, or that window. Default: all,"
        " unless that takes twice the cells.",
    ),
    click.option(
        "-ctxcp",
        "--ctx-checkpoints",
        "ctx_checkpoints",
        type=Whole(min=0),
        metavar="N",
        help="States kept of a prompt in host memory where they cannot be cut: sliding windows,"
        " recurrent models. Default 32.",
    ),
    click.option(
        "--context-shift/--no-context-shift",
        "context_shift",
        default=None,
        help="Forget the older half of a full context and go on; default: end.",
    ),
    click.option(
        "-cram",
        "--cache-ram",
        "cache_ram",
        type=Whole(min=0),
        metavar="MIB",
        help="Host memory for prompts that left the KV cells; 0: none. Default: a quarter of the"
        " free memory, at most 8192.",
    ),
    click.option(
        "--slot-save-path",
        "slot_save_path",
        type=click.Path(exists=True, file_okay=False, writable=True, resolve_path=True),
        metavar="DIR",
        help="Where POST /slots/ID?action=save puts sessions; without it there are none.",
    ),
]

CACHE_NAMES = (
    "flash_attn",
    "cache_type_k",
    "cache_type_v",
    "kv_unified",
    "swa_full",
    "ctx_checkpoints",
    "context_shift",
    "cache_ram",
    "slot_save_path",
)
