"""`Engine.connect`: the same answers as a local engine, from our server and from others."""

from __future__ import annotations

import asyncio
import json
import struct
import time

import msgspec
import pytest
from aiohttp import web

from shimmy.engine import Engine, EngineState
from shimmy.engine.types.event import Accepted, Delta, Finished
from shimmy.engine.types.prompt import (
    ChatPrompt,
    InfillPrompt,
    Message,
    TextPrompt,
    TokenPrompt,
    ToolCall,
)
from shimmy.engine.types.request import GenerateRequest
from shimmy.engine.types.sampling import SamplingParams
from shimmy.errors import (
    ConfigError,
    ContextLengthError,
    EngineClosedError,
    EngineDeadError,
    EngineLoadingError,
    InvalidRequestError,
    ModelNotFoundError,
    OverloadedError,
    RemoteError,
    UnauthorizedError,
    UnreachableError,
)
from tests.engine.ask import ask, chat, request
from tests.engine.servers import HELLO, USAGE, chunk, shimmy_server, stream, stub_server
from tests.engine.test_chat import FORCED, WEATHER, check_call
from tests.support.pictures import BLUE, PNG, png, url_of


async def test_connect_and_solo_answer_alike(options, solo: Engine) -> None:
    for suffix in ("", "/", "/v1", "/v1/"):
        async with (
            shimmy_server(options) as url,
            Engine.connect(url + suffix) as engine,
        ):
            assert engine.mode == "connect"
            assert engine.info is not None
            assert engine.info.name == "tiny"
            theirs = await engine.chat("hello", max_tokens=8, temperature=0)
            ours = await solo.chat("hello", max_tokens=8, temperature=0)
            assert type(theirs) is type(ours)
            assert theirs.text == ours.text
            assert theirs.finish_reason == ours.finish_reason
            assert theirs.usage.prompt_tokens == ours.usage.prompt_tokens
            assert theirs.usage.completion_tokens == ours.usage.completion_tokens
            assert theirs.timings.predicted_ms > 0


async def test_prompts_of_every_kind_go_through(options, solo: Engine) -> None:
    tokens = await solo.tokenize("the quick brown fox")
    async with shimmy_server(options) as url, Engine.connect(url) as engine:
        for prompt in ("the quick brown fox", TokenPrompt(tokens), chat("hi")):
            theirs = await ask(engine, prompt, max_tokens=6, ignore_eos=True)
            ours = await ask(solo, prompt, max_tokens=6, ignore_eos=True)
            assert theirs.text == ours.text
            assert theirs.end.usage.completion_tokens == 6


async def test_tools_are_called_alike(options, solo: Engine) -> None:
    async with shimmy_server(options) as url, Engine.connect(url) as engine:
        theirs = await engine.chat_with_tools("?", [WEATHER], tool_choice="required", **FORCED)
    ours = await solo.chat_with_tools("?", [WEATHER], tool_choice="required", **FORCED)
    (call,) = theirs.tool_calls
    check_call(call)
    assert call.arguments == ours.tool_calls[0].arguments
    assert theirs.finish_reason == ours.finish_reason == "tool_calls"


async def test_a_wrong_key_and_a_right_one(options) -> None:
    async with shimmy_server(options, api_keys=("secret",)) as url:
        with pytest.raises(UnauthorizedError, match="api_key"):
            async with Engine.connect(url):
                pass
        async with Engine.connect(url, api_key="secret") as engine:
            assert (await engine.chat("hi", max_tokens=1)).usage.completion_tokens == 1


async def test_our_servers_errors_come_back_as_themselves(options) -> None:
    async with shimmy_server(options) as url, Engine.connect(url) as engine:
        with pytest.raises(ContextLengthError) as caught:
            await engine.chat("word " * 5000)
        assert caught.value.n_ctx > 0
        assert caught.value.n_prompt_tokens > caught.value.n_ctx
    async with shimmy_server(options) as url, Engine.connect(url, model="gpt-9") as engine:
        with pytest.raises(ModelNotFoundError, match="gpt-9"):
            await engine.chat("hi")


