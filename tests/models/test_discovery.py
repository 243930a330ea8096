from __future__ import annotations

import os
from pathlib import Path

import pytest

from shimmy.errors import GgufError
from shimmy.models.discovery import Scan, discover, examine, search_roots
from shimmy.models.stores import folder as folder_module
from tests.models import gguf
from tests.support import tiny_gguf
from tests.support.nobody import nobody


def stems(*roots: Path) -> list[str]:
    return [model.stem for model in discover(roots).models]


def reasons(scan: Scan) -> dict[str, str]:
    return {Path(item.path).name: item.reason for item in scan.skipped}


def test_models_are_found_by_content_in_any_case_of_the_ending(tmp_path):
    gguf.write(tmp_path / "One.gguf")
    gguf.write(tmp_path / "TWO.GGUF")
    (tmp_path / "page.gguf").write_text("<html>not found</html>")
    (tmp_path / "half.gguf").write_bytes(b"GGUF\x03")
    gguf.write(tmp_path / "notes.txt")
    assert stems(tmp_path) == ["One", "TWO"]
    found = reasons(discover([tmp_path]))
    assert found["page.gguf"] == "it is not a GGUF model file"
    assert "ends inside its header" in found["half.gguf"]
    assert set(found) == {"page.gguf", "half.gguf"}


def test_what_is_found_carries_size_time_and_architecture(tmp_path):
    path = gguf.write(tmp_path / "m.gguf", "qwen3", extra=100)
    os.utime(path, (1_000_000, 2_000_000))
    (model,) = discover([tmp_path]).models
    assert model.path == str(path)
    assert model.size == path.stat().st_size
    assert model.modified == 2_000_000
    assert model.facts.architecture == "qwen3"


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
    assert "knot.gguf" in reasons(discover([tmp_path]))


def test_the_same_file_by_two_ways_is_listed_once(tmp_path):
    gguf.write(tmp_path / "blobs" / "blob.gguf")
    (tmp_path / "nice-name.gguf").symlink_to(tmp_path / "blobs" / "blob.gguf")
    (tmp_path / "again").symlink_to(tmp_path / "blobs", target_is_directory=True)
    assert stems(tmp_path, tmp_path / "blobs") == ["nice-name"]


def test_pipes_and_folders_called_gguf_do_no_harm(tmp_path):
    os.mkfifo(tmp_path / "pipe.gguf")
    gguf.write(tmp_path / "folder.gguf" / "m.gguf")
    assert stems(tmp_path) == ["m"]


def test_hidden_folders_are_skipped_unless_named(tmp_path):
    gguf.write(tmp_path / ".trash" / "m.gguf")
    assert stems(tmp_path) == []
    assert stems(tmp_path / ".trash") == ["m"]


def test_hidden_folders_of_a_home_are_searched_after_the_others(tmp_path):
    for folder in (".cache", ".ollama/models", ".local/share/shimmy/models", ".lmstudio/models"):
        gguf.write(tmp_path / folder / f"{folder[1:5]}.gguf")
    gguf.write(tmp_path / "mine" / "m.gguf")
    assert stems(tmp_path) == ["m", "cach", "lmst", "loca", "olla"]


def test_depth_is_limited(tmp_path):
    deep = tmp_path.joinpath(*"abcdefgh"[: folder_module.MAX_DEPTH])
    gguf.write(deep / "reached.gguf")
    gguf.write(deep / "x" / "too-deep.gguf")
    assert stems(tmp_path) == ["reached"]


def test_the_number_of_folders_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_module, "MAX_FOLDERS", 5)
    for number in range(20):
        gguf.write(tmp_path / f"{number:02}" / f"m{number:02}.gguf")
    scan = discover([tmp_path])
    assert [model.stem for model in scan.models] == ["m00", "m01", "m02", "m03"]
    (skipped,) = scan.skipped
    assert skipped.path == str(tmp_path / "04")
    assert skipped.reason.startswith(f"{tmp_path} has more than ")
    # each root has its own limit: a large one does not hide those after it
    gguf.write(tmp_path / "19" / "deeper" / "last.gguf")
    assert "last" in stems(tmp_path, tmp_path / "19")


