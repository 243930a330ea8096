"""Texts that are tokenised in parts have the tokens of the whole, again and again."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest

from shimmy.llama import Model
from shimmy.llama.chat import ChatTemplate
from shimmy.worker.cut_tokens import CutTokens
from tests.support.tiny_gguf import write_model

TURNS = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
WORDS = [
    "the",
    " ",
    "  ",
    "\n",
    "\n\n",
    "wörd",
    "日本",
    "x" * 300,
    "<|",
    "|>",
    "<|im_start",
    "é",
    ".",
]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Model]:
    """Return a function that makes a model with further control tokens, and metadata of the tokenizer's."""

    def make(*specials: str, **adds: bool) -> Model:
        fields = {
            f"tokenizer.ggml.{name}": (value, gguf.GGUFValueType.BOOL)
            for name, value in adds.items()
        }
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.gguf"
        write_model(path, specials=specials, fields=fields)
        return Model.load(path)

    return make


def cuts(model: Model, source: str = TURNS) -> list[str]:
    with ChatTemplate(model, source) as template:
        return template.info().cuts


def talk(rng: random.Random) -> str:
    """Return a text of turns, some of them long, with broken and doubled marks among the words."""
    out = ""
    for _ in range(rng.randrange(12)):
        words = "".join(rng.choices(WORDS, k=rng.randrange(40)))
        out += rng.choice(("<|im_start|>", "", "<|im_start|><|im_start|>")) + words + "<|im_end|>"
    return out + rng.choice(("", "\n", "<|im_start|>", " <|im_start|>assistant\n"))


@pytest.mark.parametrize("adds", [{}, {"add_bos_token": True}, {"add_eos_token": True}])
def test_the_parts_have_the_tokens_of_the_whole(
    make: Callable[..., Model], adds: dict[str, bool]
) -> None:
    rng = random.Random(5)
    with make(**adds) as model:
        known = CutTokens(model.vocab, cuts(model))
        assert cuts(model) == ["<|im_start|>", "<|im_end|>"]
        said = ""
        for _ in range(150):
            said = talk(rng) if rng.random() < 0.2 else said + talk(rng)
            for first in (True, False):
                whole = model.vocab.tokenize(said, add_special=first, parse_special=True)
                assert known.read(said, first=first) == whole


def test_a_beginning_that_comes_again_is_not_read_again(
    make: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    with make() as model:
        vocab, read = model.vocab, []
        known, tokenize = CutTokens(vocab, cuts(model)), vocab.tokenize

        def noted(text: str | bytes, *, add_special: bool, parse_special: bool) -> list[int]:
            read.append(len(text))
            return tokenize(text, add_special=add_special, parse_special=parse_special)

        monkeypatch.setattr(vocab, "tokenize", noted)
        system = "<|im_start|>" + "be brief " * 1000 + "<|im_end|>\n"
        for i in range(3):
            known.read(f"{system}<|im_start|>user\nRequest {i}<|im_end|>\n", first=True)
    assert sum(n > 1000 for n in read) == 1


@pytest.mark.parametrize(
    "special",
    ["<|im_start|>user", "n|><|im_start|>", "|>\n", "\n<|im_sta", "t|>t"],
)
def test_no_cut_is_where_another_token_may_lie_across(
    make: Callable[..., Model], special: str
) -> None:
    with make(special) as model:
        assert "<|im_start|>" not in cuts(model)


def test_what_the_template_does_not_write_is_no_cut(make: Callable[..., Model]) -> None:
    with make("<|other|>") as model:
        assert cuts(model, "{{ messages[0].content }}") == []
        assert cuts(model, "{{ '<|other|>' }}") == ["<|other|>"]
        assert CutTokens(model.vocab, []).read("<|other|>" * 99, first=False) == [
            *model.vocab.tokenize("<|other|>", add_special=False, parse_special=True) * 99
        ]
