"""What GET /v1/models says of a model, as the engine's `ModelInfo`."""

from __future__ import annotations

from typing import Any

from shimmy.engine.types.info import ModelInfo
from shimmy.errors import ModelNotFoundError, RemoteError


def model_of(listing: object, wanted: str | None) -> dict[str, Any]:
    """Return the entry of the model `wanted`, or the first.

    A model that is not listed may still be known by an alias: only using it tells.

    Raises:
        RemoteError: this is no list of models.
        ModelNotFoundError: the list is empty.
    """
    data = listing.get("data") if isinstance(listing, dict) else None
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        raise RemoteError("/v1/models is no list of models: is it OpenAI's API?", status=200)
    models: list[dict[str, Any]] = [item for item in data if isinstance(item.get("id"), str)]
    if wanted is None:
        if not models:
            raise ModelNotFoundError("", [])
        return models[0]
    return next((item for item in models if item["id"] == wanted), {"id": wanted})


def info_of(root: str, model: dict[str, Any]) -> ModelInfo:
    """Return what is known: 0 and "" where the server says nothing."""
    meta = model.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    return ModelInfo(
        path=root,
        name=model["id"],
        description=f"{model['id']} at {root}",
        # the words are llama-server's
        n_params=_count(meta.get("n_params")),
        size=_count(meta.get("size")),
        n_vocab=_count(meta.get("n_vocab")),
        n_ctx_train=_count(meta.get("n_ctx_train")),
        n_ctx=_count(meta.get("n_ctx")),
        n_embd=_count(meta.get("n_embd")),
        n_batch=0,
        n_parallel=0,
        n_threads=0,
        n_gpu_layers=0,
        devices=[],
        has_chat_template=True,
        load_ms=0.0,
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0
