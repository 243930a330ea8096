from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shimmy.llama import Context, ContextParams, Model
from tests.support.tiny_gguf import write_model


@pytest.fixture
def model(tiny_gguf: Path) -> Iterator[Model]:
    with Model.load(tiny_gguf) as model:
        yield model


@pytest.fixture
def context(model: Model) -> Iterator[Context]:
    with Context(model, ContextParams(n_ctx=256, n_batch=64, n_seq_max=4, kv_unified=True)) as ctx:
        yield ctx


@pytest.fixture(scope="session")
def tiny_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that writes each kind of tiny model once."""
    directory, made = tmp_path_factory.mktemp("kinds"), {}

    def write(**options: Any) -> Path:
        key = repr(sorted(options.items()))
        if key not in made:
            made[key] = write_model(directory / f"{len(made)}.gguf", **options)
        return made[key]

    return write


@pytest.fixture(scope="session")
def alone() -> Iterator[Callable[..., Any]]:
    """Return a function that calls another one in a process of its own.

    For tests of the log ring: an engine that some other test has left running reads it too.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


@pytest.fixture(autouse=True)
def _nothing_forgotten() -> Iterator[None]:
    """A handle that a test leaves open warns, which is an error, in that test and not a later one."""
    yield
    gc.collect()
