"""POST /v1/messages: Anthropic's words for a conversation, its answer, its stream and its errors."""

from __future__ import annotations

from shimmy.server.dialects.anthropic.answer import encode, new_id
from shimmy.server.dialects.anthropic.errors import error_body
from shimmy.server.dialects.anthropic.request import parse, parse_count
from shimmy.server.dialects.anthropic.stream import stream

__all__ = ["encode", "error_body", "new_id", "parse", "parse_count", "stream"]
