"""Models as Anthropic's clients list them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from shimmy.server.seams import ModelEntry


def model_body(entry: ModelEntry) -> dict[str, Any]:
    """Return one model."""
    return {
        "type": "model",
        "id": entry.name,
        "display_name": entry.name,
        "created_at": datetime.fromtimestamp(entry.modified, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def list_body(entries: Sequence[ModelEntry]) -> dict[str, Any]:
    """Return all models, in one page."""
    return {
        "data": [model_body(entry) for entry in entries],
        "first_id": entries[0].name if entries else None,
        "last_id": entries[-1].name if entries else None,
        "has_more": False,
    }
