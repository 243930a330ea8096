"""The parts of an answer, in the order in which they came."""

from __future__ import annotations

from shimmy.engine.types.event import Delta, TokenLogprob, ToolCallDelta
from shimmy.engine.types.prompt import ToolCall
from shimmy.server.dialects.parts import Parts


def call(index: int, **fields) -> Delta:
    return Delta(tool_calls=[ToolCallDelta(index=index, call=ToolCall(**fields))])


def grown(*deltas: Delta) -> Parts:
    parts = Parts()
    for delta in deltas:
        list(parts.add(delta))
    return parts


def test_pieces_of_one_kind_in_a_row_are_one_part():
    parts = grown(Delta(reasoning="a"), Delta(reasoning="b"), Delta(text="c"), Delta(text="d"))
    assert [(part.kind, part.text) for part in parts.all] == [("reasoning", "ab"), ("text", "cd")]


def test_text_after_a_call_is_a_part_of_its_own():
    parts = grown(Delta(text="a"), call(0, name="f"), Delta(text="b"))
    assert [part.kind for part in parts.all] == ["text", "call", "text"]
    assert parts.text_of("text") == "ab"


def test_a_call_keeps_its_name_and_grows_its_arguments():
    parts = grown(call(0, id="x", name="f"), call(1, name="g"), call(0, arguments="{}"))
    assert [(part.id, part.name, part.text) for part in parts.calls] == [
        ("x", "f", "{}"),
        ("", "g", ""),
    ]


def test_within_a_delta_reasoning_comes_first_and_calls_last():
    delta = Delta(text="b", reasoning="a", tool_calls=call(0, name="f").tool_calls)
    assert [part.kind for part, _ in Parts().add(delta)] == ["reasoning", "text", "call"]


def test_a_delta_without_output_makes_no_part():
    assert grown(Delta(text="", n_tokens=2)).all == []


def test_logprobs_wait_for_the_text_of_their_tokens():
    one, two, three = (TokenLogprob(i, b"x", -1.0) for i in range(3))
    parts = grown(
        Delta(reasoning="hm", logprobs=[one]),
        Delta(logprobs=[two]),
        Delta(text="é", logprobs=[three]),
    )
    assert [part.logprobs for part in parts.all] == [[], [two, three]]
