"""Images through the shim: what a projector makes of them, and rows that take it in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shimmy.errors import ClosedError, InvalidRequestError, LlamaError, ModelLoadError
from shimmy.llama import Batch, Context, ContextParams, Model
from shimmy.llama._ffi import check, ffi, lib
from shimmy.llama.projector import Picture, Projector, ProjectorParams, projector_size
from shimmy.llama.row_sampler import RowSampler
from shimmy.llama.stepper import StepCode, Stepper
from shimmy.worker.cells import Cells
from tests.support.vision import Kind, make_pair, picture

KINDS: tuple[Kind, ...] = ("llava", "qwen2vl", "gemma3")
GREEDY = b'{"temperature": 0, "seed": 1, "ignore_eos": true}'
BEFORE, AFTER = "the quick brown fox", " jumps over"

Pair = tuple[Path, Path]


@pytest.fixture(scope="session")
def pair_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Kind], Pair]:
    """Return a function that writes each kind once."""
    made: dict[Kind, Pair] = {}

    def make(kind: Kind) -> Pair:
        if kind not in made:
            made[kind] = make_pair(kind, tmp_path_factory.mktemp(kind))
        return made[kind]

    return make


@pytest.fixture(params=KINDS)
def seeing(
    request: pytest.FixtureRequest, pair_of: Callable[[Kind], Pair]
) -> Iterator[tuple[Model, Projector]]:
    text, mmproj = pair_of(request.param)
    with Model.load(text) as model, Projector(model, mmproj, ProjectorParams(n_threads=1)) as it:
        yield model, it


def new_context(model: Model, *, n_ctx: int = 512, n_ubatch: int = 256) -> Context:
    params = ContextParams(
        n_ctx=n_ctx, n_batch=n_ubatch, n_ubatch=n_ubatch, n_seq_max=4, kv_unified=True
    )
    return Context(model, params)


def pixels(seed: int) -> tuple[bytes, int, int]:
    image = Image.open(BytesIO(picture(seed, 96, 64))).convert("RGB")
    return image.tobytes(), image.width, image.height


class Prompt:
    """A text with an image in it, as a row takes it."""

    def __init__(self, model: Model, projector: Projector, seed: int, first_id: int = -2) -> None:
        self.picture = Picture(projector, *pixels(seed))
        projector.encode(self.picture)
        self.tokens = self._text(model, BEFORE)
        self.media: list[tuple[int, Picture, int]] = []
        for i, piece in enumerate(self.picture.pieces):
            if piece.is_medium:
                self.media.append((len(self.tokens), self.picture, i))
            self.tokens += piece.tokens or [first_id - i] * piece.n_cells
        self.tokens += self._text(model, AFTER)

    @staticmethod
    def _text(model: Model, text: str) -> list[int]:
        return list(model.vocab.tokenize(text, add_special=False, parse_special=True))

    @property
    def bites(self) -> list[int]:
        """What each step feeds: text, the image, text."""
        ((start, shown, piece),) = self.media
        n_cells = shown.pieces[piece].n_cells
        return [start, n_cells, len(self.tokens) - start - n_cells]


def open_row(stepper: Stepper, model: Model, prompt: Prompt, row: int = 0, **more: int) -> None:
    sampler = RowSampler(model, GREEDY, n_ctx=512)
    more.setdefault("seq_id", row)
    stepper.open_row(row, prompt.tokens, n_ctx=512, sampler=sampler, media=prompt.media, **more)


def feed(stepper: Stepper, bites: list[int], row: int = 0) -> list[int]:
    """Feed a row's bites; return what it sampled in the last."""
    events = []
    for n_tokens in bites:
        code, events = stepper.step([(row, n_tokens)])
        assert code is StepCode.OK
    return [event.token for event in events if event.token is not None]


def generate(stepper: Stepper, prompt: Prompt, n: int = 12, row: int = 0) -> list[int]:
    tokens = feed(stepper, prompt.bites, row)
    while len(tokens) < n:
        tokens += feed(stepper, [1], row)
    return tokens


def reference(model: Model, projector: Projector, seed: int, n: int = 12) -> list[int]:
    """Return the likeliest tokens after what llama.cpp's own helper has fed."""
    data, width, height = pixels(seed)
    tokens: list[int] = []
    ends = list(model.vocab.eog_tokens)
    with new_context(model) as context:
        n_past = check(
            lib.shm_picture_reference(
                projector.ptr,
                context.ptr,
                BEFORE.encode(),
                AFTER.encode(),
                ffi.from_buffer("uint8_t[]", data),
                width,
                height,
            ),
            "the reference",
        )
        while len(tokens) < n:
            logits = context.logits()
            logits[ends] = -np.inf
            tokens.append(int(logits.argmax()))
            context.decode(Batch.of([tokens[-1]], pos=n_past + len(tokens) - 1))
    return tokens


