"""Cores within cgroups: trees as each version lays them out."""

from __future__ import annotations

from pathlib import Path

import pytest

from shimmy.engine.types.options import EngineOptions
from shimmy.machine import cores
from shimmy.worker.cores import n_threads
from tests.support.cgroup_tree import V1, V2, tree


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 64 cores."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)


def version_1(root: Path, quota: int, period: int = 100_000) -> Path:
    files = {"cpu/app/cpu.cfs_quota_us": quota, "cpu/app/cpu.cfs_period_us": period}
    mounts = V1.format("/")
    return tree(root, cgroup="4:cpu,cpuacct:/app\n3:memory:/app\n", mounts=mounts, files=files)


def test_without_a_group_all_cores_count(tmp_path: Path) -> None:
    assert cores.usable(tmp_path) == 64


@pytest.mark.parametrize(
    ("text", "n_cores"),
    [
        ("max 100000", 64), ("400000 100000", 4), ("150000 100000", 2), ("20000 100000", 1),
        ("9900000 100000", 64), ("", 64), ("400000", 64), ("400000 0", 64), ("x y", 64),
    ],
)  # fmt: skip
def test_the_time_a_container_of_version_2_gets(tmp_path: Path, text: str, n_cores: int) -> None:
    files = {"pod/app/cpu.max": text}
    assert cores.usable(tree(tmp_path, cgroup="0::/pod/app\n", mounts=V2, files=files)) == n_cores


def test_the_least_of_the_groups_around_it_counts(tmp_path: Path) -> None:
    files = {"pod/cpu.max": "200000 100000", "pod/app/cpu.max": "800000 100000"}
    assert cores.usable(tree(tmp_path, cgroup="0::/pod/app\n", mounts=V2, files=files)) == 2


@pytest.mark.parametrize(("quota", "n_cores"), [(-1, 64), (0, 64), (300_000, 3), (10_000, 1)])
def test_the_time_a_container_of_version_1_gets(tmp_path: Path, quota: int, n_cores: int) -> None:
    assert cores.usable(version_1(tmp_path, quota)) == n_cores


def test_a_container_starts_as_many_threads_as_it_has_cores(monkeypatch) -> None:
    monkeypatch.setattr("shimmy.worker.cores.usable", lambda: 3)
    assert n_threads(EngineOptions(model_path="")) == 3
