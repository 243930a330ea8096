"""Which template a model gets: by llama.cpp's name, from a file, as text, or one that fits its tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import pytest

from shimmy.engine.types.prompt import ChatPrompt, Message, Tool
from shimmy.engine.types.sampling import SamplingParams
from shimmy.errors import ConfigError
from shimmy.llama import Model
from shimmy.llama.chat import ChatTemplate, built_in_templates
from shimmy.worker.chat import ChatRenderer
from shimmy.worker.template import template_source
from tests.support import templates
from tests.support.tiny_gguf import vocabulary, write_model

TALK = [
    Message(role="user", content="hi"),
    Message(role="assistant", content="hello"),
    Message(role="user", content="so?"),
]
OPENCHAT = (
    "GPT4 Correct User: hi<|end_of_turn|>GPT4 Correct Assistant: hello<|end_of_turn|>"
    "GPT4 Correct User: so?<|end_of_turn|>GPT4 Correct Assistant:"
)
LLAMA3 = (
    "<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nhello<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nso?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)


@pytest.fixture
def model(tiny_gguf: Path) -> Iterator[Model]:
    with Model.load(tiny_gguf) as model:
        yield model


def prompt(model: Model, given: str | None, **fields: Any) -> str:
    with ChatTemplate(model, template_source(model, given)) as template:
        renderer = ChatRenderer(model.vocab, template)
        return renderer.render(ChatPrompt(**{"messages": TALK} | fields), SamplingParams())[
            0
        ].prompt


def test_a_template_can_be_named(model: Model) -> None:
    assert prompt(model, "openchat") == OPENCHAT
    assert prompt(model, "llama3") == LLAMA3
    assert prompt(model, "chatml").endswith("<|im_end|>\n<|im_start|>assistant\n")


def test_every_name_of_llama_cpp_renders(model: Model) -> None:
    names = built_in_templates()
    assert {"chatml", "llama2", "llama3", "openchat", "gemma", "phi3"} <= set(names)
    for name in names:
        assert "so?" in prompt(model, name), name


def test_a_named_template_takes_tools_and_continuations(model: Model) -> None:
    tool = Tool(**templates.SEARCH["function"])
    assert "# Tools" in prompt(model, "openchat", tools=[tool])
    begun = [*TALK, Message(role="assistant", content="Well,")]
    assert prompt(model, "openchat", messages=begun, continue_final=True) == f"{OPENCHAT}Well,"


def test_a_template_can_be_a_file_or_its_text(model: Model, tmp_path: Path) -> None:
    text = "{% for m in messages %}[{{ m.content }}]{% endfor %}"
    (tmp_path / "x.jinja").write_text(text)
    assert prompt(model, text) == prompt(model, str(tmp_path / "x.jinja")) == "[hi][hello][so?]"


def test_what_is_no_template_names_the_flag(model: Model) -> None:
    with pytest.raises(ConfigError, match=r"'no-such' is no file.*openchat") as caught:
        template_source(model, "no-such")
    assert caught.value.param == "--chat-template"


@pytest.mark.parametrize(
    ("token", "expected"),
    [("<|start_header_id|>", LLAMA3), ("<|end_of_turn|>", OPENCHAT), (None, None)],
)
def test_a_model_without_a_template_gets_one_that_fits_its_tokens(
    tmp_path: Path, token: str | None, expected: str | None
) -> None:
    tokens = list(vocabulary()[0])
    if token is not None:
        tokens[tokens.index("<|fim_prefix|>")] = token
    path = write_model(
        tmp_path / "bare.gguf",
        fields={"tokenizer.ggml.tokens": (tokens, gguf.GGUFValueType.ARRAY)},
        drop=("tokenizer.chat_template",),
    )
    with Model.load(path) as model:
        assert prompt(model, None) == (expected or prompt(model, "chatml"))
