"""A server with OpenAI's API as a target: streamed `/completions`, read event by event."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

import aiohttp
import msgspec

from shimmy.cli.bench.figures import Sample
from shimmy.cli.bench.load import Plan, Subject
from shimmy.cli.bench.prose import Prose
from shimmy.errors import ConfigError, ShimmyError

_CAPTION = (
    "Tokens per second of all requests at once: PROMPT from the time to first token, "
    "network and queue included; GEN after it.\n"
    "Milliseconds as this process saw them: TTFT to the first text, ITL per token after it."
)
_CONNECT_SECONDS = 10.0
_SILENCE_SECONDS = 600.0
_LINE_BYTES = 2**20
_REFUSED = (400, 422)
_USAGE = {"stream_options": {"include_usage": True}}
# what not every server takes, the most useful first
_EXTRAS: tuple[dict[str, Any], ...] = ({**_USAGE, "ignore_eos": True}, _USAGE, {})


class _Choice(msgspec.Struct):
    text: str | None = None
    finish_reason: str | None = None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


class RefusedError(ShimmyError):
    """The server answered with an error status."""

    def __init__(self, status: int, message: str) -> None:
        """Keep both."""
        super().__init__(message)
        self.status = status


class Remote:
    """Asks a server. Prompts are text of about as many tokens as the plan says.

    How many tokens a word has is learnt from the usage of a first request that does not count, and
    so is which extra fields the server takes.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, model: str, plan: Plan) -> None:
        """`url` is the API's root without a slash at its end."""
        self._session = session
        self._url = url
        self._model = model
        self._plan = plan
        self._prose = Prose()
        self._extras = _EXTRAS[0]
        self._tokens_per_word = 1.0
        self._counts = False

    @property
    def subject(self) -> Subject:
        """The model and the server, and what the server offers."""
        counts = "usage" if self._counts else "events"
        uncounted = (
            "" if self._counts else ", tokens counted by events as the server sends no usage"
        )
        return Subject(
            line=f"{self._model} at {self._url}{uncounted}",
            caption=_CAPTION,
            facts={
                "kind": "url",
                "model": self._model,
                "url": self._url,
                "token_counts": counts,
                "ignore_eos": "ignore_eos" in self._extras,
            },
        )

    async def learn(self) -> None:
        """Send a first request: learn what the server takes and how it counts.

        Raises:
            ShimmyError: it does not answer, or refuses even a plain request.
        """
        n_words = self._plan.prompt_tokens
        for self._extras in _EXTRAS:
            try:
                sample = await self.ask(self._prose.text(n_words))
            except RefusedError as error:
                if error.status not in _REFUSED or not self._extras:
                    raise
            else:
                break
        if sample.prompt_tokens:
            self._counts = True
            self._tokens_per_word = sample.prompt_tokens / n_words

    async def prompts(self, count: int) -> list[str]:
        """Return text prompts; the prefix they share is another one in each round."""
        shared = [self._text(self._plan.shared_prefix)] if self._plan.shared_prefix else []
        return [" ".join([*shared, self._text(self._plan.prompt_tokens)]) for _ in range(count)]

    def _text(self, n_tokens: int) -> str:
        return self._prose.text(max(1, round(n_tokens / self._tokens_per_word)))

    async def ask(self, prompt: str) -> Sample:
        """Send one request and read its stream to the end."""
        body = {
            "model": self._model,
            "prompt": prompt,
            "max_tokens": self._plan.max_tokens,
            "temperature": self._plan.temperature,
            "stream": True,
            **self._extras,
        }
        sent = perf_counter()
        try:
            async with self._session.post(f"{self._url}/completions", json=body) as response:
                await _check(response)
                return await _read(response, sent)
        except (aiohttp.ClientError, TimeoutError, ValueError, msgspec.MsgspecError) as error:
            raise _unreachable(self._url, error) from error


async def _read(response: aiohttp.ClientResponse, sent: float) -> Sample:
    """Time the events of a stream; one with text is one token if nothing counts them."""
    events: list[tuple[float, int]] = []
    ended: float | None = None
    usage: _Usage | None = None
    async for line in response.content:
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            ended = ended or perf_counter()
            continue  # to the end of the body, so that the connection is used again
        now = perf_counter()
        chunk = _decode_chunk(data)
        if chunk.error is not None:
            raise ShimmyError(_message(chunk.error))
        usage = chunk.usage or usage
        for choice in chunk.choices:
            if choice.text:
                events.append((now, 1))
            if choice.finish_reason is not None:
                ended = now
    if ended is None:
        raise ShimmyError("the server ended its answer without a finish_reason or [DONE]")
    details = usage.prompt_tokens_details if usage is not None else None
    return Sample(
        sent=sent,
        events=tuple(events),
        ended=ended,
        prompt_began=sent,
        prompt_ended=events[0][0] if events else None,
        prompt_tokens=usage.prompt_tokens if usage is not None else None,
        cached_tokens=(details.cached_tokens or 0) if details is not None else 0,
        completion_tokens=(usage.completion_tokens if usage is not None else 0) or len(events),
    )


@asynccontextmanager
async def open_remote(
    url: str, plan: Plan, *, model: str | None, api_key: str | None
) -> AsyncIterator[Remote]:
    """Connect for as long as the block lasts; without `model` the first of `/models` is taken.

    Raises:
        ConfigError: the URL is none, or nothing answers there.
    """
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"--url: {url!r} is not http://HOST:PORT/v1", param="--url")
    url = url.rstrip("/")
    # a compressed stream comes in lumps
    headers = {"Accept-Encoding": "identity"}
    if api_key is not None:
        headers["Authorization"] = f"Bearer {api_key}"
    async with aiohttp.ClientSession(
        headers=headers,
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS),
        read_bufsize=_LINE_BYTES,
    ) as session:
        target = Remote(session, url, model or await _first_model(session, url), plan)
        await target.learn()
        yield target


async def _first_model(session: aiohttp.ClientSession, url: str) -> str:
    try:
        async with session.get(f"{url}/models") as response:
            await _check(response)
            listed = msgspec.json.decode(await response.read())
            return str(listed["data"][0]["id"])
    except (aiohttp.ClientError, TimeoutError) as error:
        raise _unreachable(url, error) from error
    except (ValueError, LookupError, TypeError, msgspec.MsgspecError) as error:
        raise ConfigError(
            f"{url}/models lists no model: name one with --model", param="--model"
        ) from error


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status < 400:
        return
    try:
        said = _message(msgspec.json.decode(await response.read()))
    except (ValueError, msgspec.MsgspecError):
        said = response.reason or "no reason given"
    hint = "; the URL should end in /v1" if response.status == 404 else ""
    raise RefusedError(
        response.status, f"{response.url} answered with status {response.status}: {said}{hint}"
    )


def _message(body: Any) -> str:
    """Return the sentence in an error body, of which servers have several forms."""
    while isinstance(body, dict):
        body = next((body[key] for key in ("error", "message", "detail") if key in body), None)
    return str(body)


def _unreachable(url: str, error: Exception) -> ConfigError:
    if isinstance(error, aiohttp.ClientConnectorError):
        said = f"nobody answers at {url}: check the address, or start a server there"
        return ConfigError(said, param="--url")
    reason = str(error) or type(error).__name__
    return ConfigError(f"no usable answer from {url}: {reason}", param="--url")
