"""Looks for a shimmy on this machine that has a model file already."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from shimmy.config import API_KEYS, BIND_ADDRESS
from shimmy.engine.remote.address import root_of
from shimmy.engine.remote.link import RemoteLink

PORTS = range(11435, 11439)
"""Where `shimmy serve` listens if nobody says otherwise: the first free one."""

SECONDS = 0.8
"""For all of the search: `auto` must not be slower than a load."""

_MAX_ANSWER = 4 * 1024 * 1024
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")


class Search:
    """Looks for a server that has one model. A server that is anything else is passed over."""

    def __init__(self, model: str, *, url: str | None, api_key: str | None) -> None:
        """Look for `model`, a path or a name, at `url` or else where shimmy usually is.

        Raises:
            ConfigError: `url` is not one of http or https, or SHIMMY_API_KEY cannot be.
        """
        self._model = model
        keys = API_KEYS.get()
        self._key = api_key or (keys[0] if keys else None)
        self._roots = [root_of(url)] if url is not None else _usual_roots()

    async def find(self) -> RemoteLink | None:
        """Return the link to the first server that has the model; None if there is none."""
        size = await asyncio.to_thread(_size_of, self._model)
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        timeout = aiohttp.ClientTimeout(total=SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
            names = await asyncio.gather(*(self._look(session, root, size) for root in self._roots))
        for root, name in zip(self._roots, names, strict=True):
            if name is not None:
                return RemoteLink(root, model=name, api_key=self._key, silence=300.0)
        return None

    async def _look(
        self, session: aiohttp.ClientSession, root: str, size: int | None
    ) -> str | None:
        """Return what the server calls the model; None if it is no shimmy, not well or lacks it."""
        try:
            async with asyncio.timeout(SECONDS):
                health = await _get(session, f"{root}/health")
                if health.get("service") != "shimmy" or health.get("status") != "ok":
                    return None
                models = (await _get(session, f"{root}/api/models")).get("models")
        except (aiohttp.ClientError, TimeoutError, ValueError, msgspec.MsgspecError):
            return None
        for model in models if isinstance(models, list) else ():
            if isinstance(model, dict) and self._is_meant(model, size):
                return str(model["name"])
        return None

    def _is_meant(self, model: dict[str, Any], size: int | None) -> bool:
        """A file is told by its name and its size; without a file the name must do."""
        name = model.get("name")
        if size is None:
            return name == self._model
        if not isinstance(name, str) or model.get("size_bytes") != size:
            return False
        # a second file of one name goes by name@folder
        return name.partition("@")[0] == _stem(self._model)


async def _get(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(url, allow_redirects=False) as response:
        if response.status != 200:
            return {}
        body = await response.content.read(_MAX_ANSWER)
        while chunk := await response.content.read(_MAX_ANSWER):
            body += chunk
            if len(body) > _MAX_ANSWER:
                return {}
    answer = msgspec.json.decode(body)
    return answer if isinstance(answer, dict) else {}


def _usual_roots() -> list[str]:
    roots = [f"http://127.0.0.1:{port}" for port in PORTS]
    address = BIND_ADDRESS.get()
    if address and address != "auto":
        for anywhere in ("0.0.0.0:", "[::]:"):
            address = address.replace(anywhere, "127.0.0.1:")
        roots.insert(0, f"http://{address}")
    return list(dict.fromkeys(roots))


def _stem(path: str) -> str:
    return _SHARD.sub("", Path(path).stem)


def _size_of(model: str) -> int | None:
    """Return the bytes of a model file with all its shards; None if there is none."""
    path = Path(model).expanduser()
    try:
        size = path.stat().st_size
        if _SHARD.search(path.stem):
            ending = path.stem[-len("-of-00000") :]
            shards = path.parent.glob(f"*{ending}{path.suffix}")
            size = sum(
                shard.stat().st_size for shard in shards if _stem(str(shard)) == _stem(model)
            )
    except OSError:
        return None
    return size
