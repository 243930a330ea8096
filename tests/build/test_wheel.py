"""The wheel that ci/wheel has built, and the sdist."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

COPIED = [
    "CMakeLists.txt",
    "LICENSE",
    "README.md",
    "pyproject.toml",
    "cmake",
    "native",
    "shimmy",
    "vendor",
]


@pytest.fixture
def wheel(root: Path) -> zipfile.ZipFile:
    built = sorted((root / "build/wheel").glob("*.whl"))
    sources = [
        root / "pyproject.toml",
        *(root / "shimmy").rglob("*"),
        *(root / "native").rglob("*"),
    ]
    newest = max(
        path.stat().st_mtime for path in sources if path.is_file() and path.suffix != ".pyc"
    )
    if not built or built[-1].stat().st_mtime < newest:
        pytest.skip("no wheel of these sources: ci/wheel makes it")
    return zipfile.ZipFile(built[-1])


def test_one_abi3_wheel(wheel: zipfile.ZipFile) -> None:
    assert "-cp311-abi3-" in Path(wheel.filename).name
    assert "shimmy/llama/_llama.abi3.so" in wheel.namelist()


def test_nothing_but_the_package(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"shimmy", "shimmy_llm"}
    assert not [
        name for name in names if name.endswith((".h", ".hpp", ".cpp", ".cmake", ".pc", ".a", ".o"))
    ]
    assert len(names) == len(set(names))
    assert "shimmy/models/demo/shimmy-demo.gguf" in names


def test_licences(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert "shimmy/llama/lib/licenses/LICENSE" in names


def test_size(wheel: zipfile.ZipFile) -> None:
    """One CPU backend and the demo model; all variants take about 10 MB more."""
    assert Path(wheel.filename).stat().st_size < 20_000_000


def test_sdist_carries_the_pinned_tree(root: Path, tmp_path: Path) -> None:
    # from a copy: the tree is unpacked into the source folder
    source = tmp_path / "source"
    source.mkdir()
    for name in COPIED:
        if (root / name).is_dir():
            skip = shutil.ignore_patterns("__pycache__", "*.so", "tree")
            shutil.copytree(root / name, source / name, ignore=skip)
        elif (root / name).exists():
            shutil.copy(root / name, source / name)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        [sys.executable, "-m", "build", "-q", "--sdist", "--no-isolation", "-o", tmp_path, source],
        check=True,
        env=os.environ | {"PATH": path},
    )
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        assert not [member for member in archive if member.issym() or member.islnk()]
        # not in every 3.11, and asked for by newer ones
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(tmp_path, **safely)
    unpacked = next(tmp_path.glob("shimmy_llm-*/"))
    digest = subprocess.run(
        [sys.executable, "-B", unpacked / "vendor/llama.cpp/tree.py", "digest", unpacked / "vendor/llama.cpp/tree"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    pin = json.loads((root / "vendor/llama.cpp/pin.json").read_text())
    assert digest.stdout.strip() == pin["digest"]
