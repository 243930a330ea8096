"""What the package shows, and that its declarations are the library's."""

from __future__ import annotations

import ast
from pathlib import Path

import shimmy.llama
from shimmy.llama._ffi import lib

PACKAGE = Path(shimmy.llama.__file__).parent


def test_all_is_sorted_and_complete() -> None:
    assert shimmy.llama.__all__ == sorted(shimmy.llama.__all__)
    public = {
        name
        for name, value in vars(shimmy.llama).items()
        if getattr(value, "__module__", "").startswith("shimmy.llama.")
    }
    assert public == set(shimmy.llama.__all__)


def test_every_native_name_in_the_code_exists() -> None:
    """An error path that no test runs must not hide a misspelt function."""
    for file in sorted(PACKAGE.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "lib"
            ):
                assert hasattr(lib, node.attr), f"{file.name}:{node.lineno}: lib.{node.attr}"


def test_the_extension_and_the_shim_are_of_one_build() -> None:
    assert lib.shm_abi_version() == lib.SHM_ABI_VERSION
