"""Log-probabilities as OpenAI's two endpoints show them: the chat's, and the older one's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shimmy.engine.types.event import Candidate, TokenLogprob

LEAST = -9999.0
"""OpenAI's number for impossible: JSON has no minus infinity."""


def chat_logprobs(entries: Sequence[TokenLogprob]) -> dict[str, Any]:
    """Return the `logprobs` of a chat's choice."""
    return {
        "content": [
            {**_token(entry), "top_logprobs": [_token(each) for each in entry.top]}
            for entry in entries
        ],
        "refusal": None,
    }


def _token(entry: TokenLogprob | Candidate) -> dict[str, Any]:
    return {
        "token": entry.text.decode(errors="replace"),
        "logprob": _number(entry.logprob),
        "bytes": list(entry.text),
    }


def _number(logprob: float | None) -> float:
    return LEAST if logprob is None else max(logprob, LEAST)


class LegacyLogprobs:
    """The `logprobs` of one choice of a text completion; offsets, in characters, go on from call to call."""

    def __init__(self) -> None:
        self._offset = 0

    def of_prompt(self, text: str, entries: Sequence[TokenLogprob]) -> dict[str, Any]:
        """Return those of an echoed prompt, whose tokens need not all show in its text."""
        raw = text.encode()
        at = n_chars = 0
        offsets = []
        for entry in entries:
            offsets.append(n_chars)
            # a vocabulary may put a space in front of the first word
            shown = next(
                (
                    form
                    for form in (entry.text, entry.text.lstrip(b" "))
                    if raw.startswith(form, at)
                ),
                b"",
            )
            at += len(shown)
            n_chars += _n_chars(shown)
        self._offset = len(text)
        return _legacy(entries, offsets)

    def of(self, entries: Sequence[TokenLogprob]) -> dict[str, Any]:
        """Return those of generated tokens."""
        offsets = []
        for entry in entries:
            offsets.append(self._offset)
            self._offset += _n_chars(entry.text)
        return _legacy(entries, offsets)


def _legacy(entries: Sequence[TokenLogprob], offsets: list[int]) -> dict[str, Any]:
    return {
        "tokens": [_name(entry.text) for entry in entries],
        # nothing predicts the first token of a prompt
        "token_logprobs": [
            None if entry.logprob is None else _number(entry.logprob) for entry in entries
        ],
        "top_logprobs": [_top(entry) for entry in entries],
        "text_offset": offsets,
    }


def _top(entry: TokenLogprob) -> dict[str, float] | None:
    """The likeliest tokens, and the one that came, by their names."""
    if entry.logprob is None:
        return None
    top = {_name(each.text): _number(each.logprob) for each in entry.top}
    top.setdefault(_name(entry.text), _number(entry.logprob))
    return top


def _name(text: bytes) -> str:
    r"""Return a token's text, or OpenAI's form for a part of a character, such as bytes:\xe2."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in text)


def _n_chars(text: bytes) -> int:
    """Count the characters that begin in `text`."""
    return sum(byte & 0xC0 != 0x80 for byte in text)
