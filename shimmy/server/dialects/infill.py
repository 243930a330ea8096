"""POST /infill: text around a gap in, what fills it out; llama-server's shapes, for code editors."""

from __future__ import annotations

from typing import Any

import msgspec

from shimmy.engine.types.event import Delta, Finished
from shimmy.engine.types.prompt import InfillPrompt
from shimmy.server.dialects.fields import check_max_tokens, decode
from shimmy.server.dialects.generation import GenerationFields, request_of
from shimmy.server.dialects.openai import (
    encode_json,
    error_body,
    error_event,
    random_id,
    timings_body,
)
from shimmy.server.dialects.types import Call, Head, Output
from shimmy.server.errors import Problem
from shimmy.server.sse import event

__all__ = ["encode", "error_body", "new_id", "parse", "stream"]


class ExtraFile(msgspec.Struct, kw_only=True):
    """Another file that the model may look at."""

    text: str
    filename: str = ""


class InfillBody(GenerationFields, kw_only=True):
    """All fields that are known. `prompt` is what stands between the prefix and the gap."""

    input_prefix: str
    input_suffix: str
    input_extra: list[ExtraFile] | None = None
    prompt: str | None = None
    model: str | None = None
    n_predict: int | None = None
    max_tokens: int | None = None
    stream: bool | None = None
    response_fields: list[str] | None = None

    # hints to llama-server of how long an editor would wait; the client may leave at any time
    n_indent: int | None = None
    t_max_prompt_ms: int | None = None
    t_max_predict_ms: int | None = None


_decoder = msgspec.json.Decoder(InfillBody)


def parse(raw: bytes) -> Call:
    """Return what the body asks for.

    Raises:
        InvalidRequestError: it makes no sense; names the field.
    """
    body = decode(_decoder, raw)
    prompt = InfillPrompt(
        prefix=body.input_prefix + (body.prompt or ""),
        suffix=body.input_suffix,
        extra=[(each.filename, each.text) for each in body.input_extra or ()],
    )
    return Call(
        model=body.model,
        prompt_field="input_prefix",
        stream=bool(body.stream),
        request=request_of(body, prompt, _max_tokens(body)),
        extra=body.response_fields,
        names={"suffix": "input_suffix", "max_tokens": "n_predict"},
    )


def _max_tokens(body: InfillBody) -> int | None:
    """llama-server's -1 is no limit."""
    if body.n_predict == -1:
        return None
    if body.n_predict is not None:
        return check_max_tokens(body.n_predict, "n_predict", least=0)
    return check_max_tokens(body.max_tokens, "max_tokens", least=0)


def new_id() -> str:
    """Return an id for an answer; it is not shown."""
    return random_id("fill-")


def encode(call: Call, head: Head, output: Output) -> bytes:
    """Return the whole answer, or the fields of it that were asked for."""
    body = _last(output.text, head, output.end)
    fields: list[str] | None = call.extra
    if fields:
        body = dict(found for field in fields if (found := _find(body, field)))
    return encode_json(body)


def _find(body: dict[str, Any], path: str) -> tuple[str, Any] | None:
    """Return the field at `path`, such as timings/prompt_n, under its own name."""
    value: Any = body
    name = ""
    for name in path.split("/"):
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return name, value


def stream(call: Call, head: Head) -> InfillStream:  # noqa: ARG001 - every dialect's signature
    """Return the encoder of one stream."""
    return InfillStream(head)


class InfillStream:
    """Events of one answer; the last one has `stop` true, and nothing follows it."""

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
        return b'data: {"index":0,"content":%b,"tokens":[],"stop":false}\n\n' % encode_json(
            delta.text
        )

    def finish(self, finished: Finished) -> bytes:
        """Return the last event."""
        return event(encode_json(_last("", self._head, finished)))

    def error(self, problem: Problem) -> bytes:
        """Return the error event."""
        return error_event(problem)


def _last(text: str, head: Head, finished: Finished) -> dict[str, Any]:
    usage = finished.usage
    return {
        "index": 0,
        "content": text,
        "tokens": [],
        "stop": True,
        "model": head.model,
        "tokens_predicted": usage.completion_tokens,
        "tokens_evaluated": usage.prompt_tokens,
        "tokens_cached": usage.cached_tokens,
        "truncated": False,
        "stop_type": _stop_type(finished),
        "stopping_word": finished.stop or "",
        "timings": timings_body(finished),
    }


def _stop_type(finished: Finished) -> str:
    """Return llama-server's word for why the text ends."""
    if finished.reason == "length":
        return "limit"
    return "word" if finished.stop is not None else "eos"
