"""Images through a real server: the official clients, every form, and files that are damaged."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import openai
import pytest
from PIL import Image

from tests.support.pictures import base64_of, url_of
from tests.support.served import Served, serve
from tests.support.tiny_gguf import write_model
from tests.support.vision import make_pair, picture

MODEL = "tiny-llava"
N_PLACES = 16  # that an image has
FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
ASK = {"model": MODEL, "max_tokens": 12, "temperature": 0}
# no longer a parameter of the client's, but one of the API's
ASK_CLAUDE = {"model": MODEL, "max_tokens": 12, "extra_body": {"temperature": 0}}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("models")
    make_pair("llava", folder)
    with serve(
        tmp_path_factory.mktemp("home"), "--model-dirs", str(folder), "-np", "8", "-t", "1"
    ) as server:
        yield server


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server whose model has no projector."""
    model = write_model(tmp_path_factory.mktemp("models") / "blind.gguf")
    with serve(tmp_path_factory.mktemp("home"), "--model-path", str(model), "-t", "1") as server:
        yield server


@pytest.fixture
def claude(served: Served) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=served.url, api_key="none", max_retries=0) as client:
        yield client


def seen(seed: int, kind: str = "PNG") -> bytes:
    """A picture in a file of some format."""
    data = picture(seed, 64, 48)
    if kind == "PNG":
        return data
    file = io.BytesIO()
    Image.open(io.BytesIO(data)).save(file, kind)
    return file.getvalue()


def media_type(kind: str) -> str:
    return f"image/{kind.lower()}"


def chat(*images: bytes, text: str = "What is this?", kind: str = "PNG") -> list[Any]:
    """OpenAI's messages."""
    parts = [
        {"type": "image_url", "image_url": {"url": url_of(i, media_type(kind))}} for i in images
    ]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


def block(data: bytes, kind: str = "PNG") -> dict[str, Any]:
    """Anthropic's image."""
    source = {"type": "base64", "media_type": media_type(kind), "data": base64_of(data)}
    return {"type": "image", "source": source}


def claudes(*images: bytes, kind: str = "PNG") -> list[Any]:
    """Anthropic's messages."""
    text = {"type": "text", "text": "What is this?"}
    return [{"role": "user", "content": [*(block(i, kind) for i in images), text]}]


def inputs(*images: bytes, kind: str = "PNG") -> list[Any]:
    """The input of OpenAI's responses."""
    parts = [{"type": "input_image", "image_url": url_of(i, media_type(kind))} for i in images]
    return [{"role": "user", "content": [*parts, {"type": "input_text", "text": "What is this?"}]}]


def of_chat(served: Served, *images: bytes, kind: str = "PNG") -> str:
    with openai.OpenAI(base_url=served.url + "/v1", api_key="none", max_retries=0) as client:
        answer = client.chat.completions.create(**ASK, messages=chat(*images, kind=kind))
    return str(answer.choices[0].message.content)


def of_responses(served: Served, *images: bytes, kind: str = "PNG") -> str:
    with openai.OpenAI(base_url=served.url + "/v1", api_key="none", max_retries=0) as client:
        response = client.responses.create(
            model=MODEL,
            max_output_tokens=12,
            temperature=0,
            input=inputs(*images, kind=kind),
        )
    return str(response.output_text)


def of_messages(served: Served, *images: bytes, kind: str = "PNG") -> str:
    with anthropic.Anthropic(base_url=served.url, api_key="none", max_retries=0) as client:
        message = client.messages.create(**ASK_CLAUDE, messages=claudes(*images, kind=kind))
    return str(message.content[0].text)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("ask", [of_chat, of_responses, of_messages])
def test_images_of_every_format_are_told_apart(served: Served, ask: Any, kind: str) -> None:
    first, second, again = (ask(served, seen(seed, kind), kind=kind) for seed in (1, 2, 1))
    assert first
    assert first == again != second
    assert ask(served, seen(1, kind), seen(2, kind), kind=kind) not in {first, second}


def test_all_apis_show_the_model_the_same(served: Served) -> None:
    texts = [ask(served, seen(3)) for ask in (of_chat, of_responses, of_messages)]
    assert len(set(texts)) == 1


def test_a_file_without_loss_is_the_same_picture(served: Served) -> None:
    file = io.BytesIO()
    Image.open(io.BytesIO(seen(3))).save(file, "WEBP", lossless=True)
    assert of_chat(served, file.getvalue(), kind="WEBP") == of_chat(served, seen(3))


def test_a_streamed_chat_is_the_same_text(served: Served, client: openai.OpenAI) -> None:
    chunks = client.chat.completions.create(
        **ASK, messages=chat(seen(1)), stream=True, stream_options={"include_usage": True}
    )
    text, usage = "", None
    for chunk in chunks:
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        usage = chunk.usage
    assert text == of_chat(served, seen(1))
    assert usage.prompt_tokens > N_PLACES


def test_a_streamed_response_is_the_same_text(served: Served, client: openai.OpenAI) -> None:
    asked = {"model": MODEL, "max_output_tokens": 12, "temperature": 0, "input": inputs(seen(1))}
    with client.responses.stream(**asked) as stream:
        text = "".join(e.delta for e in stream if e.type.endswith("text.delta"))
    assert text == of_responses(served, seen(1))


