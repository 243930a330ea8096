"""Answers of /v1/responses: the rules of the order and the numbers of events."""

from __future__ import annotations

import pytest

from shimmy.engine.types.event import Candidate, Delta, TokenLogprob, Usage
from shimmy.errors import ShimmyError
from shimmy.server.dialects.types import Output
from shimmy.server.errors import Problem
from shimmy.server.response_store import ResponseStore
from shimmy.server.responses import Responses
from tests.server.fakes import finished
from tests.server.responses_support import (
    CALLS,
    HEAD,
    asked,
    assembled,
    call,
    events,
    streamed,
    whole,
)

MIXED = {
    "text": [Delta(text="Hel"), Delta(text="lo")],
    "nothing": [],
    "held back": [Delta(text="", n_tokens=3)],
    "reasoning only": [Delta(reasoning="hm")],
    "reasoning and a call": CALLS,
    "all in one delta": [Delta(reasoning="a", text="b", tool_calls=[call(0, name="f")])],
    "text after a call": [*CALLS, Delta(text="Done.")],
    "two calls": [*CALLS, Delta(tool_calls=[call(1, id="c", name="g", arguments="{}")])],
    "a call cut off": [Delta(tool_calls=[call(0, id="x", name="f", arguments='{"a":[1')])],
}


@pytest.mark.parametrize("deltas", MIXED.values(), ids=MIXED)
@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls"])
def test_streaming_equals_non_streaming(deltas, reason):
    end = finished(reason, cached=2)
    stream = streamed(deltas, end)
    response = events(stream)[-1]["response"]
    assert response == whole(deltas, end)
    assert assembled(stream) == response["output"]


@pytest.mark.parametrize("deltas", MIXED.values(), ids=MIXED)
def test_rule_sequence_numbers_are_monotonic_from_0(deltas):
    numbers = [event["sequence_number"] for event in events(streamed(deltas))]
    assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize("deltas", MIXED.values(), ids=MIXED)
def test_rule_indexes_and_ids_on_all_events_of_items_and_content(deltas):
    for event in events(streamed(deltas)):
        kind = event["type"]
        if "item" in event or "item_id" in event:
            assert isinstance(event["output_index"], int)
        if "content_part" in kind or "_text." in kind:
            assert event["content_index"] == 0
            assert event["item_id"]
        if "arguments" in kind:
            assert event["item_id"]
        if "output_text" in kind:
            assert event["logprobs"] == []


@pytest.mark.parametrize("deltas", MIXED.values(), ids=MIXED)
def test_rule_ids_stay_the_same_from_added_to_done(deltas):
    ids: dict[int, set] = {}
    for event in events(streamed(deltas)):
        if "output_index" in event:
            place = ids.setdefault(event["output_index"], set())
            place.add(event.get("item_id") or event["item"]["id"])
    assert all(len(found) == 1 for found in ids.values())
    responses = [e["response"]["id"] for e in events(streamed(deltas)) if "response" in e]
    assert set(responses) == {"resp_1"}


def test_rule_response_created_first_with_output_created_at_and_model():
    first = events(streamed([]))[0]
    assert first["type"] == "response.created"
    assert first["response"]["output"] == []
    assert (first["response"]["created_at"], first["response"]["model"]) == (1700000000, "tiny")


def test_rule_incomplete_where_it_is():
    end = finished("length")
    *_, item, last = events(streamed(MIXED["text"], end))
    assert item["item"]["status"] == "incomplete"
    assert last["type"] == "response.incomplete"
    assert last["response"]["status"] == "incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


def test_only_the_item_that_was_cut_is_incomplete():
    items = whole([Delta(text="a"), Delta(tool_calls=[call(0, name="f")])], finished("length"))
    assert [item["status"] for item in items["output"]] == ["completed", "incomplete"]


def test_rule_usage_has_all_counts():
    end = finished()
    usage = Usage(prompt_tokens=9, completion_tokens=7, cached_tokens=4, reasoning_tokens=6)
    end = type(end)(reason="stop", usage=usage, timings=end.timings)
    assert whole([], end)["usage"] == {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 6},
        "total_tokens": 16,
    }


