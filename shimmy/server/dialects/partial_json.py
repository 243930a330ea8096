"""Arguments of a call that was cut off: as much of the JSON as is whole."""

from __future__ import annotations

import msgspec

# where JSON breaks off, the last place fits; what is no JSON needs no long search
_TRIES = 8
_NO_JSON = (msgspec.DecodeError, RecursionError)


def whole_part(text: str) -> object:
    """Return the value of JSON `text`; of a text that breaks off, all values that are complete.

    What is no JSON at all is {}. SDKs put a cut stream together in the same way.
    """
    try:
        return msgspec.json.decode(text or "{}")
    except _NO_JSON:
        pass
    for cut, closing in reversed(_cuts(text)[-_TRIES:]):
        try:
            return msgspec.json.decode(text[:cut] + closing)
        except _NO_JSON:
            continue
    return {}


def sent_back(arguments: str) -> str:
    """Return the arguments of an earlier call as JSON, which templates need.

    Those of a call that was cut off come back with the conversation as they are.
    """
    try:
        msgspec.json.decode(arguments or "{}")
    except _NO_JSON:
        return msgspec.json.encode(whole_part(arguments)).decode()
    return arguments or "{}"


def _cuts(text: str) -> list[tuple[int, str]]:
    """Return where the text could be cut, and what would close it there."""
    cuts: list[tuple[int, str]] = []
    closing: list[str] = []
    quoted = escaped = False
    for at, char in enumerate(text):
        if quoted:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                quoted = False
        elif char == '"':
            quoted = True
        elif char in "{[":
            closing.append("}" if char == "{" else "]")
            cuts.append((at + 1, "".join(reversed(closing))))
        elif char in "}]":
            if closing:
                closing.pop()
            cuts.append((at + 1, "".join(reversed(closing))))
        elif char == "," and closing:
            cuts.append((at, "".join(reversed(closing))))
    if not quoted:
        cuts.append((len(text), "".join(reversed(closing))))
    return cuts