def test_a_streamed_message_is_the_same_text(served: Served, claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(**ASK_CLAUDE, messages=claudes(seen(1))) as stream:
        text = "".join(stream.text_stream)
    assert text == of_messages(served, seen(1))


def test_the_next_turn_has_the_image_in_its_cells(client: openai.OpenAI) -> None:
    messages = chat(seen(11), text="What is this, for the first time?")
    first = client.chat.completions.create(**ASK, messages=messages)
    messages += [
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": "And now?"},
    ]
    second = client.chat.completions.create(**ASK, messages=messages)
    n_read = first.usage.prompt_tokens
    assert second.usage.prompt_tokens_details.cached_tokens >= n_read - 1 > N_PLACES


def test_the_next_response_goes_on_from_the_image(client: openai.OpenAI) -> None:
    asked = {"model": MODEL, "max_output_tokens": 12, "temperature": 0}
    first = client.responses.create(**asked, input=inputs(seen(12)))
    second = client.responses.create(**asked, input="And?", previous_response_id=first.id)
    n_cached = second.usage.input_tokens_details.cached_tokens
    assert n_cached >= first.usage.input_tokens - 1 > N_PLACES


def test_tokens_of_images_are_counted_as_they_are_used(claude: anthropic.Anthropic) -> None:
    fields: dict[str, Any] = {"messages": claudes(seen(1), seen(2))}
    counted = claude.messages.count_tokens(model=MODEL, **fields)
    usage = claude.messages.create(**ASK_CLAUDE, **fields).usage
    assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens
    assert counted.input_tokens > 2 * N_PLACES


def test_a_tools_result_may_be_an_image(claude: anthropic.Anthropic) -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "screenshot", "input": {}}

    def told(seed: int) -> str:
        result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [block(seen(seed))]}
        message = claude.messages.create(
            **ASK_CLAUDE,
            messages=[
                {"role": "user", "content": "What is on the screen?"},
                {"role": "assistant", "content": [call]},
                {"role": "user", "content": [result]},
            ],
            tools=[{"name": "screenshot", "input_schema": {"type": "object"}}],
        )
        return str(message.content[0].text)

    assert told(1) == told(1) != told(2)


def test_a_tool_is_called_about_an_image(client: openai.OpenAI) -> None:
    tool = {"type": "function", "function": {"name": "where", "parameters": PARAMETERS}}
    fields = {**ASK, "max_tokens": 60, "tools": [tool], "tool_choice": "required"}
    answer = client.chat.completions.create(**fields, messages=chat(seen(1)))
    assert answer.usage.prompt_tokens > N_PLACES
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "where"


def test_requests_with_images_and_without_run_side_by_side(served: Served) -> None:
    def ask(i: int) -> str:
        return of_chat(served, *(seen(20 + i) for _ in range(i % 3)))

    apart = [ask(i) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(ask, range(8)))
    assert together == apart


def test_it_is_said_that_the_model_sees(served: Served) -> None:
    assert served.get("/props")[1]["modalities"] == {"vision": True, "audio": False}
    (entry,) = (m for m in served.get("/api/models")[1]["models"] if m["name"] == MODEL)
    assert entry["vision"] is True
    assert entry["input_modalities"] == ["text", "image"]


def test_a_model_without_projector_answers_in_each_apis_words(blind: Served) -> None:
    asked = {"max_tokens": 4, "messages": chat(seen(1))}
    status, body = blind.post("/v1/chat/completions", asked)
    assert status == 400
    assert body["error"]["type"] == "invalid_request_error"
    assert body["error"]["param"] == "messages"
    assert "--mmproj" in body["error"]["message"]
    status, body = blind.post("/v1/responses", {"input": inputs(seen(1))})
    assert (status, body["error"]["type"]) == (400, "invalid_request_error")
    asked = {"model": "blind", "max_tokens": 4, "messages": claudes(seen(1))}
    status, body = blind.post("/v1/messages", asked)
    assert (status, body["type"]) == (400, "error")
    assert body["error"]["type"] == "invalid_request_error"
    assert "sees no images" in body["error"]["message"]
    assert blind.get("/props")[1]["modalities"]["vision"] is False


def test_a_damaged_image_is_the_clients_fault(
    served: Served, client: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    pid = served.worker_pid()
    cut = seen(1)[:200]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**ASK, messages=chat(seen(1), cut))
    assert caught.value.code == "invalid_image"
    assert caught.value.param == "messages"
    assert "image 2 is not a PNG" in str(caught.value)
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model=MODEL, input=inputs(cut))
    with pytest.raises(anthropic.BadRequestError) as refused:
        claude.messages.create(**ASK_CLAUDE, messages=claudes(cut))
    assert refused.value.body["error"]["type"] == "invalid_request_error"
    assert of_chat(served, seen(1))
    assert served.worker_pid() == pid


def damaged(seed: int) -> bytes:
    """A file with some of its bytes changed, lost or doubled."""
    rng = random.Random(seed)
    data = bytearray(seen(seed, FORMATS[seed % 4]))
    for _ in range(rng.choice((1, 3, 20))):
        i = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[i] ^= 1 << rng.randrange(8)
            case 1:
                data[i] = rng.choice((0, 127, 255))
            case 2:
                del data[i : i + rng.randrange(1, 30)]
            case _:
                data[i:i] = data[i : i + rng.randrange(1, 30)]
        data = data or bytearray(1)
    return bytes(data[: rng.randrange(1, len(data) + 1)] if seed % 5 == 0 else data)


def test_damaged_images_are_seen_or_refused_and_nothing_else(served: Served) -> None:
    pid = served.worker_pid()

    def ask(seed: int) -> int:
        messages = chat(damaged(seed), kind=FORMATS[seed % 4])
        body = {**ASK, "max_tokens": 1, "messages": messages}
        status, answer = served.post("/v1/chat/completions", body)
        assert status == 200 or answer["error"]["code"] == "invalid_image", answer
        return status

    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(ask, range(60)))
    assert set(statuses) == {200, 400}
    assert served.worker_pid() == pid
    assert of_chat(served, seen(1))
