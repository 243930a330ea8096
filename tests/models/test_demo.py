from __future__ import annotations

from shimmy.models import demo
from shimmy.models.demo import demo_entry, demo_path
from shimmy.models.gguf.facts import facts_of
from shimmy.models.gguf.file import read_gguf


def test_the_demo_ships_in_the_package_and_is_small():
    entry = demo_entry()
    assert entry is not None
    assert entry.size <= 4_000_000
    assert entry.source == "builtin"
    assert entry.note == "built-in demo model"
    assert entry.kind == "llm"
    assert entry.objection is None
    assert facts_of(read_gguf(demo_path())).n_params == entry.n_params


def test_a_package_without_the_demo_has_none(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "demo_path", lambda: tmp_path / "none.gguf")
    assert demo_entry() is None
