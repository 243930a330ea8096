"""Chat templates as models carry them, written from their published formats, and Jinja2's rendering of them.

Each is a file beside this one. `TOOLS` are those that show tools and have a form for calls of their own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2.sandbox

_HERE = Path(__file__).parent
NAMES = tuple(sorted(path.stem for path in _HERE.glob("*.jinja")))
TOOLS = frozenset(
    {
        "granite3",
        "harmony",
        "hermes",
        "llama3",
        "mistral-nemo",
        "qwen2.5",
        "qwen3",
        "qwen3-coder",
    }
)
THINKING = frozenset({"deepseek-r1", "qwen3"})
TAGGED = frozenset({"qwen3-coder"})

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 12},
                "days": {"type": "integer", "minimum": 1, "maximum": 14},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city", "unit"],
        },
    },
}
SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Searches",
        "parameters": {
            "type": "object",
            "properties": {
                "query": {"type": "string", "maxLength": 8},
                "exact": {"type": "boolean"},
                "sites": {
                    "type": "array",
                    "items": {"type": "string", "maxLength": 4},
                    "maxItems": 2,
                },
            },
            "required": ["query", "exact"],
        },
    },
}


def source(name: str) -> str:
    """Return a template's text."""
    return (_HERE / f"{name}.jinja").read_text()


def render(text: str, messages: list[dict[str, Any]], **variables: Any) -> str:
    """Render with Jinja2 itself, set up as Hugging Face's transformers do; arguments of calls are objects."""

    def raise_exception(message: str) -> str:
        raise jinja2.TemplateError(message)

    def tojson(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    given = {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "add_generation_prompt": True}
    return environment.from_string(text).render(messages=messages, **(given | variables))
