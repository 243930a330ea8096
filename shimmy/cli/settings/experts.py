"""Where a mixture's experts go is said in one of two ways, and the stronger word ends the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shimmy.errors import ConfigError

UNSAID: dict[str, Any] = {"cpu_moe": False, "n_cpu_moe": None}
FIELDS = frozenset(UNSAID)


def check(section: Mapping[str, object], where: str) -> None:
    """Refuse a section that says both.

    Raises:
        ConfigError: it does.
    """
    if section.get("cpu_moe") and section.get("n_cpu_moe") is not None:
        raise ConfigError(f"{where}: cpu_moe cannot be used with n_cpu_moe", param="n_cpu_moe")


def alone(engine: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's own settings; one of the two takes back what the general section says of the other."""
    said = {name for name in FIELDS if engine.get(name, UNSAID[name]) != UNSAID[name]}
    return {**(UNSAID if said else {}), **engine}
