"""What the engine says about a request while it runs: an `Accepted`, `Delta`s, a `Finished`.

A request for several choices has their deltas mixed, and a `Finished` for each; the last of those
ends it. One that fails ends with `Failed` on the wire, which clients raise as the matching error.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from shimmy import errors
from shimmy.engine.types.prompt import ToolCall

FinishReason = Literal["stop", "length", "tool_calls"]


class Usage(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Exact token counts: `prompt_tokens` includes `cached_tokens`; completion includes EOG.

    Of several choices all have the same `cached_tokens`: what the prompt found in the cells.

    `reasoning_tokens` are those of the completion that came before the end of the reasoning.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class Timings(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Where the time went, in milliseconds."""

    queue_ms: float
    prompt_ms: float
    predicted_ms: float


class ToolCallDelta(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of call number `index`; `id` and `name` come with its first piece only."""

    index: int
    call: ToolCall


class Candidate(msgspec.Struct, frozen=True, array_like=True):
    """A token that could have come; `text` is its bytes, which may be part of a character."""

    token: int
    text: bytes
    logprob: float


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """A token that came, its natural log-probability before any sampler, and the likeliest ones.

    `logprob` is None for the first token of a prompt, which nothing predicts.
    """

    token: int
    text: bytes
    logprob: float | None
    top: list[Candidate] = []


class Accepted(msgspec.Struct, frozen=True, tag="accepted", array_like=True):
    """The request is valid and queued; the prompt has `prompt_tokens` tokens."""

    prompt_tokens: int


class PromptScored(msgspec.Struct, frozen=True, tag="prompt_scored", array_like=True):
    """The prompt's tokens with their log-probabilities, before any `Delta`, if asked for."""

    logprobs: list[TokenLogprob]


class Delta(msgspec.Struct, frozen=True, kw_only=True, tag="delta", array_like=True):
    """New output of a choice: whole UTF-8 characters, stop strings cut off.

    `n_tokens` tokens made it. `logprobs` has one entry for each of them, if asked for; a token that
    shows no text yet makes a delta without text then.
    """

    text: str = ""
    n_tokens: int = 1
    reasoning: str = ""
    tool_calls: list[ToolCallDelta] = []
    choice: int = 0
    logprobs: list[TokenLogprob] = []


class Finished(msgspec.Struct, frozen=True, kw_only=True, tag="finished", array_like=True):
    """The end of a choice: why, at which stop string (if one ended it), and its own counts.

    `last` is False while other choices of the request still run. `stop_token` is the id of the
    request's `stop_token_ids` that ended it.
    """

    reason: FinishReason
    usage: Usage
    timings: Timings
    stop: str | None = None
    choice: int = 0
    last: bool = True
    stop_token: int | None = None


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed", array_like=True):
    """The request failed; `code` is the `code` of a class in `shimmy.errors`."""

    code: str
    message: str
    param: str | None = None
    n_prompt_tokens: int | None = None
    n_ctx: int | None = None

    @classmethod
    def of(cls, error: Exception) -> Failed:
        """Turn an error into its wire form."""
        if isinstance(error, errors.ContextLengthError):
            return cls(
                code=error.code,
                message=error.message,
                param=error.param,
                n_prompt_tokens=error.n_prompt_tokens,
                n_ctx=error.n_ctx,
            )
        if isinstance(error, errors.ShimmyError):
            return cls(code=error.code, message=error.message, param=getattr(error, "param", None))
        return cls(code=errors.ShimmyError.code, message=f"{type(error).__name__}: {error}")

    def error(self) -> errors.ShimmyError:
        """Turn the wire form back into the error it was."""
        if self.n_prompt_tokens is not None and self.n_ctx is not None:
            return errors.ContextLengthError(self.n_prompt_tokens, self.n_ctx, param=self.param)
        kind = _BY_CODE.get(self.code, errors.ShimmyError)
        if issubclass(kind, errors.InvalidRequestError | errors.ConfigError):
            return kind(self.message, param=self.param)
        return kind(self.message)


Event = Accepted | PromptScored | Delta | Finished | Failed

# ModelNotFoundError and ContextLengthError have constructors of their own and are not rebuilt here.
_BY_CODE: dict[str, type[errors.ShimmyError]] = {
    kind.code: kind
    for kind in (
        errors.InvalidRequestError,
        errors.ImageError,
        errors.ConfigError,
        errors.LlamaError,
        errors.ModelLoadError,
        errors.BackendError,
        errors.DecodeError,
        errors.NativeAbortError,
        errors.ClosedError,
        errors.LoadCancelledError,
        errors.EngineDeadError,
        errors.EngineClosedError,
        errors.EngineLoadingError,
        errors.OverloadedError,
        errors.DeadlineError,
        errors.SlowReaderError,
        errors.UnsupportedError,
    )
}
