"""Several choices and several prompts: who gets which number, what is counted, what is streamed."""

from __future__ import annotations

import asyncio
import json

import pytest

from shimmy import errors
from shimmy.engine.types.event import (
    Accepted,
    Candidate,
    Delta,
    Finished,
    PromptScored,
    Timings,
    TokenLogprob,
    Usage,
)
from shimmy.engine.types.prompt import TextPrompt, TokenPrompt

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
CHAT_BODY = {"messages": [{"role": "user", "content": "Hi"}]}
BODIES = {CHAT: CHAT_BODY, TEXT: {"prompt": "Hi"}}


def scored(text: str, logprob: float | None = -1.0) -> TokenLogprob:
    other = Candidate(1, b"?", -3.0)
    return TokenLogprob(0, text.encode(), logprob, [] if logprob is None else [other])


def end(choice: int = 0, *, n_tokens: int, last: bool, prompt: int = 5) -> Finished:
    return Finished(
        reason="stop",
        usage=Usage(
            prompt_tokens=prompt,
            completion_tokens=n_tokens,
            # all but the first choice find the prompt computed
            cached_tokens=prompt if choice else 2,
            reasoning_tokens=1,
        ),
        timings=Timings(queue_ms=1.0, prompt_ms=10.0, predicted_ms=20.0 + choice),
        choice=choice,
        last=last,
    )


def play(request):
    """Choice i says i + 1 words, the later ones first; with their log-probabilities if asked for."""
    name = request.prompt.text if isinstance(request.prompt, TextPrompt) else "chat"
    yield Accepted(5)
    if request.prompt_logprobs is not None:
        yield PromptScored([scored(name, None)])
    for word in range(request.n):
        for choice in reversed(range(word, request.n)):
            text = f"{name}{choice}.{word} "
            logprobs = [scored(text, -1.0 / (choice + 1))] if request.logprobs is not None else []
            yield Delta(text=text, choice=choice, logprobs=logprobs)
    for choice in range(request.n):
        yield end(choice, n_tokens=choice + 1, last=choice == request.n - 1)


def said(name: str, choice: int) -> str:
    return "".join(f"{name}{choice}.{word} " for word in range(choice + 1))


def chunks_of(text: str) -> list[dict]:
    *blocks, done = text.strip().split("\n\n")
    assert done == "data: [DONE]"
    return [json.loads(block.removeprefix("data: ")) for block in blocks if block[0] != ":"]


def assemble(chunks: list[dict]) -> dict:
    """Put a stream together as clients do."""
    choices: dict[int, dict] = {}
    usage = None
    for chunk in chunks:
        usage = chunk.get("usage") or usage
        for part in chunk["choices"]:
            choice = choices.setdefault(
                part["index"], {"text": "", "finish_reason": None, "logprobs": None}
            )
            choice["text"] += part.get("text") or part.get("delta", {}).get("content") or ""
            choice["finish_reason"] = part["finish_reason"] or choice["finish_reason"]
            for name, values in (part.get("logprobs") or {}).items():
                logprobs = choice["logprobs"] = choice["logprobs"] or {}
                logprobs[name] = logprobs.get(name, []) + values if values is not None else None
    return {"choices": choices, "usage": usage}


def whole(body: dict) -> dict:
    return {
        "choices": {
            choice["index"]: {
                "text": choice["text"] if "text" in choice else choice["message"]["content"],
                "finish_reason": choice["finish_reason"],
                "logprobs": choice["logprobs"],
            }
            for choice in body["choices"]
        },
        "usage": body["usage"],
    }


OPTIONS = [
    (CHAT, {}),
    (CHAT, {"n": 3}),
    (CHAT, {"logprobs": True}),
    (CHAT, {"n": 3, "logprobs": True, "top_logprobs": 1}),
    (TEXT, {}),
    (TEXT, {"n": 3}),
    (TEXT, {"logprobs": 1}),
    (TEXT, {"echo": True}),
    (TEXT, {"echo": True, "logprobs": 1, "n": 2}),
    (TEXT, {"prompt": ["a", "b", "c"], "n": 2}),
    (TEXT, {"prompt": ["a", "b"], "n": 2, "logprobs": 0, "echo": True}),
]


