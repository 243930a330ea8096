"""Images in every dialect: which forms are taken, where, and what is said of the others."""

from __future__ import annotations

import io
import json
import logging

import msgspec
import pytest

from shimmy.engine.types.prompt import ChatPrompt
from shimmy.errors import ImageError, InvalidRequestError
from shimmy.server.dialects import anthropic, native, openai_chat
from shimmy.server.openapi import document
from shimmy.server.props import props
from shimmy.server.response_store import ResponseStore
from shimmy.server.responses import Responses
from tests.server.fakes import INFO
from tests.support.pictures import BLUE, PNG, base64_of, url_of

URL = url_of(PNG)
LINKS = ("http://127.0.0.1/a.png", "https://x.test/a.png", "file:///etc/passwd")


def text(words: str) -> dict:
    return {"type": "text", "text": words}


def image_url(url: str = URL, **fields) -> dict:
    return {"type": "image_url", "image_url": {"url": url, **fields}}


def block(image: bytes = PNG, **fields) -> dict:
    source = {"type": "base64", "media_type": "image/png", "data": base64_of(image), **fields}
    return {"type": "image", "source": source}


def input_image(url: str | None = URL, **fields) -> dict:
    return {"type": "input_image", "image_url": url, **fields}


def turn(role: str, *content) -> dict:
    return {"role": role, "content": list(content)}


# each takes turns and returns the prompt


def of_chat(*turns) -> ChatPrompt:
    return openai_chat.parse(msgspec.json.encode({"messages": turns})).request.prompt


def of_native(*turns) -> ChatPrompt:
    return native.parse(msgspec.json.encode({"messages": turns})).request.prompt


def of_messages(*turns, **fields) -> ChatPrompt:
    body = {"model": "tiny", "max_tokens": 9, "messages": turns, **fields}
    return anthropic.parse(msgspec.json.encode(body)).request.prompt


def of_counting(*turns) -> ChatPrompt:
    body = {"model": "tiny", "messages": turns}
    return anthropic.parse_count(msgspec.json.encode(body))[1]


def of_responses(*items, memory: Responses | None = None, **fields) -> ChatPrompt:
    memory = memory or Responses(ResponseStore())
    return memory.parse(msgspec.json.encode({"input": items, **fields})).request.prompt


def of_tokens(*items) -> ChatPrompt:
    body = msgspec.json.encode({"input": items})
    return Responses(ResponseStore()).parse_count(body)[1]


def input_text(words: str) -> dict:
    return {"type": "input_text", "text": words}


FORMS = {
    "chat": (of_chat, text, lambda data: image_url(url_of(data))),
    "native": (of_native, text, lambda data: image_url(url_of(data))),
    "messages": (of_messages, text, block),
    "count_tokens": (of_counting, text, block),
    "responses": (of_responses, input_text, lambda data: input_image(url_of(data))),
    "input_tokens": (of_tokens, input_text, lambda data: input_image(url_of(data))),
}


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


def refused(parse, *turns, **fields) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        parse(*turns, **fields)
    assert caught.value.param is not None
    assert caught.value.param in caught.value.message
    assert base64_of(PNG)[:30] not in caught.value.message
    return caught.value


# every dialect


def test_an_image_becomes_bytes_and_a_mark_between_the_texts(form):
    parse, words, image = form
    prompt = parse(turn("user", words("a"), words("b"), image(PNG), words("c"), image(BLUE)))
    mark = prompt.image_mark
    assert prompt.images == [PNG, BLUE]
    assert prompt.messages[0].content == f"a\nb{mark}c{mark}"


def test_images_of_several_turns_keep_their_order(form):
    parse, words, image = form
    said = {"role": "assistant", "content": "I see."}
    prompt = parse(
        turn("user", image(PNG)), said, turn("user", words("And?"), image(BLUE), image(PNG))
    )
    mark = prompt.image_mark
    assert prompt.images == [PNG, BLUE, PNG]
    assert [m.content for m in prompt.messages] == [mark, "I see.", f"And?{mark}{mark}"]


