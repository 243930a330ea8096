"""The row sampler chooses the very token that llama.cpp's common_sampler chooses, over all samplers.

Both are built from the same JSON and seed and shown the same logits, draw after draw, so that histories, random states
and grammars move on together. The rows are written over a decoded batch's logits: common_sampler reads nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shimmy.llama import Batch, Context, ContextParams, Model
from shimmy.llama._ffi import ffi, lib
from tests.support.tiny_gguf import write_model

DRAWS = 12


class Bench:
    """A model whose logits can be set, and pairs of samplers over it."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.n_vocab = model.vocab.n_tokens
        self.context = Context(model, ContextParams(n_ctx=256, n_threads=1))
        self.context.decode(Batch.of([1]))
        self.logits = np.frombuffer(
            ffi.buffer(lib.llama_get_logits_ith(self.context.ptr, -1), 4 * self.n_vocab),
            np.float32,
        )

    def compare(
        self, fields: dict[str, Any], seed: int, prompt: list[int], spread: float = 3.0
    ) -> tuple[list[int], list[int]]:
        text = json.dumps(fields | {"seed": seed}).encode()
        ours = lib.shm_sampler_new(self.model.ptr, self.model.ends, 256, text, len(text), ffi.NULL)
        theirs = lib.shm_reference_new(self.model.ptr, self.model.ends, 256, text, len(text))
        assert ours != ffi.NULL, ffi.string(lib.shm_last_error())
        assert theirs != ffi.NULL, ffi.string(lib.shm_last_error())
        try:
            tokens = ffi.new("llama_token[]", prompt)
            assert lib.shm_sampler_prime(ours, tokens, len(prompt)) == 0
            assert lib.shm_reference_prime(theirs, tokens, len(prompt)) == 0
            return self._draw(ours, theirs, np.random.default_rng(seed), spread)
        finally:
            lib.shm_sampler_free(ours)
            lib.shm_reference_free(theirs)

    def _draw(
        self, ours: Any, theirs: Any, random: np.random.Generator, spread: float
    ) -> tuple[list[int], list[int]]:
        left, right = [], []
        for _ in range(DRAWS):
            row = random.normal(0, spread, self.n_vocab).astype(np.float32)
            copy = ffi.new("float[]", self.n_vocab)
            ffi.memmove(copy, row.tobytes(), row.nbytes)
            left.append(lib.shm_sampler_draw(ours, copy))
            ffi.memmove(lib.llama_get_logits_ith(self.context.ptr, -1), row.tobytes(), row.nbytes)
            right.append(lib.shm_reference_draw(theirs, self.context.ptr, -1))
            if left[-1] == lib.SHM_FAULT or self.model.vocab.is_eog(left[-1]):
                break
        return left, right


@pytest.fixture(scope="module", params=[600, 20_000], ids=["small-vocab", "large-vocab"])
def bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    path: Path = tmp_path_factory.mktemp("parity") / "model.gguf"
    with Model.load(write_model(path, n_unused=request.param)) as model:
        yield Bench(model)