@pytest.mark.parametrize(("path", "fields"), OPTIONS, ids=str)
async def test_streaming_equals_one_piece(start, path, fields):
    server = await start(play)
    body = {**BODIES[path], **fields}
    in_one = await (await server.post(path, body)).json()
    options = {"stream": True, "stream_options": {"include_usage": True}}
    streamed = await (await server.post(path, {**body, **options})).text()
    assert assemble(chunks_of(streamed)) == whole(in_one)


async def test_n_choices_in_the_order_of_their_numbers(start):
    server = await start(play)
    body = await (await server.chat(n=3)).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert [choice["message"]["content"] for choice in body["choices"]] == [
        said("chat", i) for i in range(3)
    ]


async def test_usage_counts_the_prompt_once_and_every_choice(start):
    server = await start(play)
    body = await (await server.chat(n=3)).json()
    assert body["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 6,
        "total_tokens": 11,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    assert body["timings"]["predicted_n"] == 6
    assert body["timings"]["predicted_ms"] == 22.0


async def test_c14_the_first_delta_of_choice_0_comes_before_that_of_choice_1(start):
    """And J26: the first delta of each choice has the role."""
    server = await start(play)
    chunks = chunks_of(await (await server.chat(n=3, stream=True)).text())
    first = [chunk["choices"][0] for chunk in chunks[:3]]
    assert [choice["index"] for choice in first] == [0, 1, 2]
    assert all(choice["delta"]["role"] == "assistant" for choice in first)


async def test_j25_every_choice_has_a_finish_reason(start):
    server = await start(play)
    chunks = chunks_of(await (await server.chat(n=3, stream=True)).text())
    ended = [c["choices"][0]["index"] for c in chunks if c["choices"][0]["finish_reason"]]
    assert ended == [0, 1, 2]


async def test_c3_the_usage_chunk_is_the_last(start):
    server = await start(play)
    options = {"include_usage": True}
    text = await (await server.chat(n=2, stream=True, stream_options=options)).text()
    *chunks, last = chunks_of(text)
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 3)
    assert all(chunk["usage"] is None for chunk in chunks)


async def test_several_prompts_have_their_choices_one_after_the_other(start):
    server = await start(play)
    body = await (await server.post(TEXT, {"prompt": ["a", "b"], "n": 2})).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
    assert [choice["text"] for choice in body["choices"]] == [
        said("a", 0),
        said("a", 1),
        said("b", 0),
        said("b", 1),
    ]
    assert body["usage"]["prompt_tokens"] == 10
    assert body["usage"]["completion_tokens"] == 6
    assert body["usage"]["prompt_tokens_details"]["cached_tokens"] == 4


async def test_several_prompts_run_side_by_side(start):
    met = asyncio.Barrier(2)

    def meet(request):
        yield Accepted(1)
        event = asyncio.Event()
        asyncio.create_task(met.wait()).add_done_callback(lambda _: event.set())
        yield event
        yield end(n_tokens=1, last=True)

    server = await start(meet)
    async with asyncio.timeout(10):
        assert (await server.post(TEXT, {"prompt": ["a", "b"]})).status == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_a_fault_of_one_prompt_ends_the_others(start, stream):
    def fail(request):
        yield Accepted(1)
        if request.prompt.text == "b":
            yield 0.01
            yield errors.DecodeError("no")
            return
        while True:
            yield Delta(text="x")
            yield 0.002

    server = await start(fail)
    response = await server.post(TEXT, {"prompt": ["a", "b"], "stream": stream})
    assert response.status == (200 if stream else 500)
    assert "decode_failed" in await response.text()
    await server.engine.gone()
    assert server.engine.n_active == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_the_prompt_that_is_too_long_is_named(start, stream):
    def refuse(request):
        if request.prompt.text == "b":
            return [errors.ContextLengthError(500, 100)]
        return play(request)

    server = await start(refuse)
    response = await server.post(TEXT, {"prompt": ["a", "b"], "stream": stream})
    error = (await response.json())["error"]
    assert (response.status, error["param"]) == (400, "prompt[1]")
    assert (error["code"], error["type"]) == (
        "context_length_exceeded",
        "exceed_context_size_error",
    )
    assert server.engine.n_active == 0


