from __future__ import annotations

import os
from pathlib import Path

import pytest

from shimmy.models import discovery
from shimmy.models.discovery import discover, examine, search_roots, split_paths
from tests.models import gguf


def stems(*roots: Path) -> list[str]:
    return [model.stem for model in discover(roots)]


def test_models_are_found_by_content_in_any_case_of_the_ending(tmp_path):
    gguf.write(tmp_path / "One.gguf")
    gguf.write(tmp_path / "TWO.GGUF")
    (tmp_path / "page.gguf").write_text("<html>not found</html>")
    (tmp_path / "half.gguf").write_bytes(b"GGUF\x03")
    gguf.write(tmp_path / "notes.txt")
    assert stems(tmp_path) == ["One", "TWO"]


def test_what_is_found_carries_size_time_and_architecture(tmp_path):
    path = gguf.write(tmp_path / "m.gguf", "qwen3", extra=100)
    os.utime(path, (1_000_000, 2_000_000))
    (model,) = discover([tmp_path])
    assert model.path == str(path)
    assert model.size == path.stat().st_size
    assert model.modified == 2_000_000
    assert model.architecture == "qwen3"


def test_adapters_and_projectors_are_not_models(tmp_path):
    gguf.write(tmp_path / "lora.gguf", "llama", "adapter")
    gguf.write(tmp_path / "mmproj.gguf", "clip")
    gguf.write(tmp_path / "model.gguf")
    assert stems(tmp_path) == ["model"]


def test_folders_that_do_not_exist_are_ignored(tmp_path):
    gguf.write(tmp_path / "there" / "m.gguf")
    assert stems(tmp_path / "gone", tmp_path / "there") == ["m"]


def test_a_file_in_place_of_a_folder_is_ignored(tmp_path):
    (tmp_path / "file").write_text("x")
    assert stems(tmp_path / "file") == []


def test_links_that_loop_end(tmp_path):
    gguf.write(tmp_path / "a" / "m.gguf")
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "knot.gguf").symlink_to(tmp_path / "knot.gguf")
    (tmp_path / "knot").symlink_to(tmp_path / "knot")
    assert stems(tmp_path) == ["m"]


def test_a_broken_link_is_ignored(tmp_path):
    (tmp_path / "gone.gguf").symlink_to(tmp_path / "nowhere.gguf")
    assert stems(tmp_path) == []


def test_the_same_file_by_two_ways_is_listed_once(tmp_path):
    gguf.write(tmp_path / "blobs" / "blob.gguf")
    (tmp_path / "nice-name.gguf").symlink_to(tmp_path / "blobs" / "blob.gguf")
    (tmp_path / "again").symlink_to(tmp_path / "blobs", target_is_directory=True)
    assert stems(tmp_path, tmp_path / "blobs") == ["nice-name"]


def test_a_folder_that_cannot_be_read_is_skipped(tmp_path, monkeypatch):
    gguf.write(tmp_path / "open" / "m.gguf")
    gguf.write(tmp_path / "closed" / "n.gguf")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(discovery.os, "scandir", refuse)  # root may read anything
    assert stems(tmp_path) == ["m"]


def test_a_file_that_cannot_be_read_is_skipped(tmp_path, monkeypatch):
    gguf.write(tmp_path / "m.gguf")
    gguf.write(tmp_path / "n.gguf")
    read = discovery.read_header

    def refuse(path):
        if path.name == "n.gguf":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(discovery, "read_header", refuse)
    assert stems(tmp_path) == ["m"]


def test_pipes_and_folders_called_gguf_do_no_harm(tmp_path):
    os.mkfifo(tmp_path / "pipe.gguf")
    gguf.write(tmp_path / "folder.gguf" / "m.gguf")
    assert stems(tmp_path) == ["m"]


def test_hidden_folders_are_skipped_unless_named(tmp_path):
    gguf.write(tmp_path / ".cache" / "m.gguf")
    assert stems(tmp_path) == []
    assert stems(tmp_path / ".cache") == ["m"]


def test_depth_is_limited(tmp_path):
    deep = tmp_path.joinpath(*"abcdefgh"[: discovery.MAX_DEPTH])
    gguf.write(deep / "reached.gguf")
    gguf.write(deep / "x" / "too-deep.gguf")
    assert stems(tmp_path) == ["reached"]


def test_the_number_of_folders_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(discovery, "MAX_FOLDERS", 5)
    for number in range(20):
        gguf.write(tmp_path / f"{number:02}" / f"m{number:02}.gguf")
    assert stems(tmp_path) == ["m00", "m01", "m02", "m03"]


def test_names_that_are_not_utf8_survive(tmp_path):
    odd = os.fsencode(tmp_path) + b"/caf\xe9.gguf"
    with open(odd, "wb") as file:  # noqa: PTH123 - bytes, which Path refuses
        file.write(gguf.header(("general.architecture", "llama")))
    assert len(stems(tmp_path)) == 1


def test_shards_are_listed_once_with_their_sizes_summed(tmp_path):
    for number in (3, 1, 2):
        gguf.write(tmp_path / f"big-{number:05}-of-00003.gguf", extra=1000 * number)
    gguf.write(tmp_path / "small.gguf")
    models = discover([tmp_path])
    assert [model.stem for model in models] == ["big", "small"]
    assert models[0].path.endswith("big-00001-of-00003.gguf")
    assert models[0].size > 6000


def test_an_incomplete_set_of_shards_is_not_listed(tmp_path):
    gguf.write(tmp_path / "big-00001-of-00002.gguf")
    assert stems(tmp_path) == []


def test_examine_sums_the_shards_beside_the_first(tmp_path):
    for number in (1, 2):
        gguf.write(tmp_path / f"b[i]g-{number:05}-of-00002.gguf", extra=500)
    model = examine(tmp_path / "b[i]g-00001-of-00002.gguf")
    assert model is not None
    assert model.stem == "b[i]g"
    assert model.size > 1000


def test_examine_refuses_what_is_not_gguf(tmp_path):
    (tmp_path / "a.gguf").write_text("no")
    assert examine(tmp_path / "a.gguf") is None
    assert examine(tmp_path) is None
    with pytest.raises(OSError, match="No such file"):
        examine(tmp_path / "none.gguf")


def test_folders_are_split_at_semicolons_and_the_systems_separator():
    assert split_paths("/a;/b:/c; /d ;;:") == ["/a", "/b", "/c", "/d"]
    assert split_paths("") == []


def test_a_drive_letter_is_not_split_on_windows(monkeypatch):
    monkeypatch.setattr(discovery.sys, "platform", "win32")
    assert split_paths(r"C:\models;D:\more") == [r"C:\models", r"D:\more"]


def test_roots_come_in_their_order(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    environ = {"SHIMMY_BASE_GGUF": "/base/phi.gguf", "SHIMMY_MODEL_PATHS": "/one;~/two:three"}
    assert search_roots(environ=environ, cwd=tmp_path) == [
        tmp_path / "models",
        Path("/base"),
        Path("/one"),
        tmp_path / "home" / "two",
        tmp_path / "three",
        tmp_path / "home" / "models",
        tmp_path / "data" / "shimmy" / "models",
    ]


def test_the_flag_replaces_the_variable(tmp_path):
    roots = search_roots("/flag", environ={"SHIMMY_MODEL_PATHS": "/variable"}, cwd=tmp_path)
    assert Path("/flag") in roots
    assert Path("/variable") not in roots


def test_a_root_named_twice_is_searched_once(tmp_path):
    roots = search_roots("models;models", environ={}, cwd=tmp_path)
    assert roots.count(tmp_path / "models") == 1
