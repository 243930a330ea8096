from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from rich.console import Console

from shimmy.cli import pulling
from shimmy.cli.console import sized
from shimmy.models.hub import remote
from tests.models import gguf
from tests.models.hub import Hub, serving
from tests.models.test_hub import MODEL, REPO, Usage


@pytest.fixture
def hub(monkeypatch):
    with serving(Hub()) as hub:
        hub.add(REPO, **{"tiny-Q4_K_M.gguf": MODEL, "tiny-Q8_0.gguf": MODEL + bytes(9)})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def folder(home):
    return home / "data" / "shimmy" / "models" / "org" / "tiny-GGUF"


def test_a_pulled_model_is_listed_at_once(shimmy, hub, folder):
    result = shimmy("pull", f"hf:{REPO}")
    assert result.exit_code == 0, result.output
    path = folder / "tiny-Q4_K_M.gguf"
    assert result.stdout.splitlines() == [
        "tiny-Q4_K_M.gguf  200.3 kB",
        f"to fetch: 200.3 kB of 200.3 kB, into {folder}",
        "done: tiny-Q4_K_M",
        f"serve it with: shimmy serve --model-path {path}",
    ]
    assert shimmy("list", "-s").stdout.split()[0] == "tiny-Q4_K_M"


@pytest.mark.parametrize("sense", ["vision", "audio"])
def test_a_model_that_comes_with_a_projector_is_said_to_see_images(shimmy, hub, folder, sense):
    hub.add(REPO, **{"tiny-Q4_K_M.gguf": MODEL, "mmproj-F16.gguf": gguf.projector(None, sense)})
    lines = shimmy("pull", f"hf:{REPO}").stdout.splitlines()
    n_bytes = len(MODEL) + len(gguf.projector(None, sense))
    assert lines[2:5] == [
        f"to fetch: {sized(n_bytes)} of {sized(n_bytes)}, into {folder}",
        "with its projector, mmproj-F16.gguf; --no-mmproj leaves it out",
        "done: tiny-Q4_K_M" + (", which sees images" if sense == "vision" else ""),
    ]
    told = json.loads(shimmy("pull", f"hf:{REPO}", "--json").stdout)
    assert (told["mmproj"], told["sees"]) == ("mmproj-F16.gguf", sense == "vision")
    assert told["size"] == n_bytes


def test_without_a_terminal_progress_is_plain_lines_on_stderr(shimmy, hub):
    result = shimmy("pull", f"{REPO}:q8_0")
    assert "tiny-Q8_0.gguf: 0 B of 200.3 kB (0 %)" in result.stderr
    assert "tiny-Q8_0.gguf: 200.3 kB of 200.3 kB (100 %)" in result.stderr
    assert "\x1b" not in result.output


@pytest.mark.parametrize("no_color", [False, True])
def test_a_terminal_gets_a_bar_unless_it_wants_no_colour(shimmy, hub, monkeypatch, no_color):
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=120, highlight=False)
    monkeypatch.setattr(pulling, "stderr", lambda: console)
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    assert shimmy("pull", f"hf:{REPO}").exit_code == 0
    assert ("━" in shown.getvalue()) is not no_color
    assert ("(100 %)" in shown.getvalue()) is no_color


def test_a_dry_run_writes_nothing(shimmy, hub, home):
    result = shimmy("pull", f"hf:{REPO}", "--dry-run")
    assert result.exit_code == 0
    assert "to fetch: 200.3 kB of 200.3 kB" in result.stdout
    assert not (home / "data").exists()
    assert hub.requests == []


def test_json_says_what_came(shimmy, hub, folder):
    result = shimmy("pull", f"hf:{REPO}", "--json")
    assert json.loads(result.stdout) == {
        "name": "tiny-Q4_K_M",
        "quant": "Q4_K_M",
        "mmproj": None,
        "sees": False,
        "size": len(MODEL),
        "files": [{"path": str(folder / "tiny-Q4_K_M.gguf"), "size": len(MODEL)}],
    }