def test_a_row_with_an_image_says_what_llama_cpps_own_helper_makes_of_it(
    seeing: tuple[Model, Projector],
) -> None:
    model, projector = seeing
    said = []
    for seed in (1, 2):
        with new_context(model) as context, Stepper(context, 1) as stepper:
            prompt = Prompt(model, projector, seed)
            open_row(stepper, model, prompt)
            said.append(generate(stepper, prompt))
        assert said[-1] == reference(model, projector, seed)
    assert said[0] != said[1], "the image makes no difference"


def test_a_rewound_row_takes_its_image_in_again(seeing: tuple[Model, Projector]) -> None:
    model, projector = seeing
    with new_context(model) as context, Stepper(context, 1) as stepper:
        prompt = Prompt(model, projector, 1)
        open_row(stepper, model, prompt)
        said = generate(stepper, prompt, 6)
        assert stepper.rewind_row(0) == len(prompt.tokens) + 6
        start, n_image, n_text = prompt.bites
        said += feed(stepper, [start, n_image, n_text + 6])
        while len(said) < 12:
            said += feed(stepper, [1])
    assert said == reference(model, projector, 1)


def test_rows_share_an_image_that_one_of_them_has_taken_in(
    seeing: tuple[Model, Projector],
) -> None:
    model, projector = seeing
    with new_context(model) as context, Stepper(context, 2) as stepper:
        prompt = Prompt(model, projector, 1)
        open_row(stepper, model, prompt)
        feed(stepper, prompt.bites[:2])
        n_shared = sum(prompt.bites[:2])
        open_row(stepper, model, prompt, 1, source=0, n_past=n_shared)
        said = feed(stepper, prompt.bites[2:], 1)
        while len(said) < 12:
            said += feed(stepper, [1], 1)
    assert said == reference(model, projector, 1)


def test_an_image_is_fed_beside_rows_that_generate(seeing: tuple[Model, Projector]) -> None:
    model, projector = seeing
    with new_context(model) as context, Stepper(context, 2) as stepper:
        prompt = Prompt(model, projector, 1)
        open_row(stepper, model, prompt)
        said = generate(stepper, prompt, 1)
        second = Prompt(model, projector, 2)
        open_row(stepper, model, second, 1)
        for n_tokens in second.bites:
            _, events = stepper.step([(0, 1), (1, n_tokens)])
            said += [e.token for e in events if e.row == 0 and e.token is not None]
        while len(said) < 12:
            said += feed(stepper, [1])
    assert said == reference(model, projector, 1)


def test_a_step_without_room_for_an_image_changes_nothing(seeing: tuple[Model, Projector]) -> None:
    model, projector = seeing
    prompt = Prompt(model, projector, 1)
    with new_context(model, n_ctx=256) as context, Stepper(context, 3) as stepper:
        n_cells = context.n_ctx - sum(prompt.bites[:2]) + 1
        filler = RowSampler(model, GREEDY, n_ctx=512)
        stepper.open_row(2, [5] * (n_cells + 1), seq_id=2, n_ctx=512, sampler=filler)
        feed(stepper, [n_cells], 2)
        open_row(stepper, model, prompt)
        feed(stepper, prompt.bites[:1])
        assert stepper.step([(0, prompt.bites[1])]) == (StepCode.KV_FULL, [])
        # the image comes first in a step: it fits, and what comes with it does not
        stepper.close_row(2)
        context.memory.seq_rm(2, n_cells - prompt.bites[1] + 1)
        filler = RowSampler(model, GREEDY, n_ctx=512)
        n_left = n_cells - prompt.bites[1] + 1
        stepper.open_row(2, [5] * (n_left + 99), seq_id=2, n_past=n_left, n_ctx=512, sampler=filler)
        code, _ = stepper.step([(0, prompt.bites[1]), (2, 50)])
        assert code is StepCode.KV_FULL
        assert context.memory.last(0) == prompt.bites[0] - 1
        stepper.close_row(2)
        stepper.remove_sequence(2)
        said = feed(stepper, prompt.bites[1:])
        while len(said) < 12:
            said += feed(stepper, [1])
    assert said == reference(model, projector, 1)


