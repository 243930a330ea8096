"""Images on their way to a worker: what is taken, what is refused, and the marks in the texts."""

from __future__ import annotations

import re
import tracemalloc

import pytest

from shimmy.engine import Engine, images
from shimmy.engine.images import Images, data_url, gathered
from shimmy.engine.types.prompt import ChatPrompt, Message
from shimmy.errors import ImageError
from tests.support.pictures import BEGINNINGS, BLUE, PNG, base64_of, url_of


def refused(url: str) -> str:
    with pytest.raises(ImageError) as caught:
        Images().add_url(url, "here")
    assert caught.value.param == "here"
    assert caught.value.code == "invalid_image"
    assert caught.value.message.startswith("here ")
    assert base64_of(PNG)[:40] not in caught.value.message
    return caught.value.message


# what is taken


@pytest.mark.parametrize("media_type", BEGINNINGS)
def test_the_four_kinds_of_files_are_taken_as_they_are(media_type):
    seen = Images()
    seen.add_url(url_of(BEGINNINGS[media_type], media_type), "here")
    assert seen.files == [BEGINNINGS[media_type]]


@pytest.mark.parametrize(
    "url",
    [
        f"DATA:Image/PNG;BASE64,{base64_of(PNG)}",
        f"data:image/png;charset=utf-8;base64,{base64_of(PNG)}",
        f"data:image/jpg;base64,{base64_of(PNG)}",
        f"data:image/png;base64,{base64_of(PNG)[:40]}\r\n {base64_of(PNG)[40:]}\n",
    ],
    ids=["capitals", "parameters", "jpg", "lines"],
)
def test_ways_of_writing_that_mean_the_same_are_taken(url):
    seen = Images()
    seen.add_url(url, "here")
    assert seen.files == [PNG]


# what is refused


@pytest.mark.parametrize(
    "url", ["http://x/a.png", "https://x/a.png", "file:///a.png", "ftp://x", "/a.png", "", "data"]
)
def test_a_link_is_refused_and_a_data_url_asked_for(url):
    assert "shimmy fetches nothing" in refused(url)
    assert "data:image/png;base64" in refused(url)


@pytest.mark.parametrize(
    "media_type", ["", "text/plain", "image/bmp", "image/svg+xml", "application/pdf", "x" * 5000]
)
def test_another_media_type_is_refused_with_those_that_are_taken(media_type):
    message = refused(url_of(PNG, media_type))
    assert "image/png, image/jpeg, image/webp, image/gif" in message
    assert len(message) < 300


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png",
        "data:image/png,abc",
        "data:image/png;base64",
        "data:image/png;base64,a",
        "data:image/png;base64,####",
        "data:image/png;base64,iVBORw0K\u00e9",
        f"data:image/png;base64,{base64_of(PNG).rstrip('=')}=a",
    ],
)
def test_what_is_not_base64_is_refused(url):
    assert "base64" in refused(url)


@pytest.mark.parametrize(
    "url",
    ["data:image/png" + ";" * 4_000_000, "data:image/png;base64," + "A " * 2_000_000 + "#"],
    ids=["parameters", "spaces"],
)
def test_what_is_refused_takes_little_more_memory_than_it_is_long(url):
    tracemalloc.start()
    refused(url)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 5 * len(url)


def test_an_empty_image_is_refused():
    assert "empty" in refused("data:image/png;base64,")


@pytest.mark.parametrize("data", [b"BM and so on", b"<svg/>", b"\x89PNG", b"RIFFxxxxWAVE", b"\0"])
def test_a_file_that_is_none_of_the_four_is_refused_whatever_its_media_type_says(data):
    assert "PNG, JPEG, WebP or GIF" in refused(url_of(data))


def test_an_image_over_the_bound_is_refused(monkeypatch):
    monkeypatch.setattr(images, "MAX_IMAGE_BYTES", len(PNG))
    Images().add_url(url_of(PNG), "here")
    assert "too large" in refused(url_of(PNG + b"\0"))
    assert "too large" in refused(url_of(PNG * 3))


def test_an_image_too_many_is_refused():
    seen = Images()
    for _ in range(images.MAX_IMAGES):
        seen.add(PNG, "here")
    with pytest.raises(ImageError, match="64 images"):
        seen.add(PNG, "here")


