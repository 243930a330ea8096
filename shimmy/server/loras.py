"""GET and POST /lora-adapters: the adapters of a loaded model and their default scales."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from shimmy.engine.types.lora import LoraInfo
from shimmy.server.dialects.fields import decode
from shimmy.server.dialects.generation import LoraScale, scales_of
from shimmy.server.holding import peek
from shimmy.server.reply import json_response

_scales = msgspec.json.Decoder(list[LoraScale])


async def list_loras(request: web.Request) -> web.Response:
    """Return the adapters of the model that the query's `model` names, or of the current one."""
    engine = await peek(request)
    return json_response([_shown(one) for one in await engine.loras()])


async def set_loras(request: web.Request) -> web.Response:
    """Change the default scales for requests that come later; adapters not listed get 0.

    Requests that run or wait keep theirs.
    """
    scales = scales_of(decode(_scales, await request.read()), "lora")
    engine = await peek(request)
    await engine.set_loras(scales)
    return json_response({"success": True})


def _shown(lora: LoraInfo) -> dict[str, Any]:
    # where it lies on this machine is nobody's business
    return {"id": lora.id, "path": Path(lora.path).name, "scale": lora.scale}
