"""Fixtures that more than one package's tests use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny llama model with random weights, a byte-level BPE vocabulary and a ChatML template."""
    from tests.support.tiny_gguf import write_model

    return write_model(tmp_path_factory.mktemp("gguf") / "tiny.gguf")