def test_images_that_are_too_much_together_are_refused(monkeypatch):
    monkeypatch.setattr(images, "MAX_IMAGES_BYTES", 2 * len(PNG))
    seen = Images()
    for _ in range(2):
        seen.add(PNG, "here")
    with pytest.raises(ImageError, match="too much"):
        seen.add(PNG, "here")


# marks


def test_there_is_no_mark_without_an_image():
    assert Images().mark == ""


def test_a_mark_is_one_of_its_conversation_and_not_to_be_guessed():
    one, other = Images(), Images()
    assert one.add(PNG, "here") == one.add(BLUE, "here") == one.mark
    assert re.fullmatch(r"<image-[0-9a-f]{32}>", one.mark)
    assert other.add(PNG, "here") != one.mark


def test_texts_are_joined_by_line_ends_and_nothing_goes_around_a_mark():
    seen = Images()
    assert seen.join(["", "a", "b"]) == "\na\nb"
    mark = seen.add(PNG, "here")
    assert seen.join(["a", mark, "b", "c", mark, mark]) == f"a{mark}b\nc{mark}{mark}"
    # the mark may be made while the parts are
    late = Images()
    joined = late.join(part() for part in [lambda: "a", lambda: late.add(PNG, "x"), lambda: "b"])
    assert joined == f"a{late.mark}b"


# messages of the library


def user(content: str, *seen: bytes) -> Message:
    return Message(role="user", content=content, images=list(seen))


def test_the_images_of_messages_go_before_their_texts_in_order():
    prompt = gathered(ChatPrompt(messages=[user("One?", PNG, BLUE), user("None"), user("", PNG)]))
    mark = prompt.image_mark
    assert [message.content for message in prompt.messages] == [f"{mark}{mark}One?", "None", mark]
    assert prompt.images == [PNG, BLUE, PNG]
    assert not any(message.images for message in prompt.messages)


def test_a_conversation_without_images_stays_as_it_is():
    prompt = ChatPrompt(messages=[user("Hi")])
    assert gathered(prompt) is prompt
    marked = ChatPrompt(messages=[user("<m>")], images=[PNG], image_mark="<m>")
    assert gathered(marked) is marked


@pytest.mark.parametrize("role", ["system", "assistant"])
def test_images_belong_to_users_and_tools(role):
    with pytest.raises(ImageError, match="user or tool") as caught:
        gathered(ChatPrompt(messages=[user("Hi"), Message(role=role, images=[PNG])]))
    assert caught.value.param == "messages[1].images"


def test_a_files_name_in_its_place_is_refused():
    with pytest.raises(ImageError, match="bytes of an image file"):
        gathered(ChatPrompt(messages=[user("Hi", "cat.png")]))


def test_a_message_with_what_is_no_image_is_named():
    with pytest.raises(ImageError) as caught:
        gathered(ChatPrompt(messages=[user("Hi", PNG, b"text")]))
    assert caught.value.param == "messages[0].images[1]"


def test_images_in_two_places_are_refused():
    prompt = ChatPrompt(messages=[user("<m>", PNG)], images=[PNG], image_mark="<m>")
    with pytest.raises(ImageError, match="in one place"):
        gathered(prompt)


def test_a_data_url_says_what_the_file_is():
    for media_type, data in BEGINNINGS.items():
        assert data_url(data, "here") == url_of(data, media_type)
    with pytest.raises(ImageError, match="here"):
        data_url(b"text", "here")


class Link:
    """Takes requests down."""

    def __init__(self) -> None:
        self.asked: list = []

    def submit(self, _id, request):
        self.asked.append(request.prompt)

    async def ask(self, command, _kind):
        self.asked.append(command.prompt)


async def test_an_engine_hands_the_images_of_messages_down_by_marks():
    link = Link()
    engine = Engine(link, "solo")
    engine.stream_chat([user("What is it?", PNG)], system="Be brief.")
    await engine.render(ChatPrompt(messages=[user("What is it?", PNG)]))
    for prompt in link.asked:
        assert prompt.images == [PNG]
        assert prompt.messages[-1] == Message(
            role="user", content=f"{prompt.image_mark}What is it?"
        )
