"""Engines on the tiny model, and short ways to ask them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shimmy.engine import Engine
from shimmy.engine.types.options import EngineOptions


@pytest.fixture
def options(tiny_gguf: Path) -> EngineOptions:
    return EngineOptions(model_path=str(tiny_gguf), n_threads=1, n_parallel=4, n_ctx=2048)


@pytest.fixture
async def solo(options: EngineOptions) -> AsyncIterator[Engine]:
    async with Engine.solo(options) as engine:
        yield engine


@pytest.fixture
async def child(options: EngineOptions) -> AsyncIterator[Engine]:
    async with Engine.child(options) as engine:
        yield engine