def test_a_root_deep_under_another_is_searched_as_a_root(tmp_path):
    deep = tmp_path.joinpath(*"abcdefgh"[: folder_module.MAX_DEPTH])
    gguf.write(deep / "reached.gguf")
    gguf.write(deep / "x" / "too-deep.gguf")
    (deep / "gone.gguf").symlink_to("nowhere")
    assert stems(tmp_path, deep) == ["reached", "too-deep"]
    assert len(discover([tmp_path, deep]).skipped) == 1


def test_the_flag_replaces_the_variable(tmp_path):
    roots = search_roots("/flag", environ={"SHIMMY_MODEL_PATHS": "/variable"}, cwd=tmp_path)
    assert Path("/flag") in roots
    assert Path("/variable") not in roots


def test_a_root_named_twice_is_searched_once(tmp_path):
    roots = search_roots("models;models", environ={}, cwd=tmp_path)
    assert roots.count(tmp_path / "models") == 1


def test_a_broken_link_is_said_to_be_one(tmp_path):
    (tmp_path / "gone.gguf").symlink_to(tmp_path / "nowhere.gguf")
    assert reasons(discover([tmp_path])) == {"gone.gguf": "a link that leads nowhere"}


def test_what_may_not_be_read_is_said_to_be_so(shared):
    gguf.write(shared / "open" / "m.gguf")
    gguf.write(shared / "closed" / "n.gguf")
    gguf.write(shared / "open" / "o.gguf").chmod(0)
    (shared / "closed").chmod(0)
    with nobody():
        scan = discover([shared, shared / "closed" / "deeper"])
    assert [model.stem for model in scan.models] == ["m"]
    denied = "cannot be read: Permission denied"
    assert reasons(scan) == {"closed": denied, "o.gguf": denied, "deeper": denied}


def test_a_path_that_is_not_utf8_is_refused_with_advice(tmp_path):
    odd = os.fsencode(tmp_path) + b"/caf\xe9.gguf"
    with open(odd, "wb") as file:  # noqa: PTH123 - bytes, which Path refuses
        file.write(gguf.model())
    (skipped,) = discover([tmp_path]).skipped
    assert skipped.path.encode()
    assert "rename it" in skipped.reason


@pytest.mark.parametrize(
    "name", ["m.gguf.part", "m.GGUF.incomplete", "m.gguf.crdownload", "downloading_m.gguf.part"]
)
def test_a_download_that_is_not_finished_is_said_to_be_one(tmp_path, name):
    gguf.write(tmp_path / name)
    scan = discover([tmp_path])
    assert scan.models == []
    assert reasons(scan) == {name: "a download that is not finished"}


def test_a_file_that_aria2_still_writes_is_not_finished(tmp_path):
    gguf.write(tmp_path / "m.gguf")
    (tmp_path / "m.gguf.aria2").write_bytes(b"")
    assert reasons(discover([tmp_path])) == {"m.gguf": "a download that is not finished"}


def test_a_file_that_is_cut_short_is_not_listed(tmp_path):
    path = gguf.write(tmp_path / "m.gguf")
    path.write_bytes(path.read_bytes()[:-10])
    scan = discover([tmp_path])
    assert scan.models == []
    assert reasons(scan)["m.gguf"].startswith("it is cut short: ")


def test_what_would_abort_llama_cpp_is_not_listed(tmp_path):
    gguf.write(tmp_path / "m.gguf", fields={"llama.block_count": 0})
    assert "block_count is 0" in reasons(discover([tmp_path]))["m.gguf"]


def test_adapters_and_projectors_are_found_as_what_they_are(tmp_path):
    gguf.write_lora(tmp_path / "style.gguf")
    gguf.write_projector(tmp_path / "eyes.gguf")
    gguf.write(tmp_path / "matrix.gguf", "llama", "imatrix")
    scan = discover([tmp_path])
    assert [part.stem for part in scan.adapters] == ["style"]
    assert [part.stem for part in scan.projectors] == ["eyes"]
    assert "no model" in reasons(scan)["matrix.gguf"]


