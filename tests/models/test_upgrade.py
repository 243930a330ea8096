"""The way to a better model, over fake engines: what becomes of it when something fails."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from shimmy.errors import PullError
from shimmy.models.catalogue import Machine, catalogue
from shimmy.models.registry import Registry
from shimmy.models.upgrade import Upgrade
from tests.models.fake_engine import Garage
from tests.models.pools import entry_of, make_pool


@pytest.mark.parametrize(
    ("error", "told"),
    [(PullError("no room"), "no room"), (RuntimeError("not foreseen"), "RuntimeError: not f")],
)
async def test_whatever_fails_is_told_and_the_starter_goes_on(
    error: Exception, told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def machine() -> Machine:
        raise error

    registry = Registry(registered=[entry_of("small")])
    more = {"aliases": {"auto": "small"}, "default": "auto"}
    pool = make_pool(registry, Garage(), more=more)
    upgrade = Upgrade(pool, "auto", catalogue(), machine=machine, root=tmp_path)
    with caplog.at_level(logging.WARNING):
        await upgrade.run()
    assert upgrade.status.state == "failed"
    assert told in (upgrade.status.error or "")
    assert "small goes on" in caplog.text
    async with pool.use(None) as lease:
        assert lease.entry.name == "small"
    await pool.close()
