from __future__ import annotations

from shimmy.models import demo
from shimmy.models.demo import demo_entry, demo_path
from shimmy.models.header import read_header


def test_the_demo_ships_in_the_package_and_is_small():
    entry = demo_entry()
    assert entry is not None
    assert entry.size <= 4_000_000
    assert entry.source == "builtin"
    assert entry.note == "built-in demo model"
    header = read_header(demo_path())
    assert header is not None
    assert header.is_model


def test_a_package_without_the_demo_has_none(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "demo_path", lambda: tmp_path / "none.gguf")
    assert demo_entry() is None