def test_what_was_asked_is_repeated():
    schema = {"type": "object"}
    form = {"type": "json_schema", "name": "x", "schema": schema}
    tool = {"type": "function", "name": "f", "parameters": schema}
    response = whole(
        [],
        tools=[tool],
        tool_choice={"type": "function", "name": "f"},
        text={"format": form},
        metadata={"a": "b"},
        reasoning={"effort": "low"},
        parallel_tool_calls=False,
        top_p=0.5,
        store=False,
    )
    assert response["tools"] == [{**tool, "description": None, "strict": True}]
    assert response["tool_choice"] == {"type": "function", "name": "f"}
    assert response["text"]["format"] == {**form, "description": None, "strict": True}
    assert response["metadata"] == {"a": "b"}
    assert response["reasoning"] == {"effort": "low", "summary": None}
    assert (response["parallel_tool_calls"], response["top_p"]) == (False, 0.5)
    assert response["store"] is False


# log-probabilities


def scored(text: bytes) -> TokenLogprob:
    return TokenLogprob(1, text, -0.5, [Candidate(2, b"x", -1.0)])


def test_logprobs_stand_at_the_text_of_their_tokens():
    deltas = [
        Delta(reasoning="hm", logprobs=[scored(b"hm")]),
        Delta(logprobs=[scored(b"\xc3")]),
        Delta(text="é", logprobs=[scored(b"\xa9")]),
        Delta(text="!", logprobs=[scored(b"!")]),
    ]
    fields = {"include": ["message.output_text.logprobs"], "top_logprobs": 1}
    stream = streamed(deltas, **fields)
    found = [e["logprobs"] for e in events(stream) if e["type"] == "response.output_text.delta"]
    assert [[entry["bytes"] for entry in delta] for delta in found] == [[[195], [169]], [[33]]]
    assert found[1][0] == {
        "token": "!",
        "bytes": [33],
        "logprob": -0.5,
        "top_logprobs": [{"token": "x", "bytes": [120], "logprob": -1.0}],
    }
    response = whole(deltas, **fields)
    assert response["output"][1]["content"][0]["logprobs"] == [*found[0], *found[1]]
    assert events(stream)[-1]["response"] == response


# errors

PROBLEM = Problem(status=503, type="unavailable_error", code="engine_dead", message="died")


def test_rule_an_error_is_raised_by_sdks_and_followed_by_response_failed():
    store = ResponseStore()
    dialect = Responses(store)
    encoder = dialect.stream(asked(dialect), HEAD)
    encoder.opening()
    encoder.delta(Delta(text="Hel"))
    said, last = events(encoder.error(PROBLEM))
    words = {"code": "engine_dead", "message": "died", "param": None}
    assert said == {
        "type": "error",
        "sequence_number": 5,
        **words,
        "error": {"type": "unavailable_error", **words},
    }
    response = last["response"]
    assert (last["type"], response["status"]) == ("response.failed", "failed")
    assert response["error"] == {"code": "server_error", "message": "died"}
    assert response["output"][0]["content"][0]["text"] == "Hel"
    assert store.get("resp_1").response == response


def test_an_error_before_the_response_is_an_error_alone():
    dialect = Responses(ResponseStore())
    (said,) = events(dialect.stream(asked(dialect), HEAD).error(PROBLEM))
    assert said["type"] == "error"


def test_going_back_to_an_earlier_call_is_refused_rather_than_sent_out_of_order():
    dialect = Responses(ResponseStore())
    encoder = dialect.stream(asked(dialect), HEAD)
    encoder.delta(Delta(tool_calls=[call(0, name="f"), call(1, name="g")]))
    with pytest.raises(ShimmyError, match="earlier"):
        encoder.delta(Delta(tool_calls=[call(0, arguments="{}")]))


# keeping


@pytest.mark.parametrize("answer", [streamed, whole])
def test_a_response_is_kept(answer):
    store = ResponseStore()
    answer(MIXED["text"], kept_in=store)
    assert store.get("resp_1").response["status"] == "completed"


@pytest.mark.parametrize("stream", [True, False])
def test_store_false_keeps_nothing(stream):
    store = ResponseStore()
    dialect = Responses(store)
    request = asked(dialect, store=False)
    if stream:
        dialect.stream(request, HEAD).finish(finished())
    else:
        output = Output()
        output.choices[0].finished = finished()
        dialect.encode(request, HEAD, output)
    assert len(store) == 0


def test_reasoning_can_be_sealed_for_clients_that_keep_no_text():
    sealed = whole([Delta(reasoning="hm")], include=["reasoning.encrypted_content"])["output"][0]
    del sealed["content"]
    dialect = Responses(ResponseStore())
    back = asked(dialect, input=[sealed, {"role": "user", "content": "Go on"}])
    assert back.request.prompt.messages[1].reasoning == "hm"