def test_without_images_there_is_no_mark(form):
    parse, words, _ = form
    prompt = parse(turn("user", words("Hi")))
    assert (prompt.images, prompt.image_mark) == ([], "")


def test_each_request_has_a_mark_of_its_own(form):
    parse, _, image = form
    asked = turn("user", image(PNG))
    assert parse(asked).image_mark != parse(asked).image_mark


@pytest.mark.parametrize("data", [b"", b"no image"])
def test_a_file_that_is_no_image_is_refused_by_its_place(form, data):
    parse, words, image = form
    error = refused(parse, turn("user", words("Hi")), turn("user", words("See"), image(data)))
    assert isinstance(error, ImageError)
    assert error.param.startswith(("messages[1].content[1].", "input[1].content[1].image_url"))


def test_an_image_too_many_is_refused_by_its_place(form):
    parse, _, image = form
    images = [image(PNG)] * 40
    error = refused(parse, turn("user", *images), turn("user", *images))
    assert "[1].content[24]" in error.param


@pytest.mark.parametrize("role", ["system", "assistant"])
def test_an_image_of_anybody_but_the_user_is_refused(form, role):
    parse, words, image = form
    error = refused(parse, turn(role, words("See"), image(PNG)), turn("user", words("Hi")))
    assert error.param in {"messages[0].content[1]", "input[0].content[1]"}
    assert error.code == "unsupported_parameter"


# OpenAI's chat


def test_chat_an_image_url_may_be_a_plain_string():
    assert of_chat(turn("user", {"type": "image_url", "image_url": URL})).images == [PNG]


@pytest.mark.parametrize("detail", ["auto", "low", "high", "original", None])
def test_chat_the_detail_changes_nothing(detail):
    assert of_chat(turn("user", image_url(detail=detail))).images == [PNG]


@pytest.mark.parametrize(
    ("part", "place"),
    [
        ({"type": "image_url"}, ".image_url"),
        ({"type": "image_url", "image_url": {}}, ".image_url.url"),
        ({"type": "image_url", "image_url": 5}, ".image_url"),
        ({"type": "image_url", "image_url": {"url": None}}, ".image_url.url"),
        (image_url(detail="sharp"), ".image_url.detail"),
        (image_url("data:image/bmp;base64,Qk0="), ".image_url.url"),
        (image_url("data:image/png;base64,?"), ".image_url.url"),
        ({"type": "image_url", "image_url": "data:,"}, ".image_url"),
        *[(image_url(link), ".image_url.url") for link in LINKS],
        ({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}, ""),
        ({"type": "file", "file": {"file_id": "x"}}, ""),
        ({"type": "input_image", "image_url": URL}, ""),
    ],
)
@pytest.mark.parametrize("parse", [of_chat, of_native])
def test_chat_a_part_that_cannot_be_is_refused_by_its_place(parse, part, place):
    error = refused(parse, turn("user", text("See"), part))
    assert error.param == f"messages[0].content[1]{place}"


@pytest.mark.parametrize("link", LINKS)
def test_chat_a_link_is_not_fetched_and_its_text_says_what_to_send(link):
    message = refused(of_chat, turn("user", image_url(link))).message
    assert "shimmy fetches nothing" in message
    assert "data:" in message


def test_chat_a_tools_result_holds_no_image_as_at_openais():
    said = {"role": "tool", "tool_call_id": "1", "content": [image_url()]}
    assert refused(of_chat, turn("user", text("Hi")), said).param == "messages[1].content[0]"


def test_native_images_beside_a_raw_prompt_are_refused_and_not_ignored():
    with pytest.raises(InvalidRequestError, match="image_url") as caught:
        native.parse(json.dumps({"prompt": "x", "images": [base64_of(PNG)]}).encode())
    assert caught.value.param == "images"
    assert native.parse(b'{"prompt": "x", "images": []}').request.prompt.text == "x"


