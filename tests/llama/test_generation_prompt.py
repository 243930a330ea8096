"""Where an answer begins: chat-render-once.patch tells it from one rendering, and must tell what two renderings do.

Jinja2 makes the two. A variable that is false is to a template what one that is missing is.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import pytest

from shimmy.errors import InvalidRequestError
from shimmy.llama import Model
from shimmy.llama.chat import ChatTemplate
from tests.support import templates

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " hi "},
    {"role": "assistant", "content": "hello"},
    {"role": "user", "content": "sö 日本?"},
]
MESSAGES = "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}"
BEGIN = "{% if add_generation_prompt %}[assistant]{% endif %}"
SEEN_FROM_ONE = {
    "at the end": MESSAGES + BEGIN,
    "with a condition": MESSAGES
    + "{% if add_generation_prompt and messages|length > 1 and true %}[assistant]{% endif %}",
    "with a condition that fails": MESSAGES
    + "{% if add_generation_prompt and messages|length > 9 %}[assistant]{% endif %}",
    "with choices": MESSAGES + "{% if add_generation_prompt %}[assistant]"
    "{% if enable_thinking is defined and not enable_thinking %}<no>{% endif %}{% endif %}",
    "before a text": MESSAGES + BEGIN + "\n[{# the end #}] ",
    "nowhere": MESSAGES,
    "of the end token": MESSAGES + "{% if add_generation_prompt %}{{ eos_token }}{% endif %}",
}
NOT_SEEN_FROM_ONE = {
    "or else": MESSAGES + "{% if add_generation_prompt %}[assistant]{% else %}[over]{% endif %}",
    "at the beginning": BEGIN + MESSAGES,
    "in the beginning": "{% set late = add_generation_prompt %}"
    + MESSAGES
    + "{% if late %}[assistant]{% endif %}",
    "twice": "{% if add_generation_prompt %}[ask]{% endif %}" + MESSAGES + BEGIN,
    "or": MESSAGES + "{% if add_generation_prompt or messages %}[assistant]{% endif %}",
    "not": MESSAGES + "{% if not add_generation_prompt %}[over]{% endif %}",
    "in an expression": MESSAGES + "{{ '[assistant]' if add_generation_prompt else '' }}",
    "in a loop": "{% for m in messages %}[{{ m.role }}]{{ m.content }}"
    "{% if loop.last and add_generation_prompt %}[assistant]{% endif %}{% endfor %}",
    "before what it decides": "{% set ns = namespace(n=0) %}"
    + MESSAGES
    + "{% if add_generation_prompt %}{% set ns.n = 1 %}{% endif %}{{ ns.n }}",
    "in a macro": "{% macro begin(add) %}{% if add %}[assistant]{% endif %}{% endmacro %}"
    + MESSAGES
    + "{{ begin(add_generation_prompt) }}",
}


def after(without: str, whole: str) -> str:
    """Return what a text has more than another from where they differ."""
    n = next((i for i, (a, b) in enumerate(zip(without, whole, strict=False)) if a != b), None)
    return whole[min(len(without), len(whole)) if n is None else n :]


def rendered(template: ChatTemplate, messages: list[Any], **more: Any) -> tuple[str, str]:
    """Return the prompt, and its part that begins the answer."""
    out = template.render(json.dumps({"messages": messages} | more).encode())
    return out.prompt, json.loads(bytes(out.sampler["generation_prompt"]))


def expected(source: str, messages: list[Any], **more: Any) -> tuple[str, str]:
    """Return the same from two renderings of Jinja2's."""
    without = templates.render(source, messages, **(more | {"add_generation_prompt": False}))
    whole = templates.render(source, messages, **more)
    return whole, after(without, whole)


def variants(name: str) -> Iterator[dict[str, Any]]:
    yield {}
    yield {"enable_thinking": False}
    if name in templates.TOOLS:
        yield {"tools": [templates.WEATHER]}
        yield {"tools": [templates.WEATHER, templates.SEARCH], "enable_thinking": False}


@pytest.mark.parametrize("name", templates.NAMES)
def test_a_models_template(model: Model, name: str) -> None:
    source = templates.source(name)
    with ChatTemplate(model, source) as template:
        for first, more in itertools.product([0, 1, 3], variants(name)):
            given = rendered(template, TALK[first:], **more)
            assert given == expected(source, TALK[first:], **more)


@pytest.mark.parametrize("where", [*SEEN_FROM_ONE, *NOT_SEEN_FROM_ONE])
def test_a_template_with_the_generation_prompt(model: Model, where: str) -> None:
    source = (SEEN_FROM_ONE | NOT_SEEN_FROM_ONE)[where]
    answer = {"role": "assistant", "content": "It is"}
    with ChatTemplate(model, source) as template:
        for thinks in (True, False):
            given = rendered(template, TALK, enable_thinking=thinks)
            assert given == expected(source, TALK, enable_thinking=thinks)
        prompt, said = rendered(template, [*TALK, answer], continue_final=True)
    assert prompt == templates.render(source, TALK, add_generation_prompt=False) + said
    assert said.startswith(expected(source, TALK)[1])
    assert said.endswith("It is")


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("where", ["at the end", "nowhere", "or else"])
def test_a_variable_of_that_name_is_heard(model: Model, where: str, *, given: bool) -> None:
    """A prompt begins the answer whatever a request says; what that is, is seen only if it says no."""
    source = (SEEN_FROM_ONE | NOT_SEEN_FROM_ONE)[where]
    with ChatTemplate(model, source) as template:
        got = rendered(template, TALK, template_kwargs={"add_generation_prompt": given})
    whole, begun = expected(source, TALK)
    assert got == (whole, "" if given else begun)


def test_what_the_generation_prompt_changes_behind_the_messages(model: Model) -> None:
    """A list that is shown and changed later: without the generation prompt nobody has changed it."""
    source = (
        "{% set said = [] %}{% for m in messages %}{% set _ = said.append(m.content) %}{% endfor %}"
        "{{ said }}{% if add_generation_prompt %}{% set _ = said.append('!') %}{% endif %}"
    )
    with ChatTemplate(model, source) as template:
        prompt, begun = rendered(template, TALK[1:])
    assert (prompt, begun) == (" hi hellosö 日本?!", "!")


def test_tokens_that_the_tokenizer_adds_are_cut_off_both(tiny_of: Callable[..., Path]) -> None:
    source = "{{ bos_token }}" + MESSAGES + "{{ eos_token }}" + BEGIN
    adds = (True, gguf.GGUFValueType.BOOL)
    fields = {"tokenizer.ggml.add_bos_token": adds, "tokenizer.ggml.add_eos_token": adds}
    with Model.load(tiny_of(fields=fields)) as model, ChatTemplate(model, source) as template:
        prompt, begun = rendered(template, TALK[1:2])
    assert (prompt, begun) == ("[user] hi \n<|im_end|>[assistant]", "<|im_end|>[assistant]")


def test_a_refusal_is_the_same_without_a_generation_prompt(model: Model) -> None:
    source = MESSAGES + "{% if add_generation_prompt %}{{ raise_exception('no') }}{% endif %}"
    with (
        ChatTemplate(model, source) as template,
        pytest.raises(InvalidRequestError, match="refuses this conversation: no"),
    ):
        rendered(template, TALK)
