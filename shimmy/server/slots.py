"""GET /slots and POST /slots/{id_slot}?action=save|restore|erase, in llama-server's words.

`model=NAME` in the query means one of several loaded models. A slot is where a request runs. What its
last request left stays in the KV cells until they are needed: that is what is saved and erased, and
what a restored session becomes. Prompts find it from every slot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec

from shimmy.engine.types.slot import SlotDone, SlotInfo, SlotVerb
from shimmy.errors import EngineLoadingError, InvalidRequestError
from shimmy.server.errors import FieldError
from shimmy.server.holding import peek
from shimmy.server.reply import json_response

if TYPE_CHECKING:
    from aiohttp import web


class _Body(msgspec.Struct):
    filename: str = ""


_body = msgspec.json.Decoder(_Body)


async def list_slots(request: web.Request) -> web.Response:
    """Return the slots of a loaded model; `fail_on_no_slot` makes a full server answer 503."""
    slots = await (await peek(request)).slots()
    if "fail_on_no_slot" in request.query and all(slot.is_processing for slot in slots):
        raise EngineLoadingError("no slot is free")
    return json_response([_slot(slot) for slot in slots])


async def act_on_slot(request: web.Request) -> web.Response:
    """Save, restore or erase what the last request of a slot left."""
    slot = _number(request.match_info["id_slot"])
    verb = request.query.get("action", "")
    if verb not in ("save", "restore", "erase"):
        raise InvalidRequestError(
            f"action must be save, restore or erase, got {verb!r}", param="action"
        )
    filename = "" if verb == "erase" else _filename(await request.read())
    engine = await peek(request)
    done = await engine.slot_action(slot, cast("SlotVerb", verb), filename)
    return json_response(_done(slot, verb, filename, done))


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise InvalidRequestError(f"id_slot must be a slot's number, got {text!r}", param="id_slot")
    return int(text)


def _filename(body: bytes) -> str:
    try:
        filename = _body.decode(body).filename
    except msgspec.DecodeError as error:
        raise FieldError(
            f'the body must be {{"filename": NAME}}: {error}', param="filename", code="invalid_body"
        ) from error
    if not filename:
        raise InvalidRequestError("filename is missing", param="filename")
    return filename


def _slot(slot: SlotInfo) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": slot.id,
        "n_ctx": slot.n_ctx,
        "is_processing": slot.is_processing,
        "n_past": slot.n_past,
    }
    if slot.is_processing:
        shown |= {
            "id_task": slot.request_id,
            "n_prompt_tokens": slot.n_prompt,
            "n_prompt_tokens_cache": slot.n_cached,
            "next_token": [{"n_decoded": slot.n_generated}],
        }
    return shown


def _done(slot: int, verb: str, filename: str, done: SlotDone) -> dict[str, Any]:
    if verb == "erase":
        return {"id_slot": slot, "n_erased": done.n_tokens}
    moved, size = ("n_saved", "n_written") if verb == "save" else ("n_restored", "n_read")
    return {
        "id_slot": slot,
        "filename": filename,
        moved: done.n_tokens,
        size: done.n_bytes,
        "timings": {f"{verb}_ms": round(done.ms, 3)},
    }