async def test_a_field_is_called_what_the_body_calls_it(start):
    error = errors.InvalidRequestError("too many", param="prompt_logprobs")
    server = await start(lambda _: [error])
    response = await server.post(TEXT, {"prompt": "a", "echo": True, "logprobs": 1})
    assert (response.status, (await response.json())["error"]["param"]) == (400, "logprobs")


async def test_a_second_prompt_that_the_engine_does_not_take_ends_the_first(start, monkeypatch):
    server = await start(lambda _: [asyncio.Event()])
    generate = server.engine.generate

    def full(request):
        if server.engine.requests:
            raise errors.OverloadedError("full")
        return generate(request)

    monkeypatch.setattr(server.engine, "generate", full)
    response = await server.post(TEXT, {"prompt": ["a", "b"]})
    assert (response.status, response.headers["Retry-After"]) == (429, "1")
    assert server.engine.n_active == 0


async def test_best_of_keeps_the_likeliest_and_counts_all(start):
    server = await start(play)
    body = await (await server.post(TEXT, {"prompt": ["a", "b"], "best_of": 3})).json()
    assert [(choice["index"], choice["text"]) for choice in body["choices"]] == [
        (0, said("a", 2)),
        (1, said("b", 2)),
    ]
    # they were asked for to choose, not to show
    assert all(choice["logprobs"] is None for choice in body["choices"])
    assert body["usage"]["completion_tokens"] == 12
    (request, _) = server.engine.requests
    assert (request.n, request.logprobs) == (3, 0)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"best_of": 2, "n": 3}, "best_of"),
        ({"best_of": 257}, "n"),
        ({"n": 0}, "n"),
        ({"logprobs": -1}, "logprobs"),
        ({"logprobs": 101}, "logprobs"),
        ({"prompt": ["a"] * 100, "n": 3}, "prompt"),
        ({"prompt": ["a"], "suffix": "b"}, "suffix"),
        ({"suffix": "b", "echo": True}, "echo"),
        ({"stop_token_ids": [-1]}, "stop_token_ids[0]"),
    ],
)
async def test_bodies_that_make_no_sense(server, fields, param):
    response = await server.post(TEXT, {"prompt": "a", **fields})
    assert (response.status, (await response.json())["error"]["param"]) == (400, param)


async def test_echo_repeats_the_text_without_asking_the_model(start):
    server = await start(play)
    body = await (await server.post(TEXT, {"prompt": "Hi", "echo": True})).json()
    assert body["choices"][0]["text"] == "Hi" + said("Hi", 0)
    assert server.engine.requests[0].prompt_logprobs is None


async def test_echo_of_tokens_is_what_the_model_calls_them(start):
    server = await start(
        lambda _: [Accepted(2), PromptScored([scored("Hi", None), scored(" a")]), *play_end()]
    )
    body = await (await server.post(TEXT, {"prompt": [1, 2], "echo": True})).json()
    assert body["choices"][0]["text"] == "Hi a!"
    assert body["choices"][0]["logprobs"] is None
    request = server.engine.requests[0]
    assert (request.prompt, request.prompt_logprobs) == (TokenPrompt([1, 2]), 0)


