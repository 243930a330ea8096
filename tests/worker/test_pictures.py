"""Image files, as they are read before a model sees them; what is kept of them."""

from __future__ import annotations

import random
import weakref
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from shimmy.errors import InvalidRequestError
from shimmy.worker import pictures
from shimmy.worker.pictures import Pictures, read_image

RED, WHITE, BLUE = (255, 0, 0), (255, 255, 255), (0, 0, 255)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def two_pixels(mode: str = "RGB") -> Image.Image:
    image = Image.new("RGB", (2, 1), BLUE)
    image.putpixel((0, 0), RED)
    return image.convert(mode)


def pixels(image: Image.Image) -> list[Any]:
    return [image.getpixel((x, y)) for y in range(image.height) for x in range(image.width)]


@pytest.mark.parametrize(
    ("form", "mode"),
    [("PNG", "RGB"), ("PNG", "P"), ("GIF", "P"), ("WEBP", "RGB"), ("PNG", "RGBA")],
)
def test_formats_that_keep_colours_give_these(form: str, mode: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    image = read_image(encoded(two_pixels(mode), form, **options), "image 1")
    assert (image.mode, pixels(image)) == ("RGB", [RED, BLUE])


def test_a_jpeg_gives_about_its_colours() -> None:
    image = read_image(encoded(Image.new("RGB", (16, 16), RED), "JPEG"), "image 1")
    red, green, blue = image.getpixel((8, 8))  # type: ignore[misc]
    assert red > 240
    assert max(green, blue) < 16


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "I;16", "LA", "YCbCr"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    form = {"CMYK": "JPEG", "YCbCr": "JPEG"}.get(mode, "PNG")
    image = read_image(encoded(Image.new(mode, (3, 2)), form), "image 1")
    assert (image.mode, image.size) == ("RGB", (3, 2))


def test_a_photo_taken_sideways_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    image = read_image(encoded(Image.new("RGB", (40, 10)), "JPEG", exif=exif), "image 1")
    assert image.size == (10, 40)


def test_what_is_transparent_is_white() -> None:
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (*BLUE, 255))
    assert pixels(read_image(encoded(image, "PNG"), "image 1")) == [WHITE, BLUE]


def test_an_animation_is_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert pixels(read_image(data, "image 1"))[0] == RED


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a",
        b"%PDF-1.7",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        encoded(two_pixels(), "BMP"),
        encoded(two_pixels(), "TIFF"),
        encoded(two_pixels(), "ICO"),
        encoded(two_pixels(), "EPS"),
        encoded(Image.new("RGB", (64, 64)), "PNG")[:-30],
        encoded(Image.new("RGB", (640, 640)), "JPEG")[:300],
    ],
    ids=["nothing", "a-head", "pdf", "svg", "bmp", "tiff", "ico", "eps", "cut-png", "cut-jpeg"],
)
def test_what_is_none_of_the_four_formats_or_damaged_is_refused(data: bytes) -> None:
    with pytest.raises(
        InvalidRequestError, match="image 7 is not a PNG, JPEG, WebP or GIF"
    ) as caught:
        read_image(data, "image 7")
    assert caught.value.param == "messages"


def test_an_image_of_too_many_pixels_is_refused_before_they_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = encoded(Image.new("1", (9000, 9000)), "PNG")
    assert len(data) < 50_000
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("read"))
    with pytest.raises(InvalidRequestError, match="9000x9000 pixels are more than 64000000"):
        read_image(data, "image 1")


@pytest.mark.parametrize("size", [(201, 1), (1, 201), (16_000_000, 1)])
def test_a_strip_is_refused_before_it_is_read(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # qwen2vl would make 256000 tokens of the last, whatever --image-max-tokens says, in gigabytes
    data = encoded(Image.new("1", size), "PNG")
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("read"))
    with pytest.raises(InvalidRequestError, match="more than 200 times the other"):
        read_image(data, "image 1")


