"""A starter model now, a better one behind it: chosen, fetched, loaded, and switched to by an alias.

Nothing here answers requests: whatever fails, the starter goes on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from shimmy.errors import EngineClosedError, ModelLoadError, ShimmyError
from shimmy.models.catalogue import Catalogue, Machine, Recommendation, recommend
from shimmy.models.catalogue.recommend import is_better
from shimmy.models.entry import ModelEntry
from shimmy.models.hub.apart import apart
from shimmy.models.hub.download import download
from shimmy.models.hub.locate import locate
from shimmy.models.hub.spec import RepoSpec
from shimmy.models.pool import Pool
from shimmy.models.upgrade_status import UpgradeStatus

log = logging.getLogger(__name__)

# Seconds between two lines about how far a fetch is.
_LINE_EVERY = 10.0


class Upgrade:
    """Brings the best model of the catalogue for a machine behind `alias`. Thread: the event loop's."""

    def __init__(
        self,
        pool: Pool,
        alias: str,
        known: Catalogue,
        *,
        machine: Callable[[], Awaitable[Machine]],
        root: Path,
    ) -> None:
        """The alias means the starter already; `machine` is asked once it is loaded. Fetch to `root`."""
        self._pool = pool
        self._known = known
        self._machine = machine
        self._root = root
        self._starter = pool.resolve(alias)
        self._next_line = 0.0
        self._there: dict[str, int] = {}
        self.status = UpgradeStatus(alias=alias, starter=self._starter.name)

    async def run(self) -> None:
        """Do it all, once. What fails is logged and in `status`; cancelling keeps what was fetched."""
        try:
            await self._run()
        except EngineClosedError:
            return  # the server ends
        except ShimmyError as error:
            self._fail(error.message)
        except Exception as error:
            # nobody waits for this: it would be lost
            log.exception("auto")
            self._fail(f"{type(error).__name__}: {error}")

    async def _run(self) -> None:
        await self._begin()
        best = self._best(await self._machine())
        if best is None:
            self._note(state="kept")
            log.info("auto: nothing of the catalogue is better here than %s", self._starter.name)
            return
        self._note(model=best.spec)
        if best.on_disk:
            entry = self._pool.resolve(best.on_disk[0])
        else:
            entry = await self._fetch(best)
        self._note(state="loading", model=entry.name)
        await self._pool.load(entry.name)
        self._pool.aliases.point(self.status.alias, entry.name)
        self._note(state="done")
        log.info("auto: %s answers now in place of %s", entry.name, self._starter.name)

    async def _begin(self) -> None:
        """Load the starter; the built-in model stands in for one that does not load."""
        try:
            await self._pool.load(self._starter.name)
        except ModelLoadError as error:
            log.warning("auto: %s does not load: %s", self._starter.name, error.message)
            entries = self._pool.registry.entries()
            self._starter = next((e for e in entries if e.source == "builtin"), self._starter)
            self._pool.aliases.point(self.status.alias, self._starter.name)
            self._note(starter=self._starter.name)
            await self._pool.load(self._starter.name)

    def _best(self, machine: Machine) -> Recommendation | None:
        """Return what `shimmy recommend --use chat` names first, if it is better than the starter."""
        entries = self._pool.registry.entries()
        found = recommend(self._known, machine, use="chat", entries=entries)
        better = found and is_better(found[0], self._starter, machine)
        return found[0] if better else None

    async def _fetch(self, best: Recommendation) -> ModelEntry:
        """Fetch a model and return it as it is called here."""
        self._note(state="locating")
        pull = await locate(RepoSpec(repo=best.model.repo, quant=best.quant), self._root)
        pull.check_space()
        self._note(state="fetching", size=pull.size)
        log.info(
            "auto: %s answers while %s is fetched, %s",
            self._starter.name, best.spec, _megabytes(pull.to_fetch),
        )  # fmt: skip
        path = await apart(download(pull, self._on_bytes))
        registry = self._pool.registry
        await asyncio.to_thread(registry.refresh)
        for entry in registry.entries():
            if Path(entry.path) == path:
                return entry
        raise ModelLoadError(f"{path} was fetched and is no model: `shimmy discover` says why")

    def _on_bytes(self, name: str, done: int) -> None:
        """Note how far a file is. Thread: the fetch's."""
        self._there[name] = done
        status = msgspec.structs.replace(self.status, n_bytes=sum(self._there.values()))
        self.status = status
        now = time.monotonic()
        if now >= self._next_line:
            self._next_line = now + _LINE_EVERY
            log.info(
                "auto: %s: %s of %s (%d %%)",
                status.model, _megabytes(status.n_bytes), _megabytes(status.size),
                100 * status.progress,
            )  # fmt: skip

    def _fail(self, why: str) -> None:
        self._note(state="failed", error=why)
        what = self.status.model or "a better model"
        log.warning("auto: no %s: %s; %s goes on", what, why, self._starter.name)

    def _note(self, **changes: object) -> None:
        self.status = msgspec.structs.replace(self.status, **changes)


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB"
