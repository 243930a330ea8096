"""bench/moe: what it writes loads, and what it reports is what it was given. `ci/backends` runs it whole."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from shimmy.llama import Model
from shimmy.worker.placed import is_expert
from tests.llama.test_shared_cells import lone_row

BENCH = Path(__file__).parents[2] / "bench"


def test_a_mixture_in_the_real_formats_loads(bench, tmp_path):
    path = tmp_path / "tiny.gguf"
    mixtures = bench("mixtures")
    mixtures.write(path, "gpt-oss-tiny")
    with Model.load(path) as model:
        shape = mixtures.MIXTURES["gpt-oss-tiny"]
        assert model.n_layer == shape.n_layer
        assert model.meta("gpt-oss.expert_count") == str(shape.n_expert)
        assert model.meta("gpt-oss.expert_used_count") == str(shape.n_expert_used)
        experts = sum(tensor.bytes for tensor in model.tensors() if is_expert(tensor.name))
    # 17 bytes for 32 weights, biases in 32 bits
    n_weights = shape.n_layer * shape.n_expert * 3 * shape.n_embd * shape.n_ff
    n_biases = shape.n_layer * shape.n_expert * (2 * shape.n_ff + shape.n_embd)
    assert experts == n_weights // 32 * 17 + 4 * n_biases


@pytest.mark.parametrize(
    ("name", "n_params"), [("gpt-oss-20b", 20_914_757_184), ("olmoe-7b", 6_919_161_856)]
)
def test_the_shapes_are_the_real_ones(bench, name, n_params):
    """The published numbers of parameters, to the last one."""
    mixtures = bench("mixtures")
    sizes = []
    for dims, _ in mixtures._tensors(mixtures.MIXTURES[name]).values():
        size = 1
        for n in dims:
            size *= n
        sizes.append(size)
    assert sum(sizes) == n_params


def level(moe_report, n_cpu_moe: int, *, mib: int, rate: float):
    streamed, llama_bench = sys.modules["streamed"], sys.modules["llama_bench"]
    timed = [
        streamed.Timed(first_ms=20.0 + i, prompt_rate=500.0, rate=rate + i, n_tokens=16)
        for i in (-1, 0, 1, -2, 2)
    ]
    part = {"weights": mib << 20, "kv": 0, "compute": 0}
    return moe_report.Level(
        model="m", n_layer=4, n_cpu_moe=n_cpu_moe, driver_mib=mib + 300.0, timed=timed,
        placement=[{"device": "CUDA0", **part}, {"device": "CPU", **part}],
        bench=llama_bench.Rates(prompt=[510.0], generation=[rate / 0.98]),
    )  # fmt: skip


def test_the_report_has_medians_spread_and_ratio_and_stays_between_its_marks(bench, tmp_path):
    moe_report = bench("moe_report")
    run = moe_report.Run(
        command="bench/moe", machine={"machine": "a"}, devices=["a GPU"], n_prompt=512, n_tokens=128,
        n_runs=5,
        levels=[level(moe_report, 0, mib=1000, rate=80.0), level(moe_report, 4, mib=250, rate=20.0)],
    )  # fmt: skip
    document = tmp_path / "moe.md"
    document.write_text(f"before\n{moe_report.BEGIN}\nold\n{moe_report.END}\nafter\n")
    moe_report.write(document, run)
    text = document.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "| none | 1,300 | 1,000 | 20 (18–22) | 500 (500–500) | 80 (78–82) |" in text  # noqa: RUF001
    assert "| 4 of 4 layers | 550 | 250 |" in text
    assert "75.0% less GPU memory by ggml's books, 57.7% less by the driver" in text
    assert "at 4.00 × the time for each token" in text  # noqa: RUF001
    assert "The lowest ratio to llama-bench is 0.98; the goal is 0.97: reached." in text


def test_the_document_has_the_marks_and_says_what_was_not_run(bench):
    moe_report = bench("moe_report")
    document = (BENCH.parent / "docs/moe.md").read_text(encoding="utf-8")
    part = document.partition(moe_report.BEGIN)[2].partition(moe_report.END)[0]
    assert part.strip()
    # until bench/moe has written there, in so many words
    assert "Measured on" in part or "Not yet run" in part


def test_sinks_count_once_however_a_lone_row_is_shared_out(bench, tmp_path):
    path = tmp_path / "tiny.gguf"
    bench("mixtures").write(path, "gpt-oss-tiny")
    with Model.load(path) as model:
        alone = lone_row(model, n_threads=1, n_prompt=700)
        spread = np.abs(alone).max()
        for before, amid, after in ((700, 0, 700), (0, 900, 0), (0, 0, 1000)):
            shared = lone_row(
                model, before=before, amid=amid, after=after, n_threads=3, n_prompt=700
            )
            assert np.abs(shared - alone).max() < 0.02 * spread
