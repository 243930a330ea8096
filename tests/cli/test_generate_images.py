"""`shimmy generate --image`: what is shown, and what is said of files and models that cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shimmy.engine import images
from tests.support.vision import make_pair, picture

ASK = ("--prompt", "What is this?", "-t", "1", "--temperature", "0", "--max-tokens", "12")


@pytest.fixture(scope="session")
def eyes(tmp_path_factory) -> Path:
    """A model with its projector beside it."""
    return make_pair("llava", tmp_path_factory.mktemp("eyes"))[0]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{name}.png" for name in ("one", "two")]
    for seed, path in enumerate(paths):
        path.write_bytes(picture(seed, 64, 48))
    return paths


def shown(paths: list[Path]) -> list[str]:
    return [word for path in paths for word in ("--image", str(path))]


def test_the_model_sees_the_images_in_their_order(shimmy, eyes, pictures):
    one, two = pictures
    lists = ([], [one], [two], [one, two], [two, one])
    results = [shimmy("generate", eyes, *ASK, *shown(paths), "--json") for paths in lists]
    assert [result.exit_code for result in results] == [0] * 5, results[1].output
    answers = [json.loads(result.stdout) for result in results]
    assert len({answer["text"] for answer in answers}) == 5
    none, first, _, both, _ = (answer["usage"]["prompt_tokens"] for answer in answers)
    assert first == none + 16
    assert both == none + 32


def test_the_images_come_after_the_system_message(shimmy, eyes, pictures):
    result = shimmy("generate", eyes, *ASK, *shown(pictures), "--system", "Be brief.")
    assert result.exit_code == 0
    assert result.stdout != shimmy("generate", eyes, *ASK, *shown(pictures)).stdout


def test_the_prompt_beside_an_image_may_come_from_stdin(shimmy, eyes, pictures):
    args = ("-t", "1", "--temperature", "0", "--max-tokens", "12", *shown(pictures))
    piped = shimmy("generate", eyes, *args, stdin="What is this?\n")
    assert piped.stdout == shimmy("generate", eyes, *ASK, *shown(pictures)).stdout


def test_an_image_file_that_is_not_there_is_a_mistake_of_the_flags(shimmy, eyes, pictures):
    result = shimmy("generate", eyes, *ASK, *shown(pictures), "--image", "nowhere.png")
    assert result.exit_code == 2
    assert "'--image': image file nowhere.png not found" in result.stderr


@pytest.mark.parametrize(("data", "words"), [(b"no image", "is not a PNG"), (b"", "is empty")])
def test_a_file_that_is_no_image_is_a_mistake_of_the_flags(shimmy, eyes, tmp_path, data, words):
    path = tmp_path / "x.png"
    path.write_bytes(data)
    result = shimmy("generate", eyes, *ASK, "--image", path)
    assert result.exit_code == 2
    assert f"'--image': {path} {words}" in result.stderr


def test_a_file_that_is_too_large_is_not_read(shimmy, eyes, pictures, tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(pictures[0].read_bytes())
    with path.open("r+b") as file:
        file.truncate(100 * images.MAX_IMAGE_BYTES)
    result = shimmy("generate", eyes, *ASK, "--image", path)
    assert result.exit_code == 2
    assert "is too large: an image may have 20 MiB" in result.stderr


def test_a_damaged_image_is_named_by_its_file(shimmy, eyes, pictures, tmp_path):
    path = tmp_path / "damaged.png"
    path.write_bytes(pictures[0].read_bytes()[:100])
    result = shimmy("generate", eyes, *ASK, *shown(pictures), "--image", path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: --image {path} is not a PNG, JPEG, WebP or GIF image")


def test_images_are_not_shown_raw(shimmy, eyes, pictures):
    result = shimmy("generate", eyes, *ASK, *shown(pictures), "--raw")
    assert result.exit_code == 2
    assert "--raw cannot be used with --image" in result.stderr


def test_a_model_that_sees_none_is_not_loaded(shimmy, tiny, pictures):
    result = shimmy("generate", tiny, *ASK, *shown(pictures))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "--image: tiny sees no images" in result.stderr
    assert "--mmproj" in result.stderr


def test_a_model_that_is_kept_blind_says_by_what(shimmy, eyes, pictures):
    result = shimmy("generate", eyes, *ASK, *shown(pictures), "--no-mmproj")
    assert result.exit_code == 1
    assert "--image: tiny-llava sees no images" in result.stderr
    assert "--no-mmproj" in result.stderr


def test_a_projector_that_was_cut_short_is_none(shimmy, pictures, tmp_path):
    model, mmproj = make_pair("llava", tmp_path)
    mmproj.write_bytes(mmproj.read_bytes()[:-4000])
    result = shimmy("generate", model, *ASK, *shown(pictures))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "sees no images: no projector lies with it that can be used" in result.stderr


def damaged(mmproj: Path, name: bytes) -> None:
    """Give a tensor a name that nobody knows; the header is still whole."""
    mmproj.write_bytes(mmproj.read_bytes().replace(name, name.replace(b".", b"_")))


def test_a_projector_that_was_found_and_does_not_load_is_the_error(shimmy, pictures, tmp_path):
    model, mmproj = make_pair("llava", tmp_path)
    damaged(mmproj, b"v.blk.0.attn_out.weight")
    assert shimmy("generate", model, *ASK).exit_code == 0
    result = shimmy("generate", model, *ASK, *shown(pictures))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "could not load the projector" in result.stderr


def test_a_projector_at_which_the_worker_dies_is_an_error_only_where_it_is_asked_for(
    shimmy, pictures, tmp_path
):
    model, mmproj = make_pair("llava", tmp_path)
    # llama.cpp takes this one as given
    damaged(mmproj, b"mm.2.weight")
    for asked in (shown(pictures), ["--mmproj", mmproj]):
        result = shimmy("generate", model, *ASK, *asked)
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"with the projector {mmproj} (--no-mmproj" in result.stderr
    blind = shimmy("generate", model, *ASK, "--no-mmproj")
    found = shimmy("generate", model, *ASK)
    assert (found.exit_code, found.stdout) == (0, blind.stdout)
