from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_cache_of_this_machine(tmp_path_factory, monkeypatch):
    """Headers that tests read are kept apart from the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
