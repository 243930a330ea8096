"""POST /tokenize, /detokenize and /apply-template, in llama-server's shapes."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shimmy.server.dialects.chat_body import ChatBody
from shimmy.server.dialects.fields import MAX_INT, decode
from shimmy.server.dialects.generation import token_ids
from shimmy.server.dialects.openai import encode_json
from shimmy.server.errors import FieldError


class TokenizeBody(msgspec.Struct, kw_only=True):
    """All fields that are known. `content` may mix texts and token ids."""

    content: str | list[str | int]
    model: str | None = None
    add_special: bool | None = None
    parse_special: bool | None = None
    with_pieces: bool | None = None


class DetokenizeBody(msgspec.Struct, kw_only=True):
    """All fields that are known."""

    tokens: list[int]
    model: str | None = None


_tokenize = msgspec.json.Decoder(TokenizeBody)
_detokenize = msgspec.json.Decoder(DetokenizeBody)
_apply_template = msgspec.json.Decoder(ChatBody)


def parse_tokenize(raw: bytes) -> TokenizeBody:
    """Return the body of /tokenize.

    Raises:
        FieldError: it makes no sense; names the field.
    """
    body = decode(_tokenize, raw)
    for i, each in enumerate(body.content):
        if isinstance(each, int) and not 0 <= each <= MAX_INT:
            raise FieldError(
                f"content[{i}] is no token id", param=f"content[{i}]", code="invalid_value"
            )
    return body


def parse_detokenize(raw: bytes) -> DetokenizeBody:
    """Return the body of /detokenize.

    Raises:
        FieldError: it makes no sense; names the field.
    """
    body = decode(_detokenize, raw)
    token_ids(body.tokens, "tokens")
    return body


def parse_template(raw: bytes) -> ChatBody:
    """Return the body of /apply-template: that of a chat.

    Raises:
        FieldError: it makes no sense; names the field.
    """
    return decode(_apply_template, raw)


def encode_tokens(tokens: Sequence[int], pieces: Sequence[bytes] | None) -> bytes:
    """Return the tokens, each with its piece if there are any: a text, or the bytes of part of one."""
    if pieces is None:
        return encode_json({"tokens": tokens})
    return encode_json(
        {
            "tokens": [
                {"id": token, "piece": _piece(piece)}
                for token, piece in zip(tokens, pieces, strict=True)
            ]
        }
    )


def _piece(piece: bytes) -> str | list[int]:
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return list(piece)


def encode_text(pieces: Sequence[bytes]) -> bytes:
    """Return the text that pieces make together."""
    return encode_json({"content": b"".join(pieces).decode(errors="replace")})


def encode_prompt(text: str) -> bytes:
    """Return a rendered conversation."""
    return encode_json({"prompt": text})
