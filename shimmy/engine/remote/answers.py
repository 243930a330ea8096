"""Reading a server's answers: event streams, JSON, and errors by their status and code."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import msgspec

from shimmy.engine.types.event import Failed
from shimmy.errors import (
    ContextLengthError,
    EngineLoadingError,
    InvalidRequestError,
    ModelNotFoundError,
    OverloadedError,
    RemoteError,
    ShimmyError,
    UnauthorizedError,
)

MAX_EVENT = 64 * 1024 * 1024
"""Bytes of one event or answer; more is no answer to a question of ours."""


async def events(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield the data of server-sent events up to [DONE] or the end.

    Raises:
        RemoteError: one of them is absurdly long.
    """
    line, data = bytearray(), bytearray()
    async for part in content.iter_any():
        for piece in part.splitlines(keepends=True):
            line += piece
            if len(line) + len(data) > MAX_EVENT:
                raise RemoteError("the server sent an event that is too long", status=200)
            if not line.endswith((b"\n", b"\r")):
                continue
            text = bytes(line).rstrip(b"\r\n")
            line.clear()
            if text.startswith(b"data:"):
                data += text[5:].lstrip(b" ") + b"\n"
            elif not text and data:
                event = bytes(data[:-1])
                data.clear()
                if event == b"[DONE]":
                    return
                yield event


async def read_json(response: aiohttp.ClientResponse) -> Any:
    """Return the JSON of an answer.

    Raises:
        RemoteError: it is none, or absurdly long.
    """
    body = await response.content.read(MAX_EVENT)
    while chunk := await response.content.read(MAX_EVENT):
        body += chunk
        if len(body) > MAX_EVENT:
            break
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise RemoteError(
            f"{response.url} did not answer with JSON (status {response.status}): is it an "
            "OpenAI-compatible server?",
            status=response.status,
        ) from error


async def error_of(response: aiohttp.ClientResponse, model: str) -> ShimmyError:
    """Return the error that a status other than 200 stands for."""
    try:
        body = await read_json(response)
    except RemoteError:
        body = None
    return error_from(body, model, status=response.status, headers=response.headers)


def error_from(
    body: object, model: str, *, status: int, headers: Mapping[str, str] | None = None
) -> ShimmyError:
    """Return the error that a body describes: OpenAI's form, or a plain text in `error`."""
    error = body.get("error", body) if isinstance(body, dict) else {}
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        error = {}
    code = str(error.get("code") or error.get("type") or "")
    message = str(error.get("message") or f"the server answered with status {status}")
    param = error.get("param") if isinstance(error.get("param"), str) else None
    if status in {401, 403}:
        return UnauthorizedError(f"{message}; give the server's key as api_key")
    if code == "model_not_found" or (status == 404 and not code.endswith("url")):
        return _not_found(model, message)
    if code in {"context_length_exceeded", "exceed_context_size_error"}:
        return _too_long(error, message, param)
    if status == 429:
        return OverloadedError(message, retry_after=_retry_after(headers))
    named = Failed(code=code, message=message, param=param).error()
    if type(named) is not ShimmyError:
        return named
    if status == 503:
        return EngineLoadingError(message)
    if 400 <= status < 500:
        return InvalidRequestError(message, param=param)
    return RemoteError(message, status=status)


def _not_found(model: str, message: str) -> ModelNotFoundError:
    """Keep the server's own words: it knows what it has."""
    error = ModelNotFoundError(model, [])
    error.message = message
    error.args = (message,)
    return error


def _too_long(error: dict[str, Any], message: str, param: str | None) -> InvalidRequestError:
    n_prompt, n_ctx = error.get("n_prompt_tokens"), error.get("n_ctx")
    if isinstance(n_prompt, int) and isinstance(n_ctx, int):
        return ContextLengthError(n_prompt, n_ctx, param=param)
    too_long = ContextLengthError(0, 0, param=param)
    too_long.message = message
    too_long.args = (message,)
    return too_long


def _retry_after(headers: Mapping[str, str] | None) -> float:
    try:
        return max(0.0, float((headers or {}).get("Retry-After", 1.0)))
    except ValueError:
        return 1.0
