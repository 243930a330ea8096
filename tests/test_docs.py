"""What the documents say is still so: commands, flags, paths, variables, routes, examples."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from shimmy.cli.group import COMMANDS, main
from shimmy.config import VARIABLES

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", read(name), re.MULTILINE | re.DOTALL)


def command_lines() -> list[list[str]]:
    """Every `shimmy ...` in the documents' shell blocks and inline code."""
    shell = "\n".join(block for name in DOCUMENTS for block in blocks(name, "sh"))
    inline = [code for name in DOCUMENTS for code in re.findall(r"`(shimmy [^`\n]+)`", read(name))]
    found = re.findall(r"(?:^|&& )(shimmy [^\n&]*)", shell, re.MULTILINE) + inline
    return [shlex.split(line.partition("<")[0], comments=True) for line in found]


@pytest.mark.parametrize("words", command_lines(), ids=" ".join)
def test_commands_and_flags_in_the_documents_exist(words):
    _, name, *rest = words
    if name.startswith("-"):
        return
    if name != "COMMAND":
        assert name in COMMANDS
    context = click.Context(main)
    command = main.get_command(context, name) if name in COMMANDS else main
    # not get_params(): it adds a help option to the command for good, without the -h of its context
    known = {flag for param in command.params for flag in param.opts} | {"--help"}
    assert {word for word in rest if word.startswith("-")} <= known


def test_the_readme_lists_every_command_with_its_own_help_line():
    rows = dict(re.findall(r"^\| `shimmy ([a-z-]+)` \| (.+?) \|$", read("README.md"), re.MULTILINE))
    assert rows == {name: line for name, (_, line) in COMMANDS.items()}


def test_the_readme_lists_every_variable_with_its_own_meaning():
    rows = re.findall(r"^\| `(SHIMMY_\w+)` \| (.+?) \|$", read("README.md"), re.MULTILINE)
    assert rows == [(variable.name, variable.meaning) for variable in VARIABLES]


def test_the_readme_lists_every_route():
    source = (ROOT / "shimmy/server/app.py").read_text(encoding="utf-8")
    n_routes = len(re.findall(r"\bweb\.(?:get|post)\(", source))
    rows = re.findall(r"^\| `(?:GET|POST) (/[^`]*)` \|", read("README.md"), re.MULTILINE)
    from shimmy.server.health import ENDPOINTS

    assert len(rows) == n_routes
    assert set(ENDPOINTS.values()) <= set(rows)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_paths_in_the_documents_exist(name):
    tops = "shimmy|native|vendor|tests|training|ci|cmake"
    paths = set(re.findall(rf"`((?:{tops})/[\w./-]*)", read(name)))
    paths |= set(re.findall(r"\]\(([\w./-]+)\)", read(name)))
    assert not {path for path in paths if not (ROOT / path).exists()}


@pytest.mark.parametrize("source", blocks("README.md", "python"))
def test_python_examples_parse_and_their_names_exist(source):
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "shimmy":
            import shimmy

            assert all(hasattr(shimmy, alias.name) for alias in node.names)


def test_the_library_example_runs():
    (source,) = [block for block in blocks("README.md", "python") if "asyncio.run" in block]
    done = subprocess.run(
        [sys.executable, "-c", source],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "llama.cpp" in done.stdout


def test_no_output_is_left_to_be_pasted():
    assert not [name for name in DOCUMENTS if "<!-- output" in read(name)]


def test_every_public_name_of_the_package_loads():
    import shimmy

    for name in shimmy._HOMES:
        assert getattr(shimmy, name) is not None
        assert name in dir(shimmy)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = shimmy.Nothing


def test_the_architecture_fits_in_150_lines():
    assert len(read("ARCHITECTURE.md").splitlines()) <= 150


def test_the_changelog_has_the_version_of_the_package():
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    assert f"## [{version}]" in read("CHANGELOG.md")
