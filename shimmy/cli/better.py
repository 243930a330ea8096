"""What `shimmy serve --auto` begins with, and what it knows of the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shimmy.cli.models import default
from shimmy.engine.system import describe_system
from shimmy.errors import BackendError, ConfigError
from shimmy.models.budget import gpu_memory, host_memory
from shimmy.models.catalogue import Machine, catalogue
from shimmy.models.hub.place import pull_root
from shimmy.models.starter import starter
from shimmy.models.upgrade import Upgrade

if TYPE_CHECKING:
    from shimmy.cli.settings.resolve import Settings
    from shimmy.models.pool import Pool
    from shimmy.models.registry import Registry


class Better:
    """The starter, the alias that means it, and the way to something better."""

    def __init__(self, models: Registry, settings: Settings, alias: str) -> None:
        """Choose the starter; main memory is looked at now, before anything is loaded.

        What `--models-memory` leaves to the models holds for main memory and for the GPUs'.

        Raises:
            ConfigError: there is no model at all, or the alias is in use.
        """
        self.alias = alias
        taken = {name for entry in models.entries() for name in (entry.name, *entry.aliases)}
        if alias in settings.aliases or alias in taken:
            raise ConfigError(
                f"--auto: {alias!r} is another model's name already: give one with --alias",
                param="--alias",
            )
        free, self._limit = host_memory(), settings.budget().memory or None
        self._ram = free if self._limit is None else min(free, self._limit)
        self.starter = starter(models.entries(), self._ram) or default(models)
        self.aliases = {**settings.aliases, alias: self.starter.name}

    def upgrade(self, pool: Pool) -> Upgrade:
        """Return the upgrade of a pool that has `aliases`."""

        async def machine() -> Machine:
            vram = await _vram(pool)
            return Machine(
                vram=vram if self._limit is None else min(vram, self._limit), ram=self._ram
            )

        return Upgrade(pool, self.alias, catalogue(), machine=machine, root=pull_root())


async def _vram(pool: Pool) -> int:
    """Return the GPU memory that is free or the starter's, who can leave."""
    try:
        free = gpu_memory(await describe_system())
    except BackendError:
        return 0
    info = pool.current.info if pool.current is not None else None
    placed = info.placement if info is not None else []
    return free + sum(one.weights + one.kv + one.compute for one in placed if one.device != "CPU")
