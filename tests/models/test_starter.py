"""Which model `serve --auto` begins with."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from shimmy.models.catalogue.recommend import RESERVE
from shimmy.models.entry import ModelEntry
from shimmy.models.starter import starter

SIZE = 1000


@pytest.fixture
def eyes(tmp_path: Path) -> ModelEntry:
    """The largest, with a projector beside it."""
    projector = tmp_path / "mmproj.gguf"
    projector.write_bytes(bytes(500))
    return msgspec.structs.replace(
        found("eyes", 9), projector=str(projector), senses=("vision",), size=SIZE
    )


def found(name: str, n_params: int) -> ModelEntry:
    return ModelEntry(
        name=name,
        path=f"/m/{name}.gguf",
        size=SIZE,
        source="discovered",
        modified=0,
        n_params=n_params,
    )


@pytest.mark.parametrize(("room", "name"), [(1499, "small"), (1500, "eyes")])
def test_the_largest_that_fits_with_its_projector_is_taken(
    eyes: ModelEntry, room: int, name: str
) -> None:
    chosen = starter([found("small", 1), eyes], RESERVE + room)
    assert chosen is not None
    assert chosen.name == name


def test_a_projector_that_is_not_loaded_takes_nothing(eyes: ModelEntry) -> None:
    for more in ({"senses": ("audio",)}, {"projector_objection": "cut"}, {"projector": "/gone"}):
        assert msgspec.structs.replace(eyes, **more).weights() == SIZE
