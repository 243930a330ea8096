"""Which chat template a model gets: the one that is asked for, its own, or a known one that fits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from shimmy.errors import ConfigError
from shimmy.llama.chat import built_in_templates

if TYPE_CHECKING:
    from shimmy.llama.model import Model

# tokens that only models of one format have; of models with neither, ChatML is the most likely
_FALLBACKS = {"<|start_header_id|>": "llama3", "<|end_of_turn|>": "openchat"}


def template_source(model: Model, given: str | None) -> str | None:
    """Return the template to parse, or None for the model's own.

    `given` is Jinja text, a file, or one of llama.cpp's names.

    Raises:
        ConfigError: `given` is none of these.
    """
    if given is None:
        return None if model.chat_template() is not None else _fallback(model)
    if "{" in given or given in built_in_templates():
        return given
    path = Path(given)
    if not path.is_file():
        names = ", ".join(sorted(built_in_templates()))
        raise ConfigError(
            f"--chat-template: {given!r} is no file; give a Jinja file, or one of {names}",
            param="--chat-template",
        )
    return path.read_text(encoding="utf-8")


def _fallback(model: Model) -> str | None:
    """Return a name for a model without a template; None lets llama.cpp take ChatML."""
    if model.chat_template("tool_use") is not None:
        return None
    for text, name in _FALLBACKS.items():
        tokens = model.vocab.tokenize(text, add_special=False, parse_special=True)
        if len(tokens) == 1 and model.vocab.is_control(tokens[0]):
            return name
    return None