# Anthropic's messages


@pytest.mark.parametrize(
    ("part", "place"),
    [
        ({"type": "image"}, ".source"),
        ({"type": "image", "source": URL}, ".source"),
        (block(data=None), ".source.data"),
        (block(data="?"), ".source.data"),
        (block(media_type=None), ".source.media_type"),
        (block(media_type="image/bmp"), ".source.media_type"),
        ({"type": "image", "source": {"type": "url", "url": LINKS[0]}}, ".source.type"),
        ({"type": "image", "source": {"type": "file", "file_id": "x"}}, ".source.type"),
        ({"type": "image", "source": {}}, ".source.type"),
    ],
)
@pytest.mark.parametrize("parse", [of_messages, of_counting])
def test_messages_a_block_that_cannot_be_is_refused_by_its_place(parse, part, place):
    error = refused(parse, turn("user", text("See"), part))
    assert error.param == f"messages[0].content[1]{place}"


@pytest.mark.parametrize("kind", ["url", "file"])
def test_messages_another_source_is_told_what_to_send(kind):
    error = refused(of_messages, turn("user", {"type": "image", "source": {"type": kind}}))
    assert "base64" in error.message
    assert kind in error.message


def test_messages_a_tools_result_may_hold_images():
    use = {"type": "tool_use", "id": "t", "name": "look", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [text("Here:"), block(BLUE)]}
    prompt = of_messages(
        turn("user", block()), turn("assistant", use), turn("user", result, block(), text("Well?"))
    )
    mark = prompt.image_mark
    assert prompt.images == [PNG, BLUE, PNG]
    assert [m.role for m in prompt.messages] == ["user", "assistant", "tool", "user"]
    assert prompt.messages[2].content == f"Here:{mark}"
    assert prompt.messages[3].content == f"{mark}Well?"


def test_messages_a_document_may_hold_images_where_images_may_be():
    source = {"type": "content", "content": [text("Fig. 1"), block(), text("Fig. 2")]}
    document = {"type": "document", "title": "Sky", "source": source}
    prompt = of_messages(turn("user", document))
    assert prompt.messages[0].content == f"Sky\nFig. 1{prompt.image_mark}Fig. 2"
    assert refused(of_messages, turn("assistant", document), turn("user", text("Hi"))).param == (
        "messages[0].content[0].source.content[1]"
    )


def test_messages_turns_in_a_row_become_one_without_a_line_end_at_an_image():
    prompt = of_messages(turn("user", block()), turn("user", text("a")), turn("user", text("b")))
    assert prompt.messages[0].content == f"{prompt.image_mark}a\nb"


def test_messages_the_system_prompt_holds_no_image():
    error = refused(of_messages, turn("user", text("Hi")), system=[text("See"), block()])
    assert error.param == "system[1]"


# OpenAI's responses


@pytest.mark.parametrize(
    ("part", "place"),
    [
        (input_image(None), ".image_url"),
        (input_image(5), ".image_url"),
        (input_image({"url": URL}), ".image_url"),
        (input_image(None, file_id="file_1"), ".file_id"),
        (input_image(detail="sharp"), ".detail"),
        (input_image("data:image/png;base64,?"), ".image_url"),
        *[(input_image(link), ".image_url") for link in LINKS],
        ({"type": "input_file", "file_id": "x"}, ""),
        ({"type": "input_audio", "input_audio": {}}, ""),
    ],
)
@pytest.mark.parametrize("parse", [of_responses, of_tokens])
def test_responses_a_part_that_cannot_be_is_refused_by_its_place(parse, part, place):
    error = refused(parse, turn("user", input_text("See"), part))
    assert error.param == f"input[0].content[1]{place}"