async def test_leaving_the_block_cancels_the_request_in_the_server(options) -> None:
    async with shimmy_server(options) as url, Engine.connect(url) as engine:
        async with engine.generate(request(max_tokens=None, ignore_eos=True)) as generation:
            async for event in generation:
                if isinstance(event, Delta):
                    break
        deadline = time.monotonic() + 10
        while engine.n_active and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        assert engine.n_active == 0


async def test_a_stream_becomes_events() -> None:
    async with stub_server(chat=HELLO) as stub, Engine.connect(stub.url) as engine:
        events = []
        async with engine.stream_chat("hi") as generation:
            events = [event async for event in generation]
    assert [type(event) for event in events] == [Accepted, Delta, Delta, Finished]
    assert [event.text for event in events[1:3]] == ["Hel", "lo"]
    assert events[-1].reason == "stop"
    assert events[-1].last
    assert events[-1].usage.prompt_tokens == 7
    assert events[-1].usage.cached_tokens == 3
    assert stub.sent["model"] == "m"
    assert stub.sent["stream"] is True


def seen(data: bytes) -> dict:
    return {"type": "image_url", "image_url": {"url": url_of(data)}}


async def test_images_are_sent_as_data_urls_and_stay_in_the_conversation() -> None:
    turns = [Message(role="user", content="What is it?", images=[PNG, BLUE])]
    async with stub_server(chat=HELLO) as stub, Engine.connect(stub.url) as engine:
        reply = await engine.chat(turns)
        told = [seen(PNG), seen(BLUE), {"type": "text", "text": "What is it?"}]
        assert stub.sent["messages"] == [{"role": "user", "content": told}]
        assert reply.messages[0] == turns[0]
        await engine.chat([*reply.messages, Message(role="user", content="And?")])
        assert [m["content"] for m in stub.sent["messages"]] == [told, "Hello", "And?"]


async def test_an_image_between_texts_is_sent_between_them() -> None:
    messages = [Message(role="user", content="a<m>b<m>"), Message(role="tool", content="<m>")]
    prompt = ChatPrompt(messages=messages, images=[PNG, BLUE, PNG], image_mark="<m>")
    async with stub_server(chat=HELLO) as stub, Engine.connect(stub.url) as engine:
        await ask(engine, prompt)
    first, second = [message["content"] for message in stub.sent["messages"]]
    words = [{"type": "text", "text": text} for text in "ab"]
    assert first == [words[0], seen(PNG), words[1], seen(BLUE)]
    assert second == [seen(PNG)]


@pytest.mark.parametrize(
    ("images", "mark"), [([PNG], ""), ([PNG], "<n>"), ([], "<m>"), ([PNG, PNG], "<m>")]
)
async def test_images_without_their_marks_are_refused_before_they_are_sent(images, mark) -> None:
    prompt = ChatPrompt(
        messages=[Message(role="user", content="<m>")], images=images, image_mark=mark
    )
    async with stub_server(chat=HELLO) as stub, Engine.connect(stub.url) as engine:
        with pytest.raises(InvalidRequestError, match="marks") as caught:
            engine.generate(GenerateRequest(prompt=prompt))
    assert caught.value.param == "images"


async def test_a_large_image_is_sent_in_pieces() -> None:
    large = png() + bytes(3 * 1024 * 1024)
    async with stub_server(chat=HELLO) as stub, Engine.connect(stub.url) as engine:
        await engine.chat([Message(role="user", images=[large])])
    assert stub.sent["messages"][0]["content"] == [seen(large)]


