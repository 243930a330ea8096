from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch):
    """Return a function that imports a module of bench/."""
    monkeypatch.syspath_prepend(BENCH)
    before = set(sys.modules)
    yield __import__
    for name in set(sys.modules) - before:
        if BENCH in Path(getattr(sys.modules[name], "__file__", None) or "/").parents:
            del sys.modules[name]
