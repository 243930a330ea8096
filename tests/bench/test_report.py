"""bench/run's report: goals are for llama-server as released, ceilings are what was measured beside it."""

# ruff: noqa: RUF001
from __future__ import annotations

import pytest

PINNED, PATCHED, SHIMMY = "llama-server", "patched llama-server", "shimmy"
BATCHED, SINGLE = "llama-batched-bench", "llama-bench"


@pytest.fixture
def measured(bench):
    """Return a function that makes the document of one work from each side's rates."""
    report, work, document = bench("report"), bench("work"), bench("document")

    def make(sides, ceilings=(), *, goal=3.5, ceiling=32, **goals):
        rate = work.Metric(
            name="rate", unit="tok/s", of=lambda seen: seen["rate"], higher=True, goal=goal
        )
        one = work.Work(name="w", title="t", n=1, c=1, metrics=(rate,), ceiling=ceiling, **goals)
        bed = work.Bed(name="b", model="m", n_parallel=1, n_ctx=64, works=(one,))
        found = report.Report(
            command="bench/run", rounds=1, sides=tuple(sides), sources=dict.fromkeys(sides, "there"),
            machine={"machine": "a"}, n_threads=2,
        )  # fmt: skip
        for side, value in sides.items():
            seen = {"rate": value, "tokens": 1, "ok": 1, "cpu_seconds": 1.0, "prompt_tokens": 37}
            found.runs.append(
                report.Run(bed=bed, work=one, side=side, figures={"rate": value}, seen=seen)
            )
        for program, value in dict(ceilings).items():
            found.ceilings["b", ceiling, program] = [value]
        return document.Document(found)

    return make


def test_a_goal_is_held_against_the_release_and_both_ratios_are_shown(measured):
    document = measured({PINNED: 1000.0, PATCHED: 2000.0, SHIMMY: 3600.0})
    text = document.as_markdown()
    assert "| 1,000 | 2,000 | 3,600 | 3.60 × | 1.80 × | ≥ 3.50 ×: reached |" in text
    assert (
        "| work | figure | llama-server | patched llama-server | shimmy | × llama-server |" in text
    )
    assert "**The goals are held against it.**" in text
    assert "`cpu-attention-shared-cells`" in text
    assert "All goals were reached" in text
    [metric] = [one["metrics"]["rate"] for one in document.report.as_json()["works"]]
    assert metric["ratio"] == 3.6
    assert metric["ratio_patched"] == 1.8
    assert metric["reached"]


def test_without_the_release_no_goal_is_held(measured):
    text = measured({PATCHED: 1000.0, SHIMMY: 4000.0}).as_markdown()
    assert "4.00 × | ≥ 3.50 ×: not measured |" in text
    assert "none is held here" in text
    assert "4.00 × patched llama-server's: the goal is ≥ 3.50 × and was not measured" in text
    assert ": reached" not in text


def test_what_was_not_measured_is_not_called_reached(measured):
    text = measured({PINNED: 1000.0}, {BATCHED: 4000.0}, ceiling_goal=0.75).as_text()
    assert "≥ 3.50 ×: not measured" in text
    assert "75 %: not measured" in text
    assert "All goals were reached" not in text
    assert "`w`: an unknown share of llama-batched-bench's rate, the goal is 75 %" in text
    assert "All goals were reached" not in measured({}).as_text()


def test_without_the_patched_server_its_columns_are_left_out(measured):
    text = measured({PINNED: 1000.0, SHIMMY: 3000.0}).as_markdown()
    assert "| 1,000 | 3,000 | 3.00 × | ≥ 3.50 ×: **not reached** |" in text
    assert PATCHED not in text


@pytest.mark.parametrize(
    ("batched", "unified", "said"),
    [
        (2600.0, 2500.0, " (above the ceiling: llama-batched-bench is 2.60 × llama-server)"),
        # the highest of what was measured is the ceiling
        (2600.0, 2700.0, " (above the ceiling: llama-batched-bench -kvu is 2.70 × llama-server)"),
        (3600.0, 2500.0, ""),
    ],
)
def test_a_goal_above_what_was_measured_as_the_ceiling_says_so(measured, batched, unified, said):
    sides = {PINNED: 1000.0, PATCHED: 2000.0, SHIMMY: 2500.0}
    ceilings = {BATCHED: batched, f"{BATCHED} -kvu": unified}
    text = measured(sides, ceilings).as_text()
    assert f"≥ 3.50 ×: **not reached**{said} |" in text
    assert (
        f"2.50 × llama-server's, 1.25 × patched llama-server's: the goal is ≥ 3.50 ×{said}" in text
    )


def test_a_goal_that_was_reached_has_no_ceiling(measured):
    text = measured({PINNED: 1000.0, SHIMMY: 3600.0}, {BATCHED: 3400.0}).as_text()
    assert "above the ceiling" not in text


def test_a_rate_that_a_server_was_above_is_no_ceiling(measured):
    sides = {PINNED: 1000.0, PATCHED: 2000.0, SHIMMY: 1900.0}
    assert "**not reached** |" in measured(sides, {BATCHED: 1950.0}).as_text()


@pytest.mark.parametrize(("ours", "said"), [(99.0, "reached"), (97.0, "**not reached**")])
def test_one_stream_is_held_against_llama_bench(measured, ours, said):
    sides = {PINNED: 90.0, PATCHED: 90.0, SHIMMY: ours}
    ceilings = {BATCHED: 110.0, SINGLE: 100.0}
    text = measured(sides, ceilings, goal=None, ceiling=1, single_goal=0.98).as_markdown()
    assert f"| llama-bench, `w` | 100 | – | 90 % | 90 % | {ours:.0f} % | 98 %: {said} |" in text
    assert (
        f"| llama-batched-bench, `w` | 110 | – | 82 % | 82 % | {100 * ours / 110:.0f} % |  |"
        in text
    )
    assert "The prompts of `w` have 37 tokens" in text
    assert "`-p 0 -n 128 -t 2 -fa 1`" in text
    assert ("97 % of llama-bench's rate, the goal is 98 %" in text) == (ours < 98)


def test_a_share_is_held_against_the_released_program_where_it_was_measured(measured):
    sides = {PINNED: 90.0, PATCHED: 90.0, SHIMMY: 99.0}
    ceilings = {BATCHED: 110.0, SINGLE: 105.0, f"{SINGLE} as released": 100.0}
    text = measured(sides, ceilings, goal=None, ceiling=1, single_goal=0.98).as_markdown()
    assert "| llama-bench, `w` | 105 | – | 86 % | 86 % | 94 % |  |" in text
    assert "| llama-bench as released, `w` | 100 | – | 90 % | 90 % | 99 % | 98 %: reached |" in text
    assert "the goal is 98 %" not in text