unit = st.floats(0.0, 1.0, width=32)
fields = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.sampled_from([0.0, 0.2, 0.7, 1.0, 1.7]),
        "top_k": st.sampled_from([-1, 0, 1, 5, 40, 100, 5000]),
        "top_p": st.sampled_from([0.3, 0.9, 0.95, 1.0]),
        "min_p": st.sampled_from([0.0, 0.05, 0.5]),
        "typ_p": st.sampled_from([1.0, 0.6]),
        "top_n_sigma": st.sampled_from([-1.0, 1.0, 2.5]),
        "xtc_probability": st.sampled_from([0.0, 0.5, 1.0]),
        "xtc_threshold": st.sampled_from([0.05, 0.2]),
        "dynatemp_range": st.sampled_from([0.0, 0.5]),
        "dynatemp_exponent": st.sampled_from([1.0, 2.0]),
        "repeat_last_n": st.sampled_from([0, 1, 16, 64, -1]),
        "repeat_penalty": st.sampled_from([0.7, 1.0, 1.3, 2.0]),
        "presence_penalty": st.sampled_from([-2.0, 0.0, 1.5]),
        "frequency_penalty": st.sampled_from([-1.0, 0.0, 0.7]),
        "dry_multiplier": st.sampled_from([0.0, 0.8]),
        "dry_base": st.sampled_from([1.0, 1.75]),
        "dry_allowed_length": st.sampled_from([0, 1, 2]),
        "dry_penalty_last_n": st.sampled_from([0, 32, -1]),
        "mirostat": st.sampled_from([0, 0, 0, 1, 2]),
        "mirostat_tau": st.sampled_from([2.0, 5.0]),
        "mirostat_eta": st.sampled_from([0.1, 0.5]),
        "adaptive_target": st.sampled_from([-1.0, 0.4]),
        "min_keep": st.sampled_from([0, 3]),
        "ignore_eos": st.booleans(),
        "logit_bias": st.dictionaries(
            st.integers(0, 500).map(str), st.sampled_from([None, -5.0, 3.0, 20.0]), max_size=8
        ),
        "samplers": st.lists(
            st.sampled_from(
                [
                    "penalties",
                    "dry",
                    "top_n_sigma",
                    "top_k",
                    "typ_p",
                    "top_p",
                    "min_p",
                    "xtc",
                    "temperature",
                    "adaptive_p",
                ]
            ),
            unique=True,
        ),
    },
)


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    fields=fields,
    seed=st.integers(0, 2**31),
    prompt=st.lists(st.integers(0, 40), max_size=80),
    spread=st.sampled_from([0.5, 3.0, 8.0]),
)
def test_every_draw_is_common_samplers(
    bench: Bench, fields: dict[str, Any], seed: int, prompt: list[int], spread: float
) -> None:
    ours, theirs = bench.compare(fields, seed, prompt, spread)
    assert ours == theirs
    assert ours[0] >= 0


GRAMMARS = {
    "word": 'root ::= "hello world"',
    "choice": 'root ::= ("fox" | "dog" | "bird") " " [0-9]+',
    "any": "root ::= .*",
    "unicode": 'root ::= "é" [à-ü]+ "😀"',
}


@pytest.mark.parametrize("grammar", GRAMMARS.values(), ids=GRAMMARS.keys())
@pytest.mark.parametrize(
    "settings_",
    [{}, {"temperature": 0.0}, {"top_k": 0, "top_p": 0.9}, {"repeat_penalty": 1.5, "top_k": 3}],
    ids=["default", "greedy", "unbounded", "penalised"],
)
def test_a_grammar_is_followed_as_common_sampler_follows_it(
    bench: Bench, grammar: str, settings_: dict[str, Any]
) -> None:
    for seed in range(5):
        ours, theirs = bench.compare({"grammar": grammar, **settings_}, seed, [1, 2, 3])
        assert ours == theirs
        assert lib.SHM_FAULT not in ours


def test_a_reasoning_budget_forces_the_end_as_common_sampler_does(bench: Bench) -> None:
    fields = {
        "thinking_start_tag": "<",
        "thinking_end_tags": [">"],
        "generation_prompt": "<",
        "reasoning_budget_tokens": 3,
    }
    end = bench.model.vocab.tokenize(">", add_special=False)
    for seed in range(5):
        ours, theirs = bench.compare(fields, seed, [])
        assert ours == theirs
        assert ours[3] == end[0]


