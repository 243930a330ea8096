"""The build says which llama.cpp it is."""

from __future__ import annotations

import json
from pathlib import Path

from shimmy.llama import backend

PIN = json.loads((Path(__file__).parents[2] / "vendor" / "llama.cpp" / "pin.json").read_text())


def test_the_version_is_the_pinned_build() -> None:
    assert backend.version() == f"b{PIN['build']}"