def play_end():
    return [Delta(text="!", logprobs=[scored("!")]), end(n_tokens=1, last=True)]


async def test_27174_echo_with_logprobs_is_what_lm_eval_reads(start):
    """lm-eval's local-completions sends this, and reads the lists side by side."""
    tokens = [scored("The", None), scored(" sky"), scored(" is"), scored(" blue", -0.25)]
    server = await start(lambda _: [Accepted(4), PromptScored(tokens), *play_end()])
    body = await (
        await server.post(
            TEXT,
            {"prompt": [[1, 2, 3, 4]], "max_tokens": 1, "logprobs": 1, "echo": True, "seed": 1234},
        )
    ).json()
    (choice,) = body["choices"]
    logprobs = choice["logprobs"]
    assert choice["text"] == "The sky is blue!"
    assert logprobs["tokens"] == ["The", " sky", " is", " blue", "!"]
    assert logprobs["token_logprobs"] == [None, -1.0, -1.0, -0.25, -1.0]
    assert logprobs["text_offset"] == [0, 3, 7, 10, 15]
    assert logprobs["top_logprobs"][0] is None
    assert logprobs["top_logprobs"][3] == {"?": -3.0, " blue": -0.25}
    request = server.engine.requests[0]
    assert (request.logprobs, request.prompt_logprobs, request.max_tokens) == (1, 1, 1)


async def test_every_choice_begins_with_the_scored_echo(start):
    def late(_request):
        yield Accepted(2)
        yield PromptScored([scored("Hi", None)])
        yield Delta(text="b", choice=1, logprobs=[scored("b")])
        yield Delta(text="a", choice=0, logprobs=[scored("a")])
        yield end(0, n_tokens=1, last=False)
        yield end(1, n_tokens=1, last=True)

    server = await start(late)
    body = {"prompt": "Hi", "echo": True, "logprobs": 0, "n": 2, "stream": True}
    answer = assemble(chunks_of(await (await server.post(TEXT, body)).text()))
    assert [answer["choices"][i]["text"] for i in range(2)] == ["Hia", "Hib"]
    assert answer["choices"][1]["logprobs"]["tokens"] == ["Hi", "b"]


async def test_suffix_is_a_gap_to_fill(start):
    server = await start(play_gap)
    body = await (await server.post(TEXT, {"prompt": "def f(", "suffix": "):"})).json()
    assert body["choices"][0]["text"] == "def f( ... ):"


def play_gap(request):
    gap = request.prompt
    return [
        Accepted(3),
        Delta(text=f"{gap.prefix} ... {gap.suffix}"),
        end(n_tokens=1, last=True),
    ]


def calls(request):
    from tests.server.test_openai_chat import TOOL_DELTAS

    done = end(n_tokens=3, last=True)
    return [Accepted(1), *TOOL_DELTAS, Finished(
        reason="tool_calls", usage=done.usage, timings=done.timings
    )]  # fmt: skip


async def test_streamed_reasoning_and_calls_equal_those_of_one_piece(start):
    server = await start(calls)
    tools = [{"type": "function", "function": {"name": "f"}}]
    whole = (await (await server.chat(tools=tools)).json())["choices"][0]["message"]
    chunks = chunks_of(await (await server.chat(tools=tools, stream=True)).text())
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    put: dict[int, dict] = {}
    for piece in (piece for delta in deltas for piece in delta.get("tool_calls", [])):
        call = put.setdefault(piece["index"], {"name": "", "arguments": ""})
        for name, text in piece["function"].items():
            call[name] += text
    assert [put[i] for i in sorted(put)] == [call["function"] for call in whole["tool_calls"]]
    for name in ("content", "reasoning_content"):
        assert "".join(delta.get(name) or "" for delta in deltas) == whole[name]


