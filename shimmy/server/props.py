"""GET /props: what a loaded model is and how it is run, in llama-server's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiohttp import web

from shimmy.engine.types.info import ModelInfo
from shimmy.errors import EngineLoadingError, UnsupportedError
from shimmy.server.health import VERSION
from shimmy.server.holding import peek
from shimmy.server.reply import json_response

# GGUF's key: a request's field, where a model advises its own sampling
_ADVICE = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "xtc_probability": "xtc_probability",
    "xtc_threshold": "xtc_threshold",
    "penalty_last_n": "repeat_last_n",
    "penalty_repeat": "repeat_penalty",
    "mirostat": "mirostat",
    "mirostat_tau": "mirostat_tau",
    "mirostat_eta": "mirostat_eta",
}


async def get_props(request: web.Request) -> web.Response:
    """Return the properties of the model that the query's `model` names, or of the current one."""
    engine = await peek(request)
    if engine.info is None:
        raise EngineLoadingError("the model is not loaded")
    loras = await engine.loras()
    scales = [{"id": lora.id, "scale": lora.scale} for lora in loras]
    return json_response(props(engine.info, scales))


async def set_props(_request: web.Request) -> web.Response:
    """Refuse, as llama-server does without --props."""
    raise UnsupportedError("properties cannot be changed here: give the values with each request")


def props(info: ModelInfo, loras: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the JSON; sizes in tokens and bytes. Of paths it tells the file's name only."""
    return {
        "default_generation_settings": {
            "n_ctx": info.n_ctx_row,
            "params": {**_advice(info.metadata), "lora": loras},
        },
        "total_slots": info.n_parallel,
        "model_path": Path(info.path).name,
        "modalities": {"vision": info.vision, "audio": False},
        "chat_template": info.chat_template,
        "chat_template_caps": info.chat_template_caps,
        "bos_token": info.bos_token,
        "eos_token": info.eos_token,
        "build_info": f"shimmy {VERSION}, llama.cpp {info.llama_cpp}",
        "endpoint_slots": True,
        "endpoint_props": False,
        "placement": info.placement,
    }


def _advice(metadata: dict[str, str]) -> dict[str, float]:
    """Return the model's own sampling, as far as its metadata tells of it."""
    found: dict[str, float] = {}
    for key, name in _ADVICE.items():
        text = metadata.get(f"general.sampling.{key}", "")
        try:
            found[name] = float(text)
        except ValueError:
            continue
    return found
