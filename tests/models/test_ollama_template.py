"""Ollama's templates in Jinja, rendered by llama.cpp itself."""

from __future__ import annotations

import json

import pytest

from shimmy.llama import Model, ModelParams
from shimmy.llama.chat import ChatTemplate
from shimmy.models.ollama_template import jinja_of

CHATML = """\
{{ if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}{{ if .Prompt }}<|im_start|>user
{{ .Prompt }}<|im_end|>
{{ end }}<|im_start|>assistant
{{ .Response }}<|im_end|>
"""
MISTRAL = "[INST] {{ if .System }}{{ .System }} {{ end }}{{ .Prompt }} [/INST]"
ALPACA = """\
{{ .System }}

### Instruction:
{{ .Prompt }}

### Response:
"""
TRIMMED = """\
{{- if .System }}
<|system|>
{{ .System }}
{{- end }}
<|user|>
{{ .Prompt }}
<|assistant|>
{{ .Response }}<|end|>
"""
ELSE = "{{ if .System }}{{ .System }}{{ else }}You are kind.{{ end }}\\nUSER: {{ .Prompt }} 'quoted'\\nBOT: {{ .Response }}"
NEWER = """\
{{- range $i, $_ := .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""

USER = {"role": "user", "content": "hi"}
SYSTEM = {"role": "system", "content": "Be brief."}
TALK = [SYSTEM, USER, {"role": "assistant", "content": "hello"}, {"role": "user", "content": "bye"}]


@pytest.fixture(scope="module")
def model(tiny_gguf):
    with Model.load(tiny_gguf, ModelParams(n_gpu_layers=0)) as model:
        yield model


def render(model: Model, template: str, messages: list[dict[str, str]]) -> str:
    jinja = jinja_of(template)
    assert jinja is not None
    with ChatTemplate(model, jinja) as parsed:
        body = {"messages": messages, "add_generation_prompt": True}
        return parsed.render(json.dumps(body).encode()).prompt


@pytest.mark.parametrize("template", [CHATML, NEWER], ids=["older", "newer"])
def test_issue_13_chatml_comes_out_as_chatml(model, template):
    assert render(model, template, TALK) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nhi<|im_end|>\n"
        "<|im_start|>assistant\nhello<|im_end|>\n"
        "<|im_start|>user\nbye<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_template_that_names_no_answer_has_it_at_its_end(model):
    assert render(model, MISTRAL, TALK) == "[INST] Be brief. hi [/INST]hello[INST] bye [/INST]"


def test_text_is_kept_as_it_is(model):
    assert render(model, ALPACA, [SYSTEM, USER]) == (
        "Be brief.\n\n### Instruction:\nhi\n\n### Response:\n"
    )


def test_marks_that_trim_do_trim(model):
    assert render(model, TRIMMED, [SYSTEM, USER]) == (
        "\n<|system|>\nBe brief.\n<|user|>\nhi\n<|assistant|>\n"
    )


def test_a_choice_is_kept(model):
    assert render(model, ELSE, [USER]) == "You are kind.\\nUSER: hi 'quoted'\\nBOT: "


def test_two_of_one_side_in_a_row_are_two_exchanges(model):
    assert render(model, MISTRAL, [USER, USER]) == "[INST] hi [/INST][INST] hi [/INST]"


@pytest.mark.parametrize(
    "template",
    [
        "",
        "no fields at all",
        "{{ .System }} only",
        "{{ .Prompt",
        "{{ .Prompt }}{{ end }}",
        "{{ if .Prompt }}{{ .Prompt }}",
        '{{ template "x" . }}{{ .Prompt }}',
        "{{ if eq .System .Prompt }}{{ .Prompt }}{{ end }}",
        "{{ if .Prompt }}{{ .Response }}{{ end }}{{ .Prompt }}",
        "{{ .Prompt }}{{ .Response }}{{ .Response }}",
        "{{ range .Messages }}[{{ .Role }}]{{ .Content }}{{ end }}",
        "{{ range .Messages }}<|im_start|><start_of_turn>{{ end }}",
    ],
)
def test_what_is_not_certain_is_not_translated(template):
    assert jinja_of(template) is None


def test_a_template_cannot_smuggle_jinja_in(model):
    template = "{{ .Prompt }}{% for x in range(9) %}'}}{{ .Response }}"
    assert render(model, template, [USER]) == "hi{% for x in range(9) %}'}}"
