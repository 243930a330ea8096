"""Every error that shimmy raises on purpose. Owned by no layer; imports nothing of the package.

ShimmyError
├── InvalidRequestError         the caller's fault: a field, a flag or an argument
│   ├── ContextLengthError      the prompt does not fit the context
│   ├── ImageError              an image that cannot be taken
│   └── ModelNotFoundError      no model of that name
├── ConfigError                 a flag or an environment variable that cannot work
├── LlamaError                  llama.cpp said no
│   ├── ModelLoadError          a GGUF that cannot be loaded
│   │   ├── GgufError           its header says so: llama.cpp is not asked
│   │   └── DoesNotFitError     there is not enough memory for it
│   ├── BackendError            no usable backend or device
│   ├── DecodeError             a decode that failed
│   ├── NativeAbortError        a GGML_ASSERT or GGML_ABORT that was caught
│   └── ClosedError             a handle was used after close()
├── PullError                   a model could not be fetched or removed
├── LoadCancelledError          a load was given up on request
├── EngineDeadError             the worker behind the engine ended
├── EngineClosedError           the engine was closed by its owner
├── EngineLoadingError          the model is not loaded yet
├── DeadlineError               a request waited for its model or a slot until its deadline
├── UnsupportedError            what was asked for is not switched on
├── SlowReaderError             nobody reads the answer
├── OverloadedError             the queue is full
├── UnreachableError            another server does not answer, or broke off
├── UnauthorizedError           another server does not take our key
└── RemoteError                 another server failed in a way that has no name here
"""

from __future__ import annotations


class ShimmyError(Exception):
    """Base of all errors of this package.

    `code` is a stable snake_case word that crosses process and API borders.
    """

    code = "internal_error"

    def __init__(self, message: str) -> None:
        """Keep `message`, a sentence for people that says what to do where that is known."""
        super().__init__(message)
        self.message = message


class InvalidRequestError(ShimmyError):
    """The caller asked for something that cannot be; `param` names the field, flag or argument."""

    code = "invalid_request"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        """Keep `message` and the name of the offending field."""
        super().__init__(message)
        self.param = param


class ContextLengthError(InvalidRequestError):
    """The prompt has more tokens than the context holds."""

    code = "context_length_exceeded"

    def __init__(self, n_prompt_tokens: int, n_ctx: int, *, param: str | None = None) -> None:
        """Build the message from both counts, in tokens."""
        super().__init__(
            f"the prompt has {n_prompt_tokens} tokens, but the context holds {n_ctx}: "
            "shorten the prompt, or start the server with a larger -c/--ctx-size",
            param=param,
        )
        self.n_prompt_tokens = n_prompt_tokens
        self.n_ctx = n_ctx


class ImageError(InvalidRequestError):
    """An image that cannot be taken: no such file, too large, or not where images may be."""

    code = "invalid_image"


class ModelNotFoundError(InvalidRequestError):
    """No model of that name; `available` lists the names there are, `closest` the likeliest."""

    code = "model_not_found"

    # A list longer than this is left to GET /v1/models.
    N_LISTED = 50

    def __init__(self, name: str, available: list[str], closest: list[str] | None = None) -> None:
        """Build the message from the name, the names that are most like it, and all there are."""
        meant = f" Did you mean {' or '.join(map(repr, closest))}?" if closest else ""
        more = len(available) - self.N_LISTED
        rest = f" and {more} more" if more > 0 else ""
        super().__init__(
            f"Model '{name}' not found.{meant} "
            f"Available models: {available[: self.N_LISTED]}{rest}",
            param="model",
        )
        self.name = name
        self.available = available
        self.closest = closest or []


class ConfigError(ShimmyError):
    """A flag or an environment variable that cannot work; `param` is its name."""

    code = "bad_config"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        """Keep `message` and the flag's name."""
        super().__init__(message)
        self.param = param


class LlamaError(ShimmyError):
    """llama.cpp refused; `log` holds its own last warning and error lines."""

    code = "llama_error"

    def __init__(self, message: str, *, log: tuple[str, ...] = ()) -> None:
        """Join `message` and the log lines into what people read."""
        super().__init__("\n  ".join((message, *log)))
        self.log = log


class ModelLoadError(LlamaError):
    """A model file that could not be loaded."""

    code = "model_load_failed"


class GgufError(ModelLoadError):
    """A file that is no GGUF, is damaged, or would make llama.cpp abort; `message` says which, `remedy` what helps."""

    code = "bad_gguf"

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        """Keep both; for what is damaged the remedy is another copy."""
        super().__init__(message)
        self.remedy = remedy or "fetch it again, or choose another file"


class DoesNotFitError(ModelLoadError):
    """A model that takes more memory than there is; `message` has the sizes and the flags that would help."""

    code = "model_does_not_fit"


class BackendError(LlamaError):
    """No usable backend or device."""

    code = "backend_error"


class DecodeError(LlamaError):
    """`llama_decode` failed with a code that is not a lack of KV cells."""

    code = "decode_failed"


class NativeAbortError(LlamaError):
    """A GGML_ASSERT or GGML_ABORT was caught before it ended the process."""

    code = "native_abort"


class ClosedError(LlamaError):
    """A native handle was used after it was closed."""

    code = "handle_closed"


class PullError(ShimmyError):
    """A model could not be fetched or removed: no room, a name that is not safe, content that is wrong."""

    code = "pull_failed"


class LoadCancelledError(ShimmyError):
    """A model load was given up on request."""

    code = "load_cancelled"


class EngineDeadError(ShimmyError):
    """The worker process ended while this request was in flight."""

    code = "engine_dead"


class EngineClosedError(ShimmyError):
    """The engine was closed by its owner."""

    code = "engine_closed"


class EngineLoadingError(ShimmyError):
    """The model is still being loaded."""

    code = "model_loading"


class UnsupportedError(ShimmyError):
    """What was asked for was not switched on; the message names the flag."""

    code = "not_supported"


class SlowReaderError(ShimmyError):
    """Too much of an answer waits to be read: the request was cancelled."""

    code = "slow_reader"


class DeadlineError(ShimmyError):
    """The request still waited, for its model or a slot, when its `timeout` was over."""

    code = "deadline_exceeded"


class OverloadedError(ShimmyError):
    """Too many requests wait; `retry_after` is in seconds."""

    code = "overloaded"

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        """Keep `message` and when to try again."""
        super().__init__(message)
        self.retry_after = retry_after


class UnreachableError(ShimmyError):
    """There is no server at the address, it says nothing, or the connection broke."""

    code = "unreachable"


class UnauthorizedError(ShimmyError):
    """A server that was asked wants another API key."""

    code = "unauthorized"


class RemoteError(ShimmyError):
    """A server that was asked answered with an error of its own; `status` is HTTP's."""

    code = "remote_error"

    def __init__(self, message: str, *, status: int) -> None:
        """Keep both."""
        super().__init__(message)
        self.status = status
