"""What the official SDKs require of OpenAI's endpoints, a test for each rule.

C and J are numbers of probes with the Python and the JavaScript client; what breaks without the rule
stands beside it.
"""

from __future__ import annotations

import json

import openai
import pytest

from shimmy import errors
from shimmy.engine.types.event import Accepted, Delta, ToolCallDelta
from shimmy.engine.types.prompt import ToolCall
from tests.server.fakes import FakePool, finished

TOOLS = [{"type": "function", "function": {"name": name}} for name in ("f", "g")]


def piece(index: int, **call: str) -> Delta:
    return Delta(tool_calls=[ToolCallDelta(index=index, call=ToolCall(**call))])


def two_calls(_request):
    return [
        Accepted(5),
        Delta(text="Let me see."),
        piece(0, id="call_0", name="f"),
        piece(0, arguments='{"a":'),
        piece(0, arguments="1}"),
        piece(1, id="call_1", name="g", arguments="{}"),
        finished("tool_calls"),
    ]


def read(text: str) -> list[str]:
    """Return what stands behind each `data: `."""
    return [
        line.removeprefix("data: ")
        for line in text.split("\n")
        if line and not line.startswith(":")
    ]


async def stream_of(server, **fields) -> list[dict]:
    text = await (await server.chat(stream=True, **fields)).text()
    *chunks, done = read(text)
    assert done == "[DONE]"
    return [json.loads(chunk) for chunk in chunks]


def pieces_of(chunks: list[dict]) -> list[dict]:
    return [
        piece for c in chunks for x in c["choices"] for piece in x["delta"].get("tool_calls", [])
    ]


async def test_id_created_and_model_stay_the_same(server):
    chunks = await stream_of(server, stream_options={"include_usage": True})
    assert len({(c["id"], c["created"], c["model"], c["object"]) for c in chunks}) == 1


async def test_j26_the_first_delta_has_the_role(server):
    """Else openai-js: missing role for choice 0."""
    first = (await stream_of(server))[0]["choices"][0]
    assert first == {
        "index": 0,
        "delta": {"role": "assistant", "content": ""},
        "finish_reason": None,
    }


async def test_j25_the_last_delta_is_empty_and_has_the_reason(server):
    """Else openai-js: missing finish_reason."""
    last = (await stream_of(server))[-1]["choices"][0]
    assert (last["delta"], last["finish_reason"]) == ({}, "stop")


async def test_c6_every_piece_of_a_call_has_its_index(start):
    """Else openai-py: TypeError."""
    pieces = pieces_of(await stream_of(await start(two_calls), tools=TOOLS))
    assert [each["index"] for each in pieces] == [0, 0, 0, 1]


async def test_c7_c8_id_type_and_name_come_with_the_first_piece_only(start):
    """Repeated ids are put together: call_1call_1; without a type no events of arguments come."""
    pieces = pieces_of(await stream_of(await start(two_calls), tools=TOOLS))
    assert [(set(each), set(each["function"])) for each in pieces] == [
        ({"index", "id", "type", "function"}, {"name", "arguments"}),
        ({"index", "function"}, {"arguments"}),
        ({"index", "function"}, {"arguments"}),
        ({"index", "id", "type", "function"}, {"name", "arguments"}),
    ]


async def test_ids_of_calls_differ_from_answer_to_answer(start):
    """A conversation may hold several answers with calls: results are matched by id."""
    server = await start(two_calls)
    ids = [
        call["id"]
        for _ in range(2)
        for call in (await (await server.chat(tools=TOOLS)).json())["choices"][0]["message"][
            "tool_calls"
        ]
    ]
    assert len(set(ids)) == 4


async def test_c3_the_usage_comes_last(server):
    """Usage that comes earlier is lost."""
    *before, last = await stream_of(server, stream_options={"include_usage": True})
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 8)
    assert all(chunk["usage"] is None for chunk in before)


async def test_without_being_asked_no_usage_is_sent(server):
    assert all("usage" not in chunk for chunk in await stream_of(server))


