"""What a conversation must keep to before a template reads it, and which field a refusal is about."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from shimmy.errors import InvalidRequestError
from shimmy.worker.schema import schema_field

if TYPE_CHECKING:
    from shimmy.engine.types.prompt import ChatPrompt
    from shimmy.engine.types.sampling import SamplingParams

_ROLE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_SCHEMA_WORDS = ("grammar", "schema", "pattern")


def check(prompt: ChatPrompt, sampling: SamplingParams) -> None:
    """Check that the parts of a conversation go together, and its constraints with one another.

    Raises:
        InvalidRequestError: they do not; `param` is the field to change.
    """
    field = schema_field(prompt, sampling)
    offers = bool(prompt.tools) and prompt.tool_choice != "none"
    if prompt.tool_name is not None and prompt.tool_name not in {t.name for t in prompt.tools}:
        raise InvalidRequestError(
            f"tool_choice: there is no tool {prompt.tool_name!r} among the tools",
            param="tool_choice",
        )
    if prompt.tool_choice == "required" and not prompt.tools:
        raise InvalidRequestError(
            "tool_choice: required, but no tools are given", param="tool_choice"
        )
    if sampling.json_schema is not None and prompt.json_schema is not None:
        raise InvalidRequestError(
            "json_schema and response_format both constrain the answer: give one of them",
            param="json_schema",
        )
    if sampling.grammar is not None and (offers or field is not None):
        other = "tools" if offers else field
        raise InvalidRequestError(
            f"grammar and {other} both constrain the answer: give one of them", param="grammar"
        )
    if offers and not forced(prompt) and field is not None:
        raise InvalidRequestError(
            f"{field}: a schema cannot be held while the model may call tools: "
            "use tool_choice none or required, or leave the schema out",
            param=field,
        )
    for message in prompt.messages:
        if not _ROLE.fullmatch(message.role):
            raise InvalidRequestError(
                f"messages: {message.role!r} is no name of a role", param="messages"
            )
    if prompt.images and not prompt.image_mark:
        raise InvalidRequestError(
            "image_mark: give the text that stands for each of the images in the messages",
            param="image_mark",
        )
    if prompt.continue_final:
        _check_continued(prompt)


def _check_continued(prompt: ChatPrompt) -> None:
    last = prompt.messages[-1] if prompt.messages else None
    if last is None or last.role != "assistant":
        raise InvalidRequestError(
            "messages: only an assistant's message can be continued, and it must be the last",
            param="messages",
        )
    if last.tool_calls:
        raise InvalidRequestError(
            "messages: a message with tool calls cannot be continued", param="messages"
        )


def forced(prompt: ChatPrompt) -> bool:
    """Whether the answer must be a call of a tool."""
    return prompt.tool_name is not None or prompt.tool_choice == "required"


def blame(prompt: ChatPrompt, sampling: SamplingParams, message: str) -> str:
    """Return the field of the request that llama.cpp's refusal is about."""
    if any(word in message for word in _SCHEMA_WORDS):
        field = schema_field(prompt, sampling)
        if field is not None:
            return field
        if prompt.tools:
            return "tools"
    return "messages"
