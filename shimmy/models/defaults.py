"""What a model's store keeps for its requests, as defaults of the engine's request: pure functions.

A store's parameters go by Ollama's names. Those that are no request's (num_ctx), that llama.cpp has
no more (tfs_z), and values that cannot be, are passed over: a store is no request to refuse.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from shimmy.engine.types.prompt import ChatPrompt, Message
from shimmy.engine.types.request import GenerateRequest
from shimmy.engine.types.sampling import SamplingParams
from shimmy.errors import InvalidRequestError

_SAMPLING: dict[str, tuple[str, type]] = {
    "seed": ("seed", int),
    "temperature": ("temperature", float),
    "top_k": ("top_k", int),
    "top_p": ("top_p", float),
    "min_p": ("min_p", float),
    "typical_p": ("typ_p", float),
    "repeat_last_n": ("repeat_last_n", int),
    "repeat_penalty": ("repeat_penalty", float),
    "presence_penalty": ("presence_penalty", float),
    "frequency_penalty": ("frequency_penalty", float),
    "mirostat": ("mirostat", int),
    "mirostat_tau": ("mirostat_tau", float),
    "mirostat_eta": ("mirostat_eta", float),
}
_SYSTEM = ("system", "developer")


def with_defaults(
    request: GenerateRequest,
    parameters: Mapping[str, Any],
    system: str | None,
    *,
    limited: bool = True,
) -> GenerateRequest:
    """Return `request` with a model's own settings where it says nothing itself.

    Without `limited` its `max_tokens` is nobody's word, and the model's goes before.
    """
    prompt = request.prompt
    if isinstance(prompt, ChatPrompt):
        request = msgspec.structs.replace(request, prompt=with_system(prompt, system))
    if not parameters:
        return request
    changes: dict[str, Any] = {"sampling": _sampling(request.sampling, parameters)}
    if not request.stop:
        changes["stop"] = _stops(parameters.get("stop"))
    if request.max_tokens is None or not limited:
        limit = _read(parameters, "num_predict", int)
        if limit is not None:
            changes["max_tokens"] = limit if limit > 0 else None
    if request.n_keep == 0:
        changes["n_keep"] = _n_keep(_read(parameters, "num_keep", int))
    changed = msgspec.structs.replace(request, **changes)
    try:
        changed.check()
    except InvalidRequestError:
        # its own fault, which the engine tells with the field's name; or the store's, whose word is dropped
        return request
    return changed


def with_system(prompt: ChatPrompt, system: str | None) -> ChatPrompt:
    """Return a conversation that begins with a model's own system message, if it has none."""
    if not system or any(message.role in _SYSTEM for message in prompt.messages):
        return prompt
    messages = [Message(role="system", content=system), *prompt.messages]
    return msgspec.structs.replace(prompt, messages=messages)


def _sampling(given: SamplingParams, parameters: Mapping[str, Any]) -> SamplingParams:
    found = {}
    for theirs, (ours, kind) in _SAMPLING.items():
        value = _read(parameters, theirs, kind)
        # -1 asks for a random seed, as nothing does
        if getattr(given, ours) is not None or value is None or (ours == "seed" and value < 0):
            continue
        try:
            SamplingParams(**{ours: value}).check()
        except InvalidRequestError:
            continue
        found[ours] = value
    return msgspec.structs.replace(given, **found)


def _read(parameters: Mapping[str, Any], name: str, kind: type) -> Any:
    """Return a parameter as a number of its kind; None where it is absent or no such number."""
    try:
        value = msgspec.convert(parameters.get(name), kind | None, strict=False)
    except msgspec.ValidationError:
        return None
    return value if value is None or -(2**31) <= value < 2**32 else None


def _stops(stop: Any) -> list[str]:
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list):
        return []
    return [each for each in stops if isinstance(each, str) and each]


def _n_keep(n_keep: int | None) -> int:
    """Return how many tokens are kept; Ollama's -1 is all of the prompt."""
    if n_keep is None:
        return 0
    return 2**31 - 1 if n_keep < 0 else min(n_keep, 2**31 - 1)