def test_an_image_is_fed_whole_and_by_itself(seeing: tuple[Model, Projector]) -> None:
    model, projector = seeing
    with new_context(model) as context, Stepper(context, 1) as stepper:
        prompt = Prompt(model, projector, 1)
        open_row(stepper, model, prompt)
        start, n_image, _ = prompt.bites
        with pytest.raises(InvalidRequestError, match="a part of a medium"):
            stepper.step([(0, start + 1)])
        feed(stepper, [start])
        for n_tokens in (n_image - 1, n_image + 1):
            with pytest.raises(InvalidRequestError, match="a part of a medium"):
                stepper.step([(0, n_tokens)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.tokens.__setitem__(p.media[0][0] - 1, -2), "not in the vocabulary"),
        (lambda p: p.tokens.__setitem__(p.media[0][0], 5), "not below 0"),
        (lambda p: p.media.append(p.media[0]), "overlap"),
        (lambda p: p.media.__setitem__(0, (10_000, *p.media[0][1:])), "end a prompt"),
        (lambda p: p.media.__setitem__(0, (*p.media[0][:2], 99)), "no such piece"),
        (lambda p: p.media.clear(), "not in the vocabulary"),
    ],
)
def test_a_row_refuses_media_that_do_not_lie_where_its_tokens_say(
    pair_of: Callable[[Kind], Pair], change: Callable[[Prompt], None], message: str
) -> None:
    text, mmproj = pair_of("llava")
    with (
        Model.load(text) as model,
        Projector(model, mmproj, ProjectorParams()) as projector,
        new_context(model) as context,
        Stepper(context, 1) as stepper,
    ):
        prompt = Prompt(model, projector, 1)
        change(prompt)
        with pytest.raises(InvalidRequestError, match=message):
            open_row(stepper, model, prompt)


def test_a_picture_that_was_not_computed_is_no_rows(pair_of: Callable[[Kind], Pair]) -> None:
    text, mmproj = pair_of("llava")
    with (
        Model.load(text) as model,
        Projector(model, mmproj, ProjectorParams()) as projector,
        new_context(model) as context,
        Stepper(context, 1) as stepper,
    ):
        prompt = Prompt(model, projector, 1)
        blank = Picture(projector, *pixels(1))
        prompt.media = [(start, blank, piece) for start, _, piece in prompt.media]
        with pytest.raises(InvalidRequestError, match="without embeddings"):
            open_row(stepper, model, prompt)


def test_what_sees_itself_whole_must_fit_into_a_ubatch(pair_of: Callable[[Kind], Pair]) -> None:
    text, mmproj = pair_of("gemma3")
    with (
        Model.load(text) as model,
        Projector(model, mmproj, ProjectorParams()) as projector,
        new_context(model, n_ubatch=8) as context,
        Stepper(context, 1) as stepper,
    ):
        prompt = Prompt(model, projector, 1)
        assert [piece.whole for piece in prompt.picture.pieces if piece.is_medium] == [True]
        with pytest.raises(InvalidRequestError, match="larger than n_ubatch"):
            open_row(stepper, model, prompt)


def test_a_row_with_an_image_neither_shifts_nor_is_scored(
    pair_of: Callable[[Kind], Pair],
) -> None:
    text, mmproj = pair_of("llava")
    with (
        Model.load(text) as model,
        Projector(model, mmproj, ProjectorParams()) as projector,
        new_context(model) as context,
        Stepper(context, 1) as stepper,
    ):
        prompt = Prompt(model, projector, 1)
        with pytest.raises(InvalidRequestError, match="does not shift"):
            open_row(stepper, model, prompt, shifts=True)
        with pytest.raises(InvalidRequestError, match="not scored"):
            open_row(stepper, model, prompt, prompt_logprobs=0)
        open_row(stepper, model, prompt)
        feed(stepper, prompt.bites)
        with pytest.raises(InvalidRequestError, match="does not shift"):
            stepper.shift_row(0, 1, 2, move=True)


def test_an_image_as_large_as_a_projector_takes_becomes_more_tokens_than_a_batch(
    pair_of: Callable[[Kind], Pair],
) -> None:
    text, mmproj = pair_of("qwen2vl")
    with (
        Model.load(text) as model,
        Projector(model, mmproj, ProjectorParams(image_max_tokens=64)) as projector,
        new_context(model, n_ubatch=16) as context,
        Stepper(context, 1) as stepper,
    ):
        image = Image.open(BytesIO(picture(3, 256, 256))).convert("RGB")
        shown = Picture(projector, image.tobytes(), 256, 256)
        projector.encode(shown)
        n_cells = [piece.n_cells for piece in shown.pieces if piece.is_medium]
        assert n_cells == [64]
        assert n_cells[0] > context.n_batch
        tokens = [5, *[-2] * 64, 6]
        piece = next(i for i, piece in enumerate(shown.pieces) if piece.is_medium)
        sampler = RowSampler(model, GREEDY, n_ctx=512)
        stepper.open_row(0, tokens, seq_id=0, n_ctx=512, sampler=sampler, media=[(1, shown, piece)])
        assert len(feed(stepper, [1, 64, 1])) == 1
        # positions in two dimensions: 8 x 8 tokens are 8 positions
        assert context.memory.last(0) == 1 + 8