async def test_c11_an_error_in_mid_stream_is_an_object(start):
    """An error that is a string loses its message."""
    server = await start(lambda _: [Accepted(1), Delta(text="a"), 0.01, errors.DecodeError("no")])
    last = read(await (await server.chat(stream=True)).text())[-1]
    assert set(json.loads(last)["error"]) == {"message", "type", "param", "code"}


async def test_c12_comments_do_no_harm(start):
    server = await start(
        lambda _: [Accepted(1), 0.05, Delta(text="a"), finished()], keep_alive=0.01
    )
    async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="none") as client:
        messages = [{"role": "user", "content": "Hi"}]
        async with client.chat.completions.stream(model="tiny", messages=messages) as stream:
            answer = await stream.get_final_completion()
    assert answer.choices[0].message.content == "a"


async def test_c13_every_line_is_json_whatever_the_text(start):
    """Broken JSON is a crash of the client."""
    text = 'a\n\r\u2028\x00"\\\ud7ff data: [DONE]\n\ndata: x'
    server = await start(lambda _: [Accepted(1), Delta(text=text), finished()])
    chunks = await stream_of(server)
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == text


@pytest.mark.parametrize("stream", [False, True])
async def test_j5_the_reason_is_tool_calls_when_calls_were_made(start, stream):
    """Else agents' loops end early."""
    server = await start(two_calls)
    if stream:
        choice = (await stream_of(server, tools=TOOLS))[-1]["choices"][0]
    else:
        choice = (await (await server.chat(tools=TOOLS)).json())["choices"][0]
    assert choice["finish_reason"] == "tool_calls"


async def test_completions_have_no_named_events_and_one_object_per_step(server):
    text = await (await server.post("/v1/completions", {"prompt": "Hi", "stream": True})).text()
    *chunks, done = read(text)
    assert done == "[DONE]"
    for chunk in map(json.loads, chunks):
        assert chunk["object"] == "text_completion"
        (choice,) = chunk["choices"]
        assert set(choice) == {"text", "index", "logprobs", "finish_reason"}


FAULTS = [
    ("/v1/chat/completions", b"{"),
    ("/v1/chat/completions", b'{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}'),
    ("/v1/chat/completions", b'{"messages":[{"role":"user","content":"Hi"}],"n":0}'),
    ("/v1/completions", b'{"prompt":[]}'),
    ("/v1/embeddings", b'{"input":[]}'),
    ("/v1/embeddings", b'{"input":"' + b"word " * 101 + b'"}'),
    ("/v1/rerank", b'{"query":"unfit","documents":["a"]}'),
    ("/tokenize", b"5"),
]


@pytest.mark.parametrize(("path", "raw"), FAULTS)
async def test_a_fault_of_the_client_is_a_4xx_with_openais_four_words(server, path, raw):
    """SDKs send 408, 409, 429 and every 5xx again."""
    response = await server.post(path, data=raw)
    assert response.status in {400, 404}
    assert set((await response.json())["error"]) >= {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("error", "n_sent"),
    [
        (errors.InvalidRequestError("no"), 1),
        (errors.ContextLengthError(10, 5), 1),
        (errors.ModelNotFoundError("x", []), 1),
        (errors.ModelLoadError("no"), 1),
        (errors.OverloadedError("full"), 2),
        (errors.EngineDeadError("died"), 2),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_only_what_can_succeed_is_sent_again(start, caplog, error, n_sent):
    caplog.set_level("INFO", "shimmy.access")
    server = await start(pool=FakePool(error=error))
    async with openai.AsyncOpenAI(
        base_url=server.url + "/v1", api_key="none", max_retries=1
    ) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await client.embeddings.create(model="tiny", input="a")
    assert sum(record.name == "shimmy.access" for record in caplog.records) == n_sent
    assert caught.value.code == error.code


async def test_b1_b2_embeddings_come_as_the_client_wants_them(server):
    async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="none") as client:
        for fields in ({}, {"encoding_format": "float"}, {"dimensions": 2}):
            answer = await client.embeddings.create(model="tiny", input=["a", "b"], **fields)
            assert [each.index for each in answer.data] == [0, 1]
            assert answer.data[0].embedding[:2] == pytest.approx([0.6, 0.8])
            assert answer.usage.prompt_tokens == 2
