"""Variables for chat templates, and the one among them that the engine has a word for."""

from __future__ import annotations

from typing import Any

from shimmy.server.dialects.fields import check_tree
from shimmy.server.errors import FieldError


def template_kwargs_of(
    given: dict[str, Any] | None, effort: str | None
) -> tuple[dict[str, Any], bool | None]:
    """Return the variables of `chat_template_kwargs`, and whether the model is to think first.

    `effort` "none" switches thinking off; other efforts are for the template to read.

    Raises:
        FieldError: the variables nest too deep, or `enable_thinking` is neither true nor false.
    """
    kwargs = dict(given or {})
    check_tree(kwargs, "chat_template_kwargs")
    thinking = kwargs.pop("enable_thinking", None)
    if thinking is not None and not isinstance(thinking, bool):
        raise FieldError(
            "chat_template_kwargs.enable_thinking: expected `bool`",
            param="chat_template_kwargs.enable_thinking",
            code="invalid_type",
        )
    if effort == "none":
        thinking = False
    elif effort is not None:
        kwargs.setdefault("reasoning_effort", effort)
    return kwargs, thinking