def test_bounds_of_an_images_tokens(pair_of: Callable[[Kind], Pair]) -> None:
    text, mmproj = pair_of("qwen2vl")
    counts = {}
    with Model.load(text) as model:
        for most in (16, 64):
            with Projector(model, mmproj, ProjectorParams(image_max_tokens=most)) as projector:
                image = Image.open(BytesIO(picture(3, 512, 512))).convert("RGB")
                shown = Picture(projector, image.tobytes(), 512, 512)
                counts[most] = sum(p.n_cells for p in shown.pieces if p.is_medium)
    assert counts == {16: 16, 64: 64}


def test_a_model_that_is_closed_waits_for_the_image_that_is_computed(
    pair_of: Callable[[Kind], Pair],
) -> None:
    text, mmproj = pair_of("qwen2vl")
    with Model.load(text) as model:
        projector = Projector(model, mmproj, ProjectorParams(n_threads=1))
        image = Image.open(BytesIO(picture(3, 640, 640))).convert("RGB")
        first, second = (Picture(projector, image.tobytes(), 640, 640) for _ in range(2))
        with ThreadPoolExecutor(1) as pool:
            computed = pool.submit(projector.encode, first)
            while not (projector._n_users or computed.done()):
                time.sleep(0.001)
            model.close()
            assert computed.done() or not projector._n_users
            assert computed.result() > 0
        with pytest.raises(ClosedError):
            projector.encode(second)
        with pytest.raises(ClosedError):
            Picture(projector, image.tobytes(), 640, 640)


def test_a_projector_says_what_it_takes(pair_of: Callable[[Kind], Pair]) -> None:
    _, mmproj = pair_of("llava")
    assert projector_size(mmproj, ProjectorParams()) > mmproj.stat().st_size // 2
    with pytest.raises(ModelLoadError, match="could not read the projector"):
        projector_size(mmproj.parent / "none.gguf", ProjectorParams())


def test_what_is_no_projector_is_refused(pair_of: Callable[[Kind], Pair], tmp_path: Path) -> None:
    text, mmproj = pair_of("llava")
    other, _ = pair_of("qwen2vl")
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(mmproj.read_bytes()[:3000])
    with Model.load(text) as model:
        for path in (text, damaged, tmp_path / "none.gguf"):
            with pytest.raises(ModelLoadError, match="could not load the projector"):
                Projector(model, path, ProjectorParams())
        with pytest.raises(InvalidRequestError, match="device: there is none of this name"):
            Projector(model, mmproj, ProjectorParams(device="none"))
    with Model.load(other) as model, Projector(model, mmproj, ProjectorParams()) as projector:
        assert projector.sees  # as wide as this model by chance


def test_pixels_that_are_no_image_are_refused(pair_of: Callable[[Kind], Pair]) -> None:
    text, mmproj = pair_of("llava")
    with Model.load(text) as model, Projector(model, mmproj, ProjectorParams()) as projector:
        with pytest.raises(InvalidRequestError, match="bytes are not 2x2"):
            Picture(projector, b"12345", 2, 2)
        with pytest.raises(InvalidRequestError, match="without pixels"):
            Picture(projector, b"", 0, 0)


def test_a_sequence_with_an_image_is_restored_whole(seeing: tuple[Model, Projector]) -> None:
    model, projector = seeing
    prompt = Prompt(model, projector, 1)
    before = prompt.bites[0] + prompt.bites[1] + 1  # of the text behind it
    with new_context(model) as context, Stepper(context, 2) as stepper:
        cells = Cells(context)
        open_row(stepper, model, prompt)
        feed(stepper, [*prompt.bites[:2], 1])
        state = cells.save(0)
        expected = feed(stepper, [prompt.bites[2] - 1])
        stepper.close_row(0)
        cells.remove(0)
        cells.restore(1, state, before, with_media=True)
        open_row(stepper, model, prompt, row=1, n_past=before)
        assert feed(stepper, [prompt.bites[2] - 1], row=1) == expected
        with pytest.raises(LlamaError, match="not that of"):
            cells.restore(1, state, before - prompt.bites[1], with_media=True)
