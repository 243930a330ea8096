from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib.metadata import version

import click
import pytest

from shimmy.cli import flags
from shimmy.cli.group import COMMANDS, main
from shimmy.cli.sections import SECTIONS
from shimmy.config import GPU_BACKENDS
from shimmy.errors import ConfigError


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_every_command(shimmy, flag):
    result = shimmy(flag)
    assert result.exit_code == 0
    for name, (_, line) in COMMANDS.items():
        assert name in result.stdout
        assert line in " ".join(result.stdout.split())


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_version_is_that_of_the_installed_package(shimmy, flag):
    result = shimmy(flag)
    assert result.stdout == f"shimmy {version('shimmy-llm')}\n"
    assert result.exit_code == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_line_is_the_commands_own(name):
    command = main.get_command(click.Context(main), name)
    assert command.name == name
    assert command.get_short_help_str(limit=100) == COMMANDS[name][1]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(shimmy, name):
    result = shimmy(name, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: ")


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys; from shimmy.cli import main\n"
        "try: main(['--help'], prog_name='shimmy')\n"
        "except SystemExit: pass\n"
        "heavy = {'rich', 'msgspec', 'aiohttp', 'asyncio', 'shimmy.engine', 'shimmy.models'}\n"
        "sys.exit(str(heavy & sys.modules.keys()) if heavy & sys.modules.keys() else 0)"
    )
    times = []
    for _ in range(5):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        times.append(time.perf_counter() - start)
        assert done.returncode == 0, done.stderr
    # 40 to 60 ms where it was written; the design's bound is 150 ms, and this machine may be busy
    assert min(times) < 0.4


def test_import_shimmy_maps_no_library_of_ours_and_is_quick():
    code = (
        "import time; start = time.perf_counter(); import shimmy; took = time.perf_counter() - start\n"
        "import sys, pathlib; maps = pathlib.Path('/proc/self/maps')\n"
        "text = maps.read_text() if maps.exists() else ''\n"
        "assert 'shimmy' not in text and 'llama' not in text and 'ggml' not in text, text\n"
        "assert not {'msgspec', 'asyncio', 'shimmy.llama'} & sys.modules.keys()\n"
        "assert took < 0.2, took"
    )
    folder = "/" if os.name == "posix" else None  # the maps hold the working folder's files
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stderr


def test_an_unknown_command_is_a_usage_error(shimmy):
    result = shimmy("sreve")
    assert result.exit_code == 2
    assert "sreve" in result.stderr


def test_an_unknown_flag_is_a_usage_error(shimmy):
    result = shimmy("list", "--nope")
    assert result.exit_code == 2
    assert "--nope" in result.stderr


def test_the_list_of_backends_is_the_engines():
    assert flags.GPU_BACKENDS == GPU_BACKENDS


@pytest.mark.parametrize(
    "args",
    [
        ["--cpu-moe", "--n-cpu-moe", "3", "list"],
        ["--cpu-moe", "serve", "--n-cpu-moe", "3"],
        ["--n-cpu-moe", "0", "serve", "--cpu-moe"],
        ["serve", "--cpu-moe", "--n-cpu-moe", "3"],
        ["generate", "--prompt", "x", "--cpu-moe", "--n-cpu-moe", "3"],
    ],
)
def test_both_moe_flags_together_are_refused(shimmy, args):
    result = shimmy(*args)
    assert result.exit_code == 2
    assert "cannot be used with" in result.stderr


@pytest.mark.parametrize("args", [["--n-cpu-moe", "-1", "list"], ["--gpu-backend", "tpu", "list"]])
def test_a_global_flag_out_of_its_range_is_a_usage_error(shimmy, args):
    assert shimmy(*args).exit_code == 2


def test_an_expected_error_is_one_sentence_and_exit_1(shimmy, monkeypatch):
    def refuse(*_args, **_values):
        raise ConfigError("the moon is full; wait a day")

    monkeypatch.setattr("shimmy.cli.models.registry", refuse)
    result = shimmy("list")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: the moon is full; wait a day\n"


def test_ctrl_c_ends_with_130(shimmy, monkeypatch):
    def interrupt(*_args, **_values):
        raise KeyboardInterrupt

    monkeypatch.setattr("shimmy.cli.models.registry", interrupt)
    result = shimmy("list")
    assert result.exit_code == 130


def test_a_reader_that_left_is_no_error(home):
    script = f"{sys.executable} -m shimmy list --json | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode in {0, 141}
    assert done.stderr == ""


@pytest.mark.parametrize("name", ["serve", "generate", "probe", "plan", "bench"])
def test_help_with_many_flags_has_headings_and_every_flag_once(shimmy, name):
    command = main.get_command(click.Context(main), name)
    text = shimmy(name, "--help").stdout
    lines = text.splitlines()
    for heading in SECTIONS:
        assert lines.count(f"{heading}:") == 1
    written = [line.strip().split()[0].rstrip(",") for line in lines if line.startswith("  -")]
    options = [param.opts[0] for param in command.params if isinstance(param, click.Option)]
    assert sorted(written) == sorted([*options, "-h"])


def test_sections_name_flags_that_there_are():
    names = {
        param.name
        for command in ("serve", "bench")
        for param in main.get_command(click.Context(main), command).params
    }
    assert {name for section in SECTIONS.values() for name in section} <= names