async def test_functions_are_answered_with_a_function_call(start):
    server = await start(calls)
    fields = {"functions": [{"name": "f"}]}
    choice = (await (await server.chat(**fields)).json())["choices"][0]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "f", "arguments": "{}"}
    assert "tool_calls" not in choice["message"]
    chunks = chunks_of(await (await server.chat(**fields, stream=True)).text())
    pieces = [
        delta["function_call"]
        for chunk in chunks
        if "function_call" in (delta := chunk["choices"][0]["delta"])
    ]
    assert pieces == [{"name": "f", "arguments": ""}, {"arguments": "{}"}]
    assert chunks[-1]["choices"][0]["finish_reason"] == "function_call"


async def test_a_token_without_text_still_shows_its_logprob(start):
    hidden = Delta(text="", logprobs=[scored("")])
    server = await start(lambda _: [Accepted(1), hidden, *play_end()])
    for path, fields in ((CHAT, {"logprobs": True}), (TEXT, {"logprobs": 0})):
        text = await (await server.post(path, {**BODIES[path], **fields, "stream": True})).text()
        choice = assemble(chunks_of(text))["choices"][0]
        assert len(choice["logprobs"].get("content") or choice["logprobs"]["tokens"]) == 2


GOLDEN_CHAT = b"""\
data: {"id":"ID","object":"chat.completion.chunk","created":0,"model":"tiny",\
"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}

data: {"id":"ID","object":"chat.completion.chunk","created":0,"model":"tiny",\
"choices":[{"index":0,"delta":{"content":"!"},"logprobs":{"content":[{"token":"!","logprob":-1.0,\
"bytes":[33],"top_logprobs":[{"token":"?","logprob":-3.0,"bytes":[63]}]}],"refusal":null},\
"finish_reason":null}]}

data: {"id":"ID","object":"chat.completion.chunk","created":0,"model":"tiny",\
"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"timings":{"cache_n":2,"queue_ms":1.0,\
"prompt_n":3,"prompt_ms":10.0,"prompt_per_second":300.0,"predicted_n":1,"predicted_ms":20.0,\
"predicted_per_second":50.0}}

data: [DONE]

"""

GOLDEN_TEXT = b"""\
data: {"id":"ID","object":"text_completion","created":0,"model":"tiny",\
"choices":[{"text":"Hi","index":0,"logprobs":{"tokens":["Hi"],"token_logprobs":[null],\
"top_logprobs":[null],"text_offset":[0]},"finish_reason":null}]}

data: {"id":"ID","object":"text_completion","created":0,"model":"tiny",\
"choices":[{"text":"!","index":0,"logprobs":{"tokens":["!"],"token_logprobs":[-1.0],\
"top_logprobs":[{"?":-3.0,"!":-1.0}],"text_offset":[2]},"finish_reason":null}]}

data: {"id":"ID","object":"text_completion","created":0,"model":"tiny",\
"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"stop"}],"timings":{"cache_n":2,\
"queue_ms":1.0,"prompt_n":3,"prompt_ms":10.0,"prompt_per_second":300.0,"predicted_n":1,\
"predicted_ms":20.0,"predicted_per_second":50.0}}

data: [DONE]

"""


@pytest.mark.parametrize(
    ("path", "fields", "golden"),
    [
        (CHAT, {"logprobs": True, "top_logprobs": 1}, GOLDEN_CHAT),
        (TEXT, {"echo": True, "logprobs": 1}, GOLDEN_TEXT),
    ],
)
async def test_a_stream_with_logprobs_is_byte_for_byte_this(start, path, fields, golden):
    prompt = [PromptScored([scored("Hi", None)])] if "echo" in fields else []
    server = await start(lambda _: [Accepted(5), *prompt, *play_end()])
    response = await server.post(path, {**BODIES[path], **fields, "stream": True})
    text = await response.read()
    first = json.loads(text.split(b"\n")[0].removeprefix(b"data: "))
    text = text.replace(first["id"].encode(), b"ID")
    assert text.replace(b'"created":%d' % first["created"], b'"created":0') == golden
