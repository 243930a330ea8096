"""What choosing one token costs: shimmy's row sampler beside llama.cpp's common_sampler, on the same logits.

usage: .venv/bin/python bench/rows.py [--json]      (a minute; one thread, medians of CPU time)
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from shimmy.llama import Batch, Context, ContextParams, Model
from shimmy.llama._ffi import ffi, lib
from tests.support.tiny_gguf import write_model

VOCABULARIES = (32_000, 152_000)
DRAWS = 200
SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "llama.cpp's defaults": {},
    "temperature 0.7, top_p 0.9": {"temperature": 0.7, "top_p": 0.9},
    "the same, top_k 0": {"temperature": 0.7, "top_p": 0.9, "top_k": 0},
    "min_p 0.05, top_k 0": {"min_p": 0.05, "top_k": 0, "top_p": 1.0},
    "min_p 0.05, penalties, top_k 0": {
        "min_p": 0.05,
        "top_k": 0,
        "top_p": 1.0,
        "repeat_penalty": 1.1,
        "repeat_last_n": 256,
    },
    "top_n_sigma 1, top_k 0": {"top_n_sigma": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0},
    "typ_p 0.9, top_k 0": {"typ_p": 0.9, "top_k": 0, "top_p": 1.0, "min_p": 0.0},
    "penalties and DRY": {"repeat_penalty": 1.1, "repeat_last_n": 256, "dry_multiplier": 0.8},
}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    as_json = parser.parse_args().json
    rows = [row for n_vocab in VOCABULARIES for row in measure(n_vocab)]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table(title="µs of CPU for a token of a row")
    for head in ("vocabulary", "sampling", "common_sampler", "shimmy", "ratio"):
        table.add_column(head, justify="left" if head == "sampling" else "right")
    for row in rows:
        ours, theirs = row["shimmy_us"], row["common_sampler_us"]
        ratio = f"{theirs / ours:.1f} ×"
        cells = (f"{row['n_vocab']:,}", row["sampling"], f"{theirs:.0f}", f"{ours:.0f}", ratio)
        table.add_row(*cells)
    Console().print(table)


def measure(n_vocab: int) -> list[dict[str, Any]]:
    """Time every setting at one size of vocabulary."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_model(Path(folder) / "rows.gguf", n_unused=n_vocab)
        with Model.load(path) as model, Context(model, ContextParams(n_threads=1)) as context:
            context.decode(Batch.of([1]))
            return [time_both(model, context, name, SETTINGS[name]) for name in SETTINGS]


def time_both(model: Model, context: Context, name: str, setting: dict[str, Any]) -> dict[str, Any]:
    """Time both samplers on the same logits; neither is told of the other's choice."""
    n_vocab = model.vocab.n_tokens
    random = np.random.default_rng(7)
    logits = ffi.from_buffer("float[]", random.normal(0, 3, n_vocab).astype(np.float32))
    text = json.dumps(setting | {"seed": 1}).encode()
    ours = lib.shm_sampler_new(model.ptr, model.ends, 4096, text, len(text), ffi.NULL)
    theirs = lib.shm_reference_new(model.ptr, model.ends, 4096, text, len(text))
    try:
        shown = lib.llama_get_logits_ith(context.ptr, -1)

        def draw_theirs() -> None:
            ffi.memmove(shown, logits, 4 * n_vocab)
            lib.shm_reference_draw(theirs, context.ptr, -1)

        copying = median_us(lambda: ffi.memmove(shown, logits, 4 * n_vocab))
        return {
            "n_vocab": n_vocab,
            "sampling": name,
            "common_sampler_us": median_us(draw_theirs) - copying,
            "shimmy_us": median_us(lambda: lib.shm_sampler_draw(ours, logits)),
        }
    finally:
        lib.shm_sampler_free(ours)
        lib.shm_reference_free(theirs)


def median_us(draw: Callable[[], object]) -> float:
    """Return the median of the calling thread's CPU time for one call, in µs."""
    times = []
    for _ in range(DRAWS):
        began = time.thread_time_ns()
        draw()
        times.append(time.thread_time_ns() - began)
    return statistics.median(times) / 1e3


if __name__ == "__main__":
    main()
