"""POST /v1/responses: OpenAI's items, the response object and its events."""

from __future__ import annotations