@pytest.mark.parametrize("n", [64, 1000, 4096, 32_000])
@pytest.mark.parametrize("k", [1, 7, 40])
def test_a_row_of_nan_or_minus_infinity_does_not_crash(bench: Bench, n: int, k: int) -> None:
    row = ffi.new("float[]", bench.n_vocab)
    for fill in (float("nan"), float("-inf")):
        for i in range(bench.n_vocab):
            row[i] = fill
        for i in range(0, bench.n_vocab, max(bench.n_vocab // n, 1)):
            row[i] = 1.0
        text = json.dumps({"seed": 1, "top_k": k}).encode()
        sampler = lib.shm_sampler_new(
            bench.model.ptr, bench.model.ends, 256, text, len(text), ffi.NULL
        )
        token = lib.shm_sampler_draw(sampler, row)
        assert 0 <= token < bench.n_vocab
        lib.shm_sampler_free(sampler)


LAZY: dict[str, list[dict[str, Any]]] = {
    "word": [{"type": 1, "value": "fox"}],
    "two words": [{"type": 1, "value": "zebra"}, {"type": 1, "value": "fox"}],
    "pattern": [{"type": 2, "value": "f[ou]x"}],
    "group": [{"type": 2, "value": "the (f[ou]x)"}],
    "from the start": [{"type": 2, "value": "^nothing of the kind$"}, {"type": 1, "value": "fox"}],
    "full": [{"type": 3, "value": "[^f]*(fox)"}],
    "inside of a token": [{"type": 1, "value": "ox"}],
}


@pytest.mark.parametrize("triggers", LAZY.values(), ids=LAZY.keys())
def test_a_lazy_grammar_wakes_when_common_samplers_does(
    bench: Bench, triggers: list[dict[str, Any]]
) -> None:
    """Both are led to the same text by a bias on its tokens, one after the other."""
    begins = 'root ::= "fox"' if triggers[0]["value"] != "ox" else 'root ::= "ox"'
    fields = {
        "grammar": begins + ' " " [0-9]+',
        "grammar_lazy": True,
        "grammar_triggers": triggers,
        "temperature": 0,
        "seed": 1,
    }
    text = json.dumps(fields).encode()
    ours = lib.shm_sampler_new(bench.model.ptr, bench.model.ends, 256, text, len(text), ffi.NULL)
    theirs = lib.shm_reference_new(bench.model.ptr, bench.model.ends, 256, text, len(text))
    assert ours != ffi.NULL, ffi.string(lib.shm_last_error())
    assert theirs != ffi.NULL, ffi.string(lib.shm_last_error())
    wanted = bench.model.vocab.tokenize("so the fox", add_special=False) + [300] * 6
    left, right = [], []
    random = np.random.default_rng(1)
    try:
        for token in wanted:
            row = random.normal(0, 1, bench.n_vocab).astype(np.float32)
            row[token] = 50
            copy = ffi.new("float[]", bench.n_vocab)
            ffi.memmove(copy, row.tobytes(), row.nbytes)
            left.append(lib.shm_sampler_draw(ours, copy))
            ffi.memmove(lib.llama_get_logits_ith(bench.context.ptr, -1), row.tobytes(), row.nbytes)
            right.append(lib.shm_reference_draw(theirs, bench.context.ptr, -1))
    finally:
        lib.shm_sampler_free(ours)
        lib.shm_reference_free(theirs)
    assert left == right
    assert left[: len(wanted) - 6] == wanted[:-6]
    assert 300 not in left  # the grammar was awake


def test_a_lazy_grammar_waits_through_a_long_text(bench: Bench) -> None:
    """std::regex over all of it would overflow the stack."""
    fields = {
        "grammar": 'root ::= "<tool>" [0-9]+',
        "grammar_lazy": True,
        "grammar_triggers": [{"type": 2, "value": r"[\s\S]*?(<tool>)"}],
        "temperature": 0,
    }
    text = json.dumps(fields).encode()
    sampler = lib.shm_sampler_new(bench.model.ptr, bench.model.ends, 256, text, len(text), ffi.NULL)
    assert sampler != ffi.NULL
    row = ffi.new("float[]", bench.n_vocab)
    words, tool = [bench.model.vocab.tokenize(t, add_special=False) for t in (" the", "<tool>")]
    try:
        for token in words * 1_200 + tool:
            row[token] = 50.0
            assert lib.shm_sampler_draw(sampler, row) == token
            row[token] = 0.0
        piece = bench.model.vocab.token_to_piece(lib.shm_sampler_draw(sampler, row))
        assert piece.decode().isdigit()
    finally:
        lib.shm_sampler_free(sampler)
