"""Main memory within cgroups: trees as each version lays them out, and a real group where one can be made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from shimmy.machine.memory import free_swap, main_memory
from shimmy.models.budget import host_memory
from tests.support.cgroup import GROUPS, group
from tests.support.cgroup_tree import V1, V2, tree
from tests.support.large_gguf import write_large
from tests.support.tiny_gguf import write_model

MIB = 1 << 20
NONE_V1 = 0x7FFFFFFFFFFFF000


@pytest.fixture(autouse=True)
def machine(monkeypatch) -> None:
    """A machine of 64 GB, 40 of them free, and 4 of swap."""
    memory = psutil.virtual_memory()._replace(total=64_000, available=40_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    swap = psutil.swap_memory()._replace(free=4_000)
    monkeypatch.setattr(psutil, "swap_memory", lambda: swap)


def figures(root: Path) -> tuple[int, int]:
    memory = main_memory(root)
    return memory.total, memory.free


def test_without_a_group_the_machine_counts(tmp_path):
    assert figures(tmp_path) == (64_000, 40_000)
    assert free_swap(tmp_path) == 4_000


def test_a_group_without_a_limit_changes_nothing(tmp_path):
    files = {"memory.max": "max", "memory.high": "max", "memory.current": 900}
    root = tree(tmp_path, cgroup="0::/\n", mounts=V2, files=files)
    assert figures(root) == (64_000, 40_000)


def test_a_container_of_version_2(tmp_path):
    files = {
        "memory.max": 8_000,
        "memory.current": 5_000,
        "memory.stat": "anon 2000\ninactive_file 2500\nactive_file 400\nslab 50",
        "memory.swap.max": 1_000,
        "memory.swap.current": 300,
    }
    root = tree(tmp_path, cgroup="0::/\n", mounts=V2, files=files)
    # pages of files are given back: what is mapped counts as free, as on the whole machine
    assert figures(root) == (8_000, 5_900)
    assert free_swap(root) == 700


def test_groups_around_count_too_and_so_does_high(tmp_path):
    files = {
        "a/memory.max": 9_000,
        "a/memory.current": 8_500,
        "a/memory.stat": "inactive_file 0",
        "a/b/memory.max": "max",
        "a/b/memory.high": 6_000,
        "a/b/memory.current": 100,
    }
    root = tree(tmp_path, cgroup="0::/a/b\n", mounts=V2, files=files)
    assert figures(root) == (6_000, 500)


def test_a_group_over_its_limit_has_nothing_free(tmp_path):
    files = {"memory.max": 1_000, "memory.current": 1_200}
    assert figures(tree(tmp_path, cgroup="0::/\n", mounts=V2, files=files)) == (1_000, 0)


@pytest.mark.parametrize(("within", "folder"), [("/docker/x", "."), ("/", "docker/x")])
def test_version_1_inside_a_container_and_outside(tmp_path, within, folder):
    files = {
        f"memory/{folder}/memory.limit_in_bytes": 8_000,
        f"memory/{folder}/memory.usage_in_bytes": 3_000,
        f"memory/{folder}/memory.stat": "inactive_file 1\ntotal_inactive_file 500",
        f"memory/{folder}/memory.memsw.limit_in_bytes": 9_000,
        f"memory/{folder}/memory.memsw.usage_in_bytes": 3_200,
    }
    cgroup = "5:cpu:/docker/x\n4:memory:/docker/x\n0::/docker/x\n"
    root = tree(tmp_path, cgroup=cgroup, mounts=V1.format(within), files=files)
    assert figures(root) == (8_000, 5_500)
    assert free_swap(root) == 800


def test_version_1_without_a_limit(tmp_path):
    files = {
        "memory/memory.limit_in_bytes": NONE_V1,
        "memory/memory.usage_in_bytes": 3_000,
        "memory/memory.memsw.limit_in_bytes": NONE_V1,
    }
    root = tree(tmp_path, cgroup="4:memory:/\n", mounts=V1.format("/"), files=files)
    assert figures(root) == (64_000, 40_000)
    assert free_swap(root) == 4_000


@pytest.mark.parametrize("path", ["/../../elsewhere", "/not/shown/here"])
def test_a_group_that_is_not_mounted_here_is_judged_by_what_is(tmp_path, path):
    files = {"memory.max": 8_000, "memory.current": 1_000}
    root = tree(tmp_path, cgroup=f"0::{path}\n", mounts=V2, files=files)
    assert figures(root) == (8_000, 7_000)


@pytest.mark.parametrize("junk", ["", "0\n", "0::\n:::\n", "x y - z\n", "1:memory\n"])
def test_nonsense_limits_nothing(tmp_path, junk):
    root = tree(tmp_path, cgroup=junk, mounts=junk + V2, files={"memory.stat": "inactive_file"})
    assert figures(root) == (64_000, 40_000)


@pytest.fixture
def real(monkeypatch) -> Iterator[None]:
    """The machine as it is, and groups that can be made on it."""
    monkeypatch.undo()
    if not GROUPS:
        pytest.skip("no cgroup can be made here")


def shimmy(limited: Path, *args: object) -> subprocess.CompletedProcess[str]:
    """Run a command inside a group."""
    script = f'echo $$ > {limited}/cgroup.procs && exec "$@"'
    command = [sys.executable, "-m", "shimmy", *map(str, args)]
    return subprocess.run(
        ["sh", "-c", script, "sh", *command], capture_output=True, text=True, timeout=100,
        check=False, env=os.environ | {"SHIMMY_LOG_LEVEL": "error"},
    )  # fmt: skip


def test_a_plan_in_a_container_goes_by_the_containers_memory(real, tmp_path):
    path = write_model(tmp_path / "m.gguf", n_layer=24, n_ctx=1 << 20)
    with group(memory=600 * MIB) as limited:
        done = shimmy(limited, "plan", path, "-np", "1", "-c", "32768", "--json")
        assert done.returncode == 0, done.stderr
        (host,) = json.loads(done.stdout)["plan"]["devices"]
        assert host["total"] == 600 * MIB
        assert host["free"] < 600 * MIB
        # about 800 MB of cache: on the machine they fit
        done = shimmy(limited, "plan", path, "-np", "1", "-c", "131072")
        assert done.returncode == 1, done.stdout
        assert "the model does not fit: CPU has" in done.stdout
        # without a size the context shrinks, and the model answers
        done = shimmy(limited, "generate", path, "--prompt", "hi", "--max-tokens", "2")
        assert done.returncode == 0, done.stderr


def test_a_model_larger_than_memory_answers_from_its_mapped_file(real, tmp_path):
    """Its pages come and go: what the group may use is less than the weights alone."""
    path = write_large(tmp_path / "large.gguf", 900 * MIB)
    small = ("-c", "256", "-np", "1")
    with group(memory=500 * MIB) as limited:
        done = shimmy(limited, "plan", path, *small)
        assert done.returncode == 0, done.stderr
        assert "of the weights are read from the file again and again" in done.stdout
        done = shimmy(limited, "plan", path, *small, "--load-mode", "none")
        assert done.returncode == 1, done.stdout
        assert "--load-mode mmap: the weights are read from the file" in done.stdout
        asked = ("generate", path, "-c", "256", "--raw", "--prompt", "hi", "--max-tokens", "3")
        done = shimmy(limited, *asked, "--temperature", "0", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["usage"]["completion_tokens"] == 3
        done = shimmy(limited, *asked, "--load-mode", "none")
        assert done.returncode == 1
        assert "the model does not fit: CPU has" in done.stderr


def test_recommend_and_the_pool_count_the_containers_memory(real):
    with group(memory=900 * MIB) as limited:
        done = shimmy(limited, "recommend", "--vram", "0", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["machine"]["ram"] < 900 * MIB
    assert host_memory() <= psutil.virtual_memory().available
