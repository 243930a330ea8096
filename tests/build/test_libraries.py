"""What ci/dev has built into the tree: found by $ORIGIN alone, each library once, nothing but the C ABI exported."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="ELF"),
    pytest.mark.skipif(not shutil.which("readelf"), reason="needs binutils"),
]


@pytest.fixture
def extension(root: Path) -> Path:
    return root / "shimmy/llama/_llama.abi3.so"


@pytest.fixture
def libraries(extension: Path) -> list[Path]:
    return sorted((extension.parent / "lib").glob("*.so"))


def dynamic(library: Path, tag: str) -> list[str]:
    text = subprocess.run(
        ["readelf", "-dW", library], capture_output=True, text=True, check=True
    ).stdout
    return re.findall(rf"\({tag}\).*\[(.*)\]", text)


def test_only_origin_is_searched(extension: Path, libraries: list[Path]) -> None:
    assert dynamic(extension, "RUNPATH") == ["$ORIGIN/lib"]
    for library in libraries:
        assert dynamic(library, "RUNPATH") == ["$ORIGIN"], library
    for library in [extension, *libraries]:
        assert not dynamic(library, "RPATH"), library


def test_no_versioned_names(extension: Path, libraries: list[Path]) -> None:
    """A wheel holds no links: libllama.so.0 beside libllama.so would be a second copy, loaded beside the first."""
    own = {library.name for library in libraries}
    assert {"libllama.so", "libggml.so", "libggml-base.so", "libshimmy_native.so"} <= own
    assert not list((extension.parent / "lib").glob("*.so.*"))
    for library in [extension, *libraries]:
        for needed in dynamic(library, "NEEDED"):
            assert "/" not in needed
            if re.match(r"lib(llama|ggml|shimmy)", needed):
                assert needed in own, f"{library.name} needs {needed}"


def test_a_cpu_backend_is_there(libraries: list[Path]) -> None:
    assert any(library.name.startswith("libggml-cpu") for library in libraries)
    # not linked by anything: a backend that cannot be loaded must stop nobody else
    for library in libraries:
        assert not [n for n in dynamic(library, "NEEDED") if re.match(r"libggml-(?!base)", n)], (
            library
        )


def test_the_shim_exports_its_c_abi_alone(libraries: list[Path]) -> None:
    shim = next(library for library in libraries if library.name == "libshimmy_native.so")
    text = subprocess.run(
        ["nm", "-D", "--defined-only", shim], capture_output=True, text=True, check=True
    ).stdout
    names = {line.split()[-1] for line in text.splitlines()}
    assert names
    assert not {name for name in names if not name.startswith("shm_")}


def test_llama_cpp_comes_with_its_licence(extension: Path) -> None:
    licences = extension.parent / "lib/licenses"
    assert "Copyright (c) 2023" in (licences / "LICENSE").read_text()
    assert len(list(licences.iterdir())) > 1