def test_responses_a_tools_output_may_hold_images():
    prompt = of_responses(
        turn("user", input_image()),
        {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
        {
            "type": "function_call_output",
            "call_id": "c",
            "output": [input_text("Here:"), input_image(url_of(BLUE), detail="low")],
        },
    )
    assert prompt.images == [PNG, BLUE]
    assert prompt.messages[-1].content == f"Here:{prompt.image_mark}"


async def test_responses_a_turn_keeps_the_images_of_the_one_before(server):
    first = await server.post("/v1/responses", {"input": [turn("user", input_image())]})
    before = (await first.json())["id"]
    seen = turn("user", input_text("And?"), input_image(url_of(BLUE)))
    asked = {"input": [seen], "previous_response_id": before}
    assert (await server.post("/v1/responses", asked)).status == 200
    prompt = server.engine.requests[-1].prompt
    assert prompt.images == [PNG, BLUE]
    mark = prompt.image_mark
    assert [m.content for m in prompt.messages] == [mark, "Hello", f"And?{mark}"]
    items = await (await server.get(f"/v1/responses/{before}/input_items")).json()
    assert items["data"][0]["content"] == [input_image()]


def test_responses_what_is_kept_is_counted_with_its_images():
    memory = ResponseStore()
    dialect = Responses(memory)
    call = dialect.parse(json.dumps({"input": [turn("user", input_image())]}).encode())
    memory.add({"id": "resp_a", "output": []}, call.extra.items)
    assert memory.n_bytes > len(URL)
    small = ResponseStore(max_bytes=len(URL))
    small.add({"id": "resp_a", "output": []}, call.extra.items)
    assert len(small) == 0


# the server


async def test_apply_template_asks_the_worker_with_images_and_shows_what_it_says(server):
    asked = {"messages": [turn("user", text("a"), image_url(), text("b"))]}
    answer = await (await server.post("/apply-template", asked)).json()
    [prompt] = server.engine.rendered
    assert prompt.images == [PNG]
    assert answer["prompt"] == f"a{prompt.image_mark}b"
    plain = await (
        await server.post("/apply-template", {"messages": [turn("user", text("a"))]})
    ).json()
    assert plain["prompt"] == "a"


async def test_props_say_whether_the_model_sees():
    assert props(INFO, [])["modalities"] == {"vision": False, "audio": False}
    seeing = msgspec.structs.replace(INFO, vision=True)
    assert props(seeing, [])["modalities"] == {"vision": True, "audio": False}


@pytest.mark.parametrize("data", [PNG, b"no image"])
async def test_the_log_holds_nothing_of_an_image(server, caplog, data):
    caplog.set_level(logging.DEBUG)
    asked = turn("user", image_url(url_of(data)))
    await server.chat(messages=[asked])
    server.engine.script = lambda _request: [ZeroDivisionError("a fault")]
    await server.chat(messages=[asked])
    assert caplog.records
    assert base64_of(data)[:16] not in caplog.text
    assert repr(data)[2:10] not in caplog.text


async def test_an_image_of_20_mib_is_within_the_default_limits(start):
    server = await start()
    image = PNG + bytes(20 * 1024 * 1024 - len(PNG))
    body = json.dumps({"messages": [turn("user", image_url(url_of(image)))]}).encode()
    data = io.BytesIO(body)
    assert (await server.post("/v1/chat/completions", data=data)).status == 200
    assert server.engine.requests[-1].prompt.images == [image]


def test_the_document_describes_the_parts_that_hold_images():
    schemas = json.loads(document())["components"]["schemas"]
    assert "image_url" in schemas["messages.ContentPart"]["properties"]
    assert set(schemas["ImageUrl"]["properties"]) == {"url", "detail"}
    assert {"image_url", "detail"} <= set(schemas["responses.items.ContentPart"]["properties"])
    assert {"type", "media_type", "data"} <= set(schemas["Source"]["properties"])