async def test_a_server_that_does_not_stream_is_understood() -> None:
    message = {"role": "assistant", "content": "Hello", "reasoning_content": "Hm"}
    whole = {"choices": [{"index": 0, "message": message, "finish_reason": "length"}]}
    whole["usage"] = USAGE
    async with stub_server(chat=whole) as stub, Engine.connect(stub.url) as engine:
        reply = await engine.chat("hi")
    assert (reply.text, reply.reasoning, reply.finish_reason) == ("Hello", "Hm", "length")
    assert reply.usage.completion_tokens == 2


async def test_tool_calls_in_pieces_and_the_round_trip() -> None:
    function = {"name": "weather", "arguments": ""}
    calls = [
        chunk({"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": function}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"Rome"}'}}]}),
        chunk(finish_reason="tool_calls"),
        b"data: [DONE]\n\n",
    ]

    async def answer(request: web.Request) -> web.StreamResponse:
        sent = json.loads(await request.read())
        return await stream(request, HELLO if sent["messages"][-1]["role"] == "tool" else calls)

    async with stub_server(chat=answer) as stub, Engine.connect(stub.url) as engine:
        reply = await engine.chat_with_tools("?", [WEATHER], run=lambda _: "sunny")
    assert reply.text == "Hello"
    assert stub.sent["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"city":"Rome"}'
    assert stub.sent["messages"][2] == {
        "role": "tool",
        "content": "sunny",
        "tool_call_id": "c1",
        "name": "weather",
    }
    assert stub.sent["tools"][0]["function"]["name"] == "weather"


async def test_only_what_was_asked_for_is_sent() -> None:
    async with stub_server(chat=HELLO) as stub, Engine.connect(stub.url, model="n") as engine:
        await engine.chat("hi")
        plain = {"model", "messages", "stream", "stream_options"}
        assert stub.sent.keys() == plain
        prompt = ChatPrompt(
            messages=[Message(role="assistant", tool_calls=[ToolCall(id="1", name="f")])],
            tools=[WEATHER],
            tool_name="weather",
            json_schema={"type": "object"},
            enable_thinking=False,
        )
        sampling = SamplingParams(temperature=0.5, typ_p=0.9, logit_bias={3: -float("inf")})
        asked = GenerateRequest(
            prompt=prompt, sampling=sampling, max_tokens=3, stop=["x"], n=2, logprobs=4
        )
        async with engine.generate(asked) as generation:
            assert [event async for event in generation]
    assert stub.sent["model"] == "n"
    assert stub.sent["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert stub.sent["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert stub.sent["chat_template_kwargs"] == {"enable_thinking": False}
    assert stub.sent["logit_bias"] == {"3": -100.0}
    assert stub.sent["messages"][0]["content"] is None
    given = {key: stub.sent[key] for key in ("temperature", "typical_p", "max_tokens", "stop", "n")}
    assert given == {"temperature": 0.5, "typical_p": 0.9, "max_tokens": 3, "stop": ["x"], "n": 2}
    assert (stub.sent["logprobs"], stub.sent["top_logprobs"]) == (True, 4)


async def test_choices_and_logprobs_are_kept_apart() -> None:
    def piece(index: int, text: str) -> dict:
        content = [{"token": text, "logprob": -0.5, "bytes": None, "top_logprobs": []}]
        choice = {"index": index, "delta": {"content": text}, "logprobs": {"content": content}}
        return {"choices": [choice]}

    chunks = [
        piece(0, "a"),
        piece(1, "b"),
        piece(1, "c"),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]},
        {"choices": [{"index": 1, "delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3}},
    ]
    asked = GenerateRequest(prompt=chat("hi"), n=2, logprobs=0)
    async with (
        stub_server(chat=chunks) as stub,
        Engine.connect(stub.url) as engine,
        engine.generate(asked) as generation,
    ):
        events = [event async for event in generation]
    deltas = [event for event in events if isinstance(event, Delta)]
    assert [(delta.choice, delta.text) for delta in deltas] == [(0, "a"), (1, "b"), (1, "c")]
    assert [(d.logprobs[0].text, d.logprobs[0].logprob) for d in deltas[:1]] == [(b"a", -0.5)]
    ends = events[-2:]
    assert [(end.choice, end.reason, end.last) for end in ends] == [
        (0, "length", False),
        (1, "stop", True),
    ]
    assert [end.usage.completion_tokens for end in ends] == [1, 2]


@pytest.mark.parametrize(
    ("field", "prompt"),
    [
        ("add_special", TextPrompt("x", add_special=False)),
        ("parse_special", TextPrompt("x", parse_special=False)),
        ("extra", InfillPrompt(prefix="a", suffix="b", extra=[("f", "t")])),
        ("continue_final", ChatPrompt(messages=[], continue_final=True)),
        ("reasoning_budget", ChatPrompt(messages=[], reasoning_budget=3)),
    ],
)
async def test_what_the_api_has_no_word_for_is_refused(field, prompt) -> None:
    async with stub_server() as stub, Engine.connect(stub.url) as engine:
        with pytest.raises(InvalidRequestError) as caught:
            engine.generate(GenerateRequest(prompt=prompt))
        assert caught.value.param == field


def refused(status: int, error: object, **headers: str) -> web.Response:
    return web.json_response({"error": error}, status=status, headers=headers)


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (refused(401, {"message": "bad key"}), UnauthorizedError, "bad key"),
        (refused(403, {"message": "not yours"}), UnauthorizedError, "not yours"),
        (refused(404, {"message": "no m", "code": "model_not_found"}), ModelNotFoundError, "no m"),
        (refused(404, "model 'm' not found, try pulling it"), ModelNotFoundError, "pulling"),
        (refused(429, {"message": "slow down"}), OverloadedError, "slow down"),
        (refused(503, {"message": "Loading model"}), EngineLoadingError, "Loading"),
        (refused(503, {"message": "died", "code": "engine_dead"}), EngineDeadError, "died"),
        (refused(400, {"message": "bad n", "param": "n"}), InvalidRequestError, "bad n"),
        (
            refused(400, {"message": "long", "code": "context_length_exceeded"}),
            ContextLengthError,
            "long",
        ),
        (refused(422, {"message": "what?"}), InvalidRequestError, r"what\?"),
        (refused(500, {"message": "oops"}), RemoteError, "oops"),
        (web.Response(status=502, text="<html>"), RemoteError, "502"),
        (web.Response(text="hello"), RemoteError, "JSON"),
        ([b"data: nonsense\n\n"], RemoteError, "no chunk"),
        ([b"data: 7\n\n"], RemoteError, "no chunk"),
        ([{"choices": [7]}], RemoteError, "no chunk"),
        ([chunk({"content": "a"}), {"error": {"message": "cut off"}}], RemoteError, "cut off"),
    ],
)
async def test_errors_are_typed(reply, kind, words) -> None:
    async def answer(_request: web.Request) -> object:
        return reply

    async with stub_server(chat=answer) as stub, Engine.connect(stub.url) as engine:
        with pytest.raises(kind, match=words) as caught:
            await engine.chat("hi")
        assert type(caught.value) is kind
        assert engine.n_active == 0


async def test_retry_after_is_kept() -> None:
    reply = refused(429, {"message": "later"}, **{"Retry-After": "7"})
    async with stub_server(chat=reply) as stub, Engine.connect(stub.url) as engine:
        with pytest.raises(OverloadedError) as caught:
            await engine.chat("hi")
    assert caught.value.retry_after == 7


async def test_a_server_that_is_not_there_is_said_so() -> None:
    engine = Engine.connect("http://127.0.0.1:9")
    with pytest.raises(UnreachableError, match=r"nobody answers at http://127\.0\.0\.1:9"):
        async with engine:
            pass
    assert engine.state is EngineState.CLOSED


async def test_a_server_that_says_nothing_is_given_up() -> None:
    async def silent(_request: web.Request) -> None:
        await asyncio.sleep(60)

    async with stub_server(chat=silent) as stub, Engine.connect(stub.url, timeout=0.1) as engine:
        with pytest.raises(UnreachableError, match="said nothing"):
            await engine.chat("hi")


async def test_a_connection_that_breaks_is_said_so() -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with stub_server(chat=broken) as stub, Engine.connect(stub.url) as engine:
        with pytest.raises(UnreachableError, match="broke"):
            await engine.chat("hi")


async def test_close_ends_what_runs_and_the_server_hears_of_it() -> None:
    begun = asyncio.Event()

    async def silent(_request: web.Request) -> None:
        begun.set()
        await asyncio.sleep(60)

    async with stub_server(chat=silent) as stub:
        async with Engine.connect(stub.url) as engine:
            asking = asyncio.ensure_future(engine.chat("hi"))
            await begun.wait()
        with pytest.raises(EngineClosedError):
            await asking
        with pytest.raises(EngineClosedError):
            engine.stream_chat("hi")
        async with asyncio.timeout(10):
            while not stub.n_left:
                await asyncio.sleep(0.005)


@pytest.mark.parametrize("reply", [{"data": "none"}, {"data": [3]}, {}])
async def test_what_is_no_list_of_models_is_said_so(reply) -> None:
    async with stub_server(models=reply) as stub:
        with pytest.raises(RemoteError, match="no list of models"):
            async with Engine.connect(stub.url):
                pass


async def test_a_server_without_models_has_none_to_ask() -> None:
    async with stub_server(models={"data": []}) as stub:
        with pytest.raises(ModelNotFoundError):
            async with Engine.connect(stub.url):
                pass


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://x", "http://", "http://[", "http://h/?q"])
async def test_what_is_no_url_is_refused(url) -> None:
    with pytest.raises(ConfigError, match="URL"):
        Engine.connect(url)


async def test_the_key_is_sent_and_nothing_is_asked_before_the_start() -> None:
    async with stub_server(chat=HELLO) as stub:
        engine = Engine.connect(stub.url, api_key="k")
        assert engine.state is EngineState.NEW
        assert not stub.asked
        async with engine:
            await engine.chat("hi")
    assert {headers.get("Authorization") for headers in stub.headers} == {"Bearer k"}


async def test_questions_with_one_answer() -> None:
    vectors = {"data": [{"embedding": [3.0, 4.0]}], "usage": {"prompt_tokens": 9}}
    scores = {"results": [{"index": 1, "relevance_score": 2.5}, {"index": 0, "relevance_score": 1}]}
    replies = {
        "tokenize": {"tokens": [1, 2]},
        "embeddings": vectors,
        "rerank": scores,
    }
    async with stub_server(**replies) as stub, Engine.connect(stub.url) as engine:
        assert await engine.tokenize("x") == [1, 2]
        found = await engine.embed([TextPrompt("a"), TokenPrompt([5])])
        assert [struct.unpack("<2f", vector) for vector in found.vectors] == [
            pytest.approx((0.6, 0.8))
        ] * 2
        assert found.n_tokens == [9, 9]
        assert (await engine.rerank("q", ["a", "b"])).scores == [1.0, 2.5]
        with pytest.raises(InvalidRequestError, match="render"):
            await engine.render(chat("hi"))
        stub.replies["/tokenize"] = {"tokens": "many"}
        with pytest.raises(RemoteError, match="oddly"):
            await engine.tokenize("x")


async def test_an_event_may_come_in_any_pieces() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        text = b": comment\r\n\r\n"
        for part in HELLO:
            data = part if isinstance(part, bytes) else b"data: " + msgspec.json.encode(part)
            text += data.rstrip() + b"\r\n\r\n"
        for at in range(0, len(text), 7):
            await response.write(text[at : at + 7])
            await asyncio.sleep(0)
        return response

    async with stub_server(chat=answer) as stub, Engine.connect(stub.url) as engine:
        assert (await engine.chat("hi")).text == "Hello"