def write_shards(folder: Path, base: str, count: int, *, extra: int = 0) -> list[Path]:
    """Write a split model whose shards say which they are."""
    paths = []
    for number in range(count):
        path = folder / f"{base}-{number + 1:05}-of-{count:05}.gguf"
        fields = {"split.no": (2, number), "split.count": (2, count)}
        paths.append(gguf.write(path, extra=extra * (number + 1), fields=fields))
    return paths


def test_issue_147_and_170_shards_are_listed_once_with_their_sizes_summed(tmp_path):
    paths = write_shards(tmp_path, "big", 3, extra=1000)
    gguf.write(tmp_path / "small.gguf")
    models = discover([tmp_path]).models
    assert [model.stem for model in models] == ["big", "small"]
    assert models[0].path == str(paths[0])
    assert models[0].size == sum(path.stat().st_size for path in paths)
    assert models[0].facts.n_params == 96
    assert (models[0].n_shards, models[1].n_shards) == (3, 1)


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_an_incomplete_set_of_shards_is_said_to_be_one(tmp_path, missing):
    write_shards(tmp_path, "big", 3)[missing].unlink()
    scan = discover([tmp_path])
    assert scan.models == []
    assert list(reasons(scan).values()) == ["2 of 3 shards are there"]


def test_a_set_with_a_shard_cut_short_is_not_listed(tmp_path):
    path = write_shards(tmp_path, "big", 2)[1]
    path.write_bytes(path.read_bytes()[:-1])
    scan = discover([tmp_path])
    assert scan.models == []
    assert "cut short" in next(iter(reasons(scan).values()))


def test_a_shard_that_was_renamed_is_said_to_be_one(tmp_path):
    first, second = write_shards(tmp_path, "big", 2)
    first.rename(tmp_path / "a.gguf")
    second.rename(tmp_path / "b.gguf")
    found = reasons(discover([tmp_path]))
    assert found["a.gguf"] == "one of 2 shards, but its name does not say which"
    assert found["b.gguf"] == "shard 2 of 2, and the first is not there"


def test_shards_of_llama_cpps_own_making_are_one_model(tmp_path):
    paths = tiny_gguf.write_splits(tmp_path)
    (model,) = discover([tmp_path]).models
    assert model.path == str(paths[0])
    assert model.n_shards == len(paths)


@pytest.mark.parametrize("named", [0, 1])
def test_examine_takes_all_shards_whichever_is_named(tmp_path, named):
    paths = write_shards(tmp_path, "b[i]g", 2, extra=500)
    model = examine(paths[named])
    assert (model.stem, model.path) == ("b[i]g", str(paths[0]))
    assert model.size == sum(path.stat().st_size for path in paths)
    assert model.facts.objection is None


def test_examine_says_that_shards_are_missing(tmp_path):
    first, second = write_shards(tmp_path, "big", 2)
    second.unlink()
    assert examine(first).facts.objection == "1 of 2 shards are there"


def test_examine_refuses_what_is_not_gguf(tmp_path):
    (tmp_path / "a.gguf").write_text("no")
    with pytest.raises(GgufError, match="not a GGUF model file"):
        examine(tmp_path / "a.gguf")
    with pytest.raises(GgufError, match="it is a folder"):
        examine(tmp_path)
    with pytest.raises(OSError, match="No such file"):
        examine(tmp_path / "none.gguf")


def test_issue_12_the_roots_are_those_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    environ = {
        "SHIMMY_BASE_GGUF": "/base/phi.gguf",
        "SHIMMY_MODEL_PATHS": "/one;~/two:three",
        "OLLAMA_MODELS": "/blobs",
        "XDG_DATA_HOME": str(tmp_path / "data"),
    }
    roots = search_roots(environ=environ, cwd=tmp_path)
    assert roots[:7] == [
        tmp_path / "models",
        Path("/base"),
        Path("/one"),
        tmp_path / "home" / "two",
        tmp_path / "three",
        tmp_path / "home" / "models",
        tmp_path / "data" / "shimmy" / "models",
    ]
    assert Path("/blobs") in roots
