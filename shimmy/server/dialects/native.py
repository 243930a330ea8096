"""POST /api/generate: shimmy's own endpoint. A raw prompt or messages in, `response` out.

Streams unless told otherwise. Each event is `{"response": "new text"}`; the last one adds `done`,
the reason, usage and timings; then [DONE].
"""

from __future__ import annotations

from typing import Any

import msgspec

from shimmy.engine.images import Images
from shimmy.engine.types.event import Delta, Finished
from shimmy.engine.types.prompt import ChatPrompt, Message, TextPrompt
from shimmy.server.dialects.fields import check_max_tokens, decode, unsupported
from shimmy.server.dialects.generation import GenerationFields, request_of
from shimmy.server.dialects.messages import ChatMessage, messages_of
from shimmy.server.dialects.openai import (
    encode_json,
    error_body,
    error_event,
    random_id,
    timings_body,
    usage_body,
)
from shimmy.server.dialects.types import Call, Head, Output
from shimmy.server.errors import FieldError, Problem
from shimmy.server.sse import DONE, event

__all__ = ["encode", "error_body", "new_id", "parse", "stream"]

DEFAULT_MAX_TOKENS = 256
"""As in the Rust shimmy."""


class NativeBody(GenerationFields, kw_only=True):
    """All fields that are known. Others are accepted and mean nothing."""

    model: str | None = None
    prompt: str | None = None
    messages: list[ChatMessage] | None = None
    system: str | None = None
    max_tokens: int | None = None
    stream: bool | None = None

    # Ollama's, refused: where would they be in a raw prompt?
    images: list[Any] | None = None


_decoder = msgspec.json.Decoder(NativeBody)


def parse(raw: bytes) -> Call:
    """Return what the body asks for.

    Raises:
        InvalidRequestError: it makes no sense; names the field.
    """
    body = decode(_decoder, raw)
    if body.images:
        raise unsupported(
            "images", "have no place here: send messages with parts of type image_url"
        )
    limit = check_max_tokens(body.max_tokens, "max_tokens")
    return Call(
        model=body.model,
        prompt_field="prompt" if body.messages is None else "messages",
        stream=body.stream is not False,
        request=request_of(body, _prompt(body), DEFAULT_MAX_TOKENS if limit is None else limit),
        default_limit=limit is None,
    )


def _prompt(body: NativeBody) -> TextPrompt | ChatPrompt:
    """Messages go through the model's template, a prompt is taken raw."""
    if body.messages is not None:
        if body.prompt:
            raise FieldError(
                "give prompt or messages, not both", param="prompt", code="invalid_prompt"
            )
        images = Images()
        messages = messages_of(body.messages, images)
        if body.system is not None:
            messages.insert(0, Message(role="system", content=body.system))
        return ChatPrompt(messages=messages, images=images.files, image_mark=images.mark)
    if body.prompt is None:
        raise FieldError("prompt or messages is required", param="prompt", code="invalid_prompt")
    if body.system is not None:
        raise FieldError(
            "a raw prompt has no place for system; send messages",
            param="system",
            code="invalid_value",
        )
    return TextPrompt(body.prompt)


def new_id() -> str:
    """Return an id for an answer."""
    return random_id("gen-")


def encode(call: Call, head: Head, output: Output) -> bytes:  # noqa: ARG001 - as every dialect
    """Return the whole answer."""
    return encode_json(_last(output.text, head, output.end))


def stream(call: Call, head: Head) -> NativeStream:  # noqa: ARG001 - every dialect's signature
    """Return the encoder of one stream."""
    return NativeStream(head)


class NativeStream:
    """Events of one answer."""

    def __init__(self, head: Head) -> None:
        """Keep what the last event repeats."""
        self._head = head

    def opening(self) -> bytes:
        """Return nothing."""
        return b""

    def delta(self, delta: Delta) -> bytes:
        """Return one event for new text."""
        if not delta.text:
            return b""
        return b'data: {"response":%b}\n\n' % encode_json(delta.text)

    def finish(self, finished: Finished) -> bytes:
        """Return the last event, and [DONE]."""
        return event(encode_json(_last("", self._head, finished))) + DONE

    def error(self, problem: Problem) -> bytes:
        """Return the error event; no [DONE] follows it."""
        return error_event(problem)


def _last(text: str, head: Head, finished: Finished) -> dict[str, object]:
    return {
        "response": text,
        "done": True,
        "id": head.id,
        "model": head.model,
        "created": head.created,
        "finish_reason": finished.reason,
        "usage": usage_body(finished.usage),
        "timings": timings_body(finished),
    }
