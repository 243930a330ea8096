"""Imports go down only: the table of the design, held by a walk over the syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# package: what its modules may import of shimmy, besides itself
TABLE = {
    "cli": {
        "server",
        "models",
        "engine",
        "config",
        "errors",
        "log_format",
        "machine",
        "__version__",
    },
    "server": {"models", "engine", "config", "errors", "__version__"},
    "models": {"engine", "config", "errors", "machine"},
    # reaches the worker by the name of its entry point only: `-m`, or importlib for a thread
    "engine": {"config", "errors"},
    "worker": {"llama", "engine.types", "errors", "log_format", "machine"},
    "llama": {"errors"},
    "config": {"errors"},
    "errors": set(),
    "log_format": set(),
    "machine": set(),
    "__init__": {"engine", "errors"},
    "__main__": {"cli"},
}


def imports(source: str) -> Iterator[str]:
    """Yield the dotted names of shimmy that a module imports, wherever it does so."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (a.name[7:] for a in node.names if a.name.startswith("shimmy."))
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, "relative imports hide where a name comes from"
            if node.module.partition(".")[0] == "shimmy":
                yield from (f"{node.module}.{alias.name}"[7:] for alias in node.names)


def forbidden(package: str, source: str) -> list[str]:
    """Return the imports in `source`, a module of `package`, that the table does not allow."""
    allowed = TABLE[package] | {package}
    return [
        name
        for name in imports(source)
        if not any(name == good or name.startswith(f"{good}.") for good in allowed)
    ]


def modules() -> list[tuple[str, Path]]:
    files = sorted((ROOT / "shimmy").rglob("*.py"))
    return [
        (file.relative_to(ROOT / "shimmy").parts[0].removesuffix(".py"), file) for file in files
    ]


def test_no_module_imports_upward():
    found = {
        str(file.relative_to(ROOT)): bad
        for package, file in modules()
        if (bad := forbidden(package, file.read_text(encoding="utf-8")))
    }
    assert not found


def test_every_package_is_in_the_table():
    assert {package for package, _ in modules()} <= TABLE.keys()


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("llama", "from shimmy.worker import worker"),
        ("models", "import shimmy.llama.model"),
        ("server", "def f():\n    from shimmy.worker.worker import Worker"),
        ("engine", "from shimmy.worker.scheduler import Scheduler"),
        ("worker", "from shimmy.engine import Engine"),
        ("cli", "if TYPE_CHECKING:\n    from shimmy import llama"),
    ],
)
def test_a_forbidden_import_is_caught(package, source):
    assert forbidden(package, source)


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("worker", "from shimmy.engine.types.info import ModelInfo"),
        ("worker", "from shimmy.engine.types import prompt"),
        ("cli", "from shimmy.server import serve"),
        ("llama", "import os\nfrom rich import print"),
    ],
)
def test_an_allowed_import_is_not_caught(package, source):
    assert not forbidden(package, source)