def test_a_name_of_the_catalogue_is_its_repository(shimmy, hub):
    hub.add("Qwen/Qwen3-0.6B-GGUF", **{"Qwen3-0.6B-Q8_0.gguf": MODEL})
    result = shimmy("pull", "Qwen3 0.6B")
    assert "done: Qwen3-0.6B-Q8_0" in result.stdout


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("hf:org/none", "there is no repository org/none"),
        (f"hf:{REPO}:Q2_K", "there are: Q4_K_M, Q8_0"),
        ("qwen3-4", "Did you mean"),
        ("ftp://x/m.gguf", "is not hf:org/repo"),
    ],
)
def test_what_cannot_be_pulled_is_one_sentence(shimmy, hub, spec, said):
    result = shimmy("pull", spec)
    assert result.exit_code == 1
    assert said in result.stderr
    assert result.stderr.count("error:") == 1


def test_a_full_disk_is_seen_before_the_first_byte(shimmy, hub, monkeypatch):
    monkeypatch.setattr(remote.shutil, "disk_usage", lambda _: Usage(10, 10, 1000))
    result = shimmy("pull", f"hf:{REPO}")
    assert result.exit_code == 1
    assert "make room" in result.stderr
    assert hub.requests == []


def test_what_no_memory_here_could_hold_is_not_fetched_without_force(shimmy, hub):
    hub.sizes["tiny-Q4_K_M.gguf"] = 10**15
    result = shimmy("pull", f"hf:{REPO}")
    assert result.exit_code == 1
    assert "1000.0 TB are more than all memory of this machine" in result.stderr
    forced = shimmy("pull", f"hf:{REPO}", "--force")
    assert "make room" in forced.stderr, "the disk is looked at even so"
    assert hub.requests == []


def test_ctrl_c_says_how_to_go_on_and_the_next_pull_does(shimmy, hub, folder):
    hub.break_after, hub.breaks, hub.hold = 60_000, 1, threading.Event()
    process = subprocess.Popen(
        [sys.executable, "-m", "shimmy", "pull", f"hf:{REPO}"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=os.environ,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if any(part.stat().st_size == 60_000 for part in folder.glob("*.part")):
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    hub.hold.set()
    assert process.returncode == 130
    assert f"interrupted: `shimmy pull hf:{REPO}` goes on where it stopped" in said
    assert "Traceback" not in said
    hub.requests.clear()
    assert shimmy("pull", f"hf:{REPO}").exit_code == 0
    assert hub.requests == [("tiny-Q4_K_M.gguf", "bytes=60000-")]


def test_rm_asks_and_removes_what_was_pulled(shimmy, hub, folder):
    shimmy("pull", f"hf:{REPO}")
    kept = shimmy("rm", "tiny-q4_k_m", stdin="n\n")
    assert kept.exit_code == 130
    assert "remove 200.3 kB?" in kept.output
    assert folder.exists()
    gone = shimmy("rm", "tiny-q4_k_m", stdin="y\n")
    assert gone.exit_code == 0
    assert "200.3 kB are free again" in gone.stdout
    assert not folder.exists()


def test_rm_yes_does_not_ask(shimmy, hub, folder):
    shimmy("pull", f"hf:{REPO}")
    assert shimmy("rm", "tiny-Q4_K_M", "--yes").exit_code == 0
    assert not folder.exists()


def test_rm_leaves_alone_what_was_not_pulled(shimmy, home):
    path = gguf.write(home / "models" / "mine.gguf")
    why = {"mine": "shimmy removes nothing else", "shimmy-demo": "a part of shimmy itself"}
    for name, reason in why.items():
        result = shimmy("rm", name, "--yes")
        assert result.exit_code == 1
        assert reason in result.stderr
    assert path.exists()


def test_rm_of_an_unknown_name_names_the_closest(shimmy):
    result = shimmy("rm", "shimmy-dem", "--yes")
    assert result.exit_code == 1
    assert "Did you mean 'shimmy-demo'" in result.stderr
