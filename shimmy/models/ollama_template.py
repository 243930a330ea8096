"""Ollama's templates as Jinja, where that can be done for certain.

Ollama's language is Go's text/template. The older form writes one exchange (`.System`, `.Prompt`,
`.Response`, tests and text only) and is repeated for each; it is translated piece by piece. The
newer form (`range .Messages`) can hold any program: it is recognised by the marks that it writes.
"""

from __future__ import annotations

import re

_ACTION = re.compile(r"\{\{(-?)\s*(.*?)\s*(-?)\}\}", re.DOTALL)
_TEST = re.compile(r"(if|else if)\s+\.(System|Prompt|Response|First)")

_FIELDS = {"System": "system", "Prompt": "prompt", "Response": "response", "First": "loop.first"}

# the exchanges of a conversation: a system text, what the user said, what was answered
_EXCHANGES = """\
{%- set ns = namespace(system='', prompt='', open=false, all=[]) -%}
{%- for m in messages -%}
{%- if m.role == 'assistant' -%}
{%- set ns.all = ns.all + [(ns.system, ns.prompt, m.content)] -%}
{%- set ns.system = '' -%}{%- set ns.prompt = '' -%}{%- set ns.open = false -%}
{%- else -%}
{%- if ns.open and m.role != 'system' -%}
{%- set ns.all = ns.all + [(ns.system, ns.prompt, '')] -%}{%- set ns.system = '' -%}
{%- endif -%}
{%- if m.role == 'system' -%}{%- set ns.system = m.content -%}
{%- else -%}{%- set ns.prompt = m.content -%}{%- set ns.open = true -%}{%- endif -%}
{%- endif -%}
{%- endfor -%}
{%- if ns.open or ns.system -%}
{%- set ns.all = ns.all + [(ns.system, ns.prompt, none)] -%}
{%- endif -%}
{%- for system, prompt, response in ns.all -%}
"""

_CHATML = (
    "{%- for m in messages -%}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)
_LLAMA3 = (
    "{%- for m in messages -%}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n'"
    " + m.content + '<|eot_id|>' }}{%- endfor -%}{%- if add_generation_prompt -%}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif -%}"
)
_GEMMA = (
    "{%- for m in messages -%}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else 'user')"
    " + '\\n' + m.content + '<end_of_turn>\\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}"
)
_FAMILIES = {
    "<|im_start|>": _CHATML,
    "<|start_header_id|>": _LLAMA3,
    "<start_of_turn>": _GEMMA,
}


def jinja_of(template: str) -> str | None:
    """Return a Jinja template that writes the same conversation; None where that is not certain."""
    body = _translate(template)
    if body is not None:
        return _EXCHANGES + body + "{%- endfor -%}"
    if "range" in template and ".Messages" in template:
        found = [jinja for mark, jinja in _FAMILIES.items() if mark in template]
        return found[0] if len(found) == 1 else None
    return None


def _translate(template: str) -> str | None:
    """Return one exchange in Jinja; None if it is not in the older form."""
    parts: list[str] = []
    depth, last, trim_next, answered = 0, 0, False, False
    for match in _ACTION.finditer(template):
        text = template[last : match.start()]
        parts.append(_text(text, left=trim_next, right=bool(match[1])))
        last, trim_next = match.end(), bool(match[3])
        action = match[2]
        if test := _TEST.fullmatch(action):
            word = "if" if test[1] == "if" else "elif"
            depth += word == "if"
            parts.append(f"{{%- {word} {_FIELDS[test[2]]} -%}}")
        elif action == "else" and depth:
            parts.append("{%- else -%}")
        elif action == "end" and depth:
            depth -= 1
            parts.append("{%- endif -%}")
        elif action in {".System", ".Prompt"}:
            parts.append(f"{{{{- {_FIELDS[action[1:]]} -}}}}")
        elif action == ".Response" and not answered:
            # what comes after an answer is only written when there is one
            answered = True
            if depth:
                return None
            parts.append("{%- if response is not none -%}{{- response -}}")
        else:
            return None
    parts.append(_text(template[last:], left=trim_next, right=False))
    if depth or "prompt" not in "".join(parts):
        return None
    return "".join(parts) + ("{%- endif -%}" if answered else _ANSWER)


# a template that does not say where the answer goes has it at its end
_ANSWER = "{%- if response is not none -%}{{- response -}}{%- endif -%}"


def _text(text: str, *, left: bool, right: bool) -> str:
    text = text.lstrip() if left else text
    text = text.rstrip() if right else text
    return f"{{{{- {_literal(text)} -}}}}" if text else ""


def _literal(text: str) -> str:
    for plain, escaped in (
        ("\\", "\\\\"),
        ("'", "\\'"),
        ("\n", "\\n"),
        ("\r", "\\r"),
        ("\t", "\\t"),
    ):
        text = text.replace(plain, escaped)
    return f"'{text}'"
