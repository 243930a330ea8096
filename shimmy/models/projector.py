"""A projector's file: what is seen of it before a model is loaded with it."""

from __future__ import annotations

from pathlib import Path

from shimmy.engine.types.options import EngineOptions
from shimmy.errors import ConfigError, GgufError
from shimmy.models.gguf.facts import Facts, facts_of
from shimmy.models.gguf.file import read_gguf

FLAG = "--mmproj"


def flaw(path: Path) -> str | None:
    """Return why the file cannot be used as a projector, a sentence; None if nothing is seen."""
    said = _read(path)
    return said if isinstance(said, str) else None


def check(path: Path, model: str, n_embd: int | None) -> None:
    """Make sure that a file is a projector for a model of this name and width.

    Raises:
        ConfigError: it is none, or made for models of another width; names the flag.
    """
    facts = _read(path)
    if isinstance(facts, str):
        raise ConfigError(f"{FLAG}: {facts}", param=FLAG)
    if None not in {facts.n_embd, n_embd} and facts.n_embd != n_embd:
        raise ConfigError(
            f"{FLAG}: {path} is made for a model that is {facts.n_embd} wide, and {model} is "
            f"{n_embd}: give the projector that came with the model",
            param=FLAG,
        )


def size(path: str | None) -> int:
    """Return how long a projector is; one that cannot be looked at counts for nothing, for its load says why."""
    try:
        return Path(path).stat().st_size if path else 0
    except OSError:
        return 0


def check_image_tokens(options: EngineOptions) -> None:
    """Make sure that the bounds of an image's tokens are in order.

    Raises:
        ConfigError: they are not; names the flags.
    """
    low, high = options.image_min_tokens, options.image_max_tokens
    if low is not None and high is not None and low > high:
        raise ConfigError(
            f"--image-min-tokens {low} is more than --image-max-tokens {high}",
            param="--image-min-tokens",
        )


def _read(path: Path) -> Facts | str:
    """Return a projector's facts, or why it is of no use."""
    try:
        facts = facts_of(read_gguf(path))
    except OSError as error:
        return f"projector {path} cannot be read: {error.strerror or error}; check the path"
    except GgufError as error:
        return f"projector {path}: {error.message}; {error.remedy}"
    if facts.kind != "mmproj":
        return f"{path} is no projector, its metadata says {facts.kind}"
    if facts.objection is not None:
        return f"projector {path} cannot be loaded: {facts.objection}"
    if facts.senses == ("audio",):
        return f"projector {path} is for sound, which is not supported yet"
    return facts