@pytest.mark.parametrize("size", [(200, 1), (1, 200)])
def test_a_narrow_image_is_read(size: tuple[int, int]) -> None:
    assert read_image(encoded(Image.new("1", size), "PNG"), "image 1").size == size


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
def test_damaged_files_raise_nothing_but_a_refusal(form: str) -> None:
    rng = random.Random(form)
    whole = encoded(Image.effect_noise((24, 24), 50).convert("RGB"), form)
    n_refused = 0
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            image = read_image(bytes(data[: rng.randint(1, len(data))]), "image 1")
        except InvalidRequestError:
            n_refused += 1
        else:
            assert image.mode == "RGB"
    assert n_refused > 10


class FakeProjector:
    """Counts what is computed."""

    n_encoded = 0

    def encode(self, picture: object) -> int:
        self.n_encoded += 1
        return 100


class FakePicture:
    """A picture of one medium."""

    def __init__(self, *_: object) -> None:
        self.pieces = [FakePiece()]


class FakePiece:
    """Embeddings in three cells."""

    is_medium = True
    whole = False
    n_cells = 3


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], tuple[Pictures, FakeProjector]]:
    monkeypatch.setattr(pictures, "Picture", FakePicture)

    def made(max_bytes: int) -> tuple[Pictures, FakeProjector]:
        projector = FakeProjector()
        return Pictures(projector, n_ubatch=512, max_bytes=max_bytes, max_live=300), projector  # type: ignore[arg-type]

    return made


Make = Callable[[int], tuple[Pictures, FakeProjector]]


def image(red: int) -> bytes:
    return encoded(Image.new("RGB", (4, 4), (red, 0, 0)), "PNG")


def test_an_image_is_computed_once_and_has_its_own_tokens(make: Make) -> None:
    seeing, projector = make(1000)
    tokens = []
    for red in (1, 2, 1):
        seen = seeing.see(image(red), "image 1")
        seeing.compute(seen)
        tokens.append(seen.tokens)
    assert tokens == [[[-2] * 3], [[-3] * 3], [[-2] * 3]]
    assert projector.n_encoded == 2


def test_an_image_that_comes_twice_before_it_is_computed_has_the_same_tokens(make: Make) -> None:
    seeing, projector = make(1000)
    first, again = (seeing.see(image(1), "image 1") for _ in range(2))
    assert first.tokens is again.tokens
    for seen in (first, again):
        seeing.compute(seen)
    assert projector.n_encoded == 1


def test_an_image_that_is_only_counted_is_not_kept(make: Make) -> None:
    seeing, projector = make(1000)
    gone = weakref.ref(seeing.see(image(1), "image 1"))
    assert gone() is None
    assert projector.n_encoded == 0


def test_the_image_seen_longest_ago_is_forgotten_first(make: Make) -> None:
    seeing, projector = make(200)
    for red in (1, 2, 1, 3, 1, 2):
        seeing.compute(seeing.see(image(red), "image 1"))
    assert projector.n_encoded == 4  # the second twice


def test_an_image_that_is_computed_again_has_the_tokens_that_it_had(make: Make) -> None:
    seeing, projector = make(100)
    tokens = []
    for red in (1, 2, 1, 3):
        seen = seeing.see(image(red), "image 1")
        seeing.compute(seen)
        tokens.append(seen.tokens)
        del seen
    assert projector.n_encoded == 4
    assert tokens == [[[-2] * 3], [[-3] * 3], [[-2] * 3], [[-4] * 3]]


def test_the_tokens_of_an_image_that_is_long_forgotten_are_no_other_images(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "MAX_IDS", 2)
    seeing, _ = make(100)
    tokens = [seeing.see(image(red), "image 1").tokens for red in (1, 2, 1, 3, 1, 2)]
    assert [first for ((first, *_),) in tokens] == [-2, -3, -2, -4, -2, -5]


def test_no_more_is_computed_while_requests_hold_too_many_embeddings(make: Make) -> None:
    seeing, _ = make(100)
    held = []
    for red in (1, 2, 3):
        seen = seeing.see(image(red), "image 1")
        seeing.compute(seen)
        held.append(seen.picture)
    asked = []
    # it gives up when it is not wanted any more, and goes on when a request has ended
    seeing.await_room(lambda: asked.append(True) or len(asked) < 3)  # type: ignore[func-returns-value]
    assert len(asked) == 3
    del held[0]
    seeing.await_room(lambda: pytest.fail("there is room"))
