"""Fake trees of the three stores, laid out as their programs do it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from shimmy.models.discovery import Scan, discover
from shimmy.models.registry import Registry
from shimmy.models.stores import ollama
from tests.models import gguf

MEDIA = "application/vnd.ollama.image."


def stems(scan: Scan) -> list[str]:
    return [model.stem for model in scan.models]


def reasons(scan: Scan) -> dict[str, str]:
    return {Path(item.path).name: item.reason for item in scan.skipped}


# --- Hugging Face -----------------------------------------------------------------------------


def hub_file(hub: Path, repo: str, name: str, content: bytes, revision: str = "rev1") -> Path:
    """Put a file into a cache: a blob, and a link to it from a snapshot."""
    folder = hub / f"models--{repo.replace('/', '--')}"
    blob = folder / "blobs" / hashlib.sha256(content).hexdigest()
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    link = folder / "snapshots" / revision / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(blob)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text(revision)
    return link


def test_snapshots_and_folders_per_quantisation_are_found(tmp_path):
    hub = tmp_path / "hub"
    hub_file(hub, "org/Deep-GGUF", "deep-Q8_0.gguf", gguf.model("deepseek2"))
    hub_file(
        hub,
        "org/Deep-GGUF",
        "Q4_K_M/deep-Q4_K_M.gguf",
        gguf.model("deepseek2", fields={"general.file_type": 15}),
    )
    (model, other) = discover([hub]).models
    assert (model.stem, model.store) == ("deep-Q8_0", "huggingface")
    assert other.aliases == ("org/Deep-GGUF:Q4_K_M", "org/Deep-GGUF")
    # also from the folder above it, and as the working folder of a walk
    assert stems(discover([tmp_path])) == ["deep-Q8_0", "deep-Q4_K_M"]


@pytest.mark.parametrize("name", ["smollm", "gpt-oss", "whisper-like-bert-clip"])
def test_no_repository_is_left_out_for_its_name(tmp_path, name):
    hub_file(tmp_path, f"org/{name}", "x.gguf", gguf.model())
    assert stems(discover([tmp_path])) == ["x"]


def test_shards_in_a_snapshot_are_one_model(tmp_path):
    for number in range(2):
        fields = {"split.no": (2, number), "split.count": (2, 2)}
        hub_file(
            tmp_path, "o/r", f"Q8_0/m-{number + 1:05}-of-00002.gguf", gguf.model(fields=fields)
        )
    (model,) = discover([tmp_path]).models
    assert (model.stem, model.n_shards) == ("m", 2)
    assert model.path.endswith("snapshots/rev1/Q8_0/m-00001-of-00002.gguf")


def test_a_file_of_two_revisions_is_listed_once_by_way_of_main(tmp_path):
    hub_file(tmp_path, "o/r", "m.gguf", gguf.model(), revision="aaa")
    link = hub_file(tmp_path, "o/r", "m.gguf", gguf.model(), revision="bbb")
    (model,) = discover([tmp_path]).models
    assert model.path == str(link)


def test_a_blob_that_is_still_fetched_is_said_to_be_so(tmp_path):
    link = hub_file(tmp_path, "o/r", "m.gguf", gguf.model())
    blob = link.resolve()
    blob.rename(blob.with_name(blob.name + ".incomplete"))
    scan = discover([tmp_path])
    assert scan.models == []
    assert set(reasons(scan).values()) == {
        "a link that leads nowhere",
        "a download that is not finished",
    }


@pytest.mark.parametrize("revision", ["../../../etc", "", "x" * 300, "nowhere"])
def test_a_bad_ref_changes_nothing(tmp_path, revision):
    hub_file(tmp_path, "o/r", "m.gguf", gguf.model())
    (tmp_path / "models--o--r" / "refs" / "main").write_text(revision)
    assert stems(discover([tmp_path])) == ["m"]


def test_files_of_one_name_are_told_apart_by_their_repository(tmp_path):
    for repo in ("ann/a", "bob/b"):
        hub_file(tmp_path, repo, "model.gguf", gguf.model(fields={"general.name": repo}))
    registry = Registry(roots=[tmp_path])
    assert [entry.name for entry in registry.entries()] == ["model", "model@b"]
    assert registry.resolve("ann/a").name == "model"
    assert registry.resolve("bob/b:F32").name == "model@b"


# --- Ollama ------------------------------------------------------------------------------------


def blob(store: Path, content: bytes, separator: str = "-") -> str:
    digest = hashlib.sha256(content).hexdigest()
    (store / "blobs").mkdir(parents=True, exist_ok=True)
    (store / "blobs" / f"sha256{separator}{digest}").write_bytes(content)
    return f"sha256:{digest}"


def manifest(store: Path, name: str, layers: dict[str, bytes], separator: str = "-") -> Path:
    """Write a manifest, as `registry.ollama.ai/library/qwen3/14b`, and its blobs."""
    path = store / "manifests" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    listed = [
        {"mediaType": MEDIA + kind, "digest": blob(store, content, separator), "size": len(content)}
        for kind, content in layers.items()
    ]
    path.write_text(json.dumps({"schemaVersion": 2, "config": {}, "layers": listed}))
    return path


LIBRARY = "registry.ollama.ai/library"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (f"{LIBRARY}/qwen3/14b", "qwen3:14b"),
        ("registry.ollama.ai/ann/mine/latest", "ann/mine:latest"),
        ("hf.co/org/Repo-GGUF/Q4_K_M", "hf.co/org/Repo-GGUF:Q4_K_M"),
    ],
)
def test_models_have_ollamas_names(tmp_path, path, name):
    manifest(tmp_path, path, {"model": gguf.model("qwen3")})
    (model,) = discover([tmp_path]).models
    assert (model.stem, model.store, model.facts.architecture) == (name, "ollama", "qwen3")
    assert Path(model.path).name.startswith("sha256-")


def test_latest_may_be_left_out(tmp_path):
    manifest(tmp_path, f"{LIBRARY}/qwen3/latest", {"model": gguf.model()})
    registry = Registry(roots=[tmp_path])
    assert registry.resolve("qwen3").name == "qwen3:latest"


def test_two_tags_of_one_blob_are_one_model_with_an_alias(tmp_path):
    for tag in ("14b", "latest"):
        manifest(tmp_path, f"{LIBRARY}/qwen3/{tag}", {"model": gguf.model()})
    registry = Registry(roots=[tmp_path])
    (entry,) = registry.entries()
    assert entry.name == "qwen3:14b"
    assert entry.aliases == ("qwen3:latest", "qwen3")


def test_one_blob_with_other_parameters_is_another_model(tmp_path):
    manifest(tmp_path, f"{LIBRARY}/m/a", {"model": gguf.model(), "params": b'{"temperature": 0}'})
    manifest(tmp_path, f"{LIBRARY}/m/b", {"model": gguf.model(), "params": b'{"temperature": 1}'})
    entries = Registry(roots=[tmp_path]).entries()
    assert [(entry.name, entry.parameters) for entry in entries] == [
        ("m:a", {"temperature": 0}),
        ("m:b", {"temperature": 1}),
    ]


def test_issue_198_the_other_layers_come_along(tmp_path):
    adapter = gguf.model("llama", "adapter", fields={"adapter.type": "lora"})
    layers = {
        "model": gguf.model(),
        "adapter": adapter,
        "projector": gguf.projector(),
        "template": b"{{ .System }} {{ .Prompt }}",
        "system": b"Be brief.",
        "params": b'{"stop": ["<|im_end|>"], "temperature": 0.6}',
    }
    manifest(tmp_path, f"{LIBRARY}/m/x", layers)
    (entry,) = Registry(roots=[tmp_path]).entries()
    assert [(Path(path).read_bytes(), scale) for path, scale in entry.lora] == [(adapter, 1.0)]
    assert entry.projector is not None
    assert Path(entry.projector).read_bytes() == layers["projector"]
    assert entry.system == "Be brief."
    assert entry.parameters == {"stop": ["<|im_end|>"], "temperature": 0.6}
    assert "prompt" in (entry.chat_template or "")


def test_an_adapter_that_is_not_there_is_said_to_be_missing(tmp_path):
    adapter = gguf.model("llama", "adapter", fields={"adapter.type": "lora"})
    manifest(tmp_path, f"{LIBRARY}/m/x", {"model": gguf.model(), "adapter": adapter})
    (tmp_path / "blobs" / f"sha256-{hashlib.sha256(adapter).hexdigest()}").unlink()
    scan = discover([tmp_path])
    assert scan.models == []
    assert "its adapter sha256-" in reasons(scan)["x"]


def test_the_models_own_template_comes_first(tmp_path):
    own = gguf.model(fields={"tokenizer.chat_template": "{{ messages }}"})
    manifest(tmp_path, f"{LIBRARY}/m/x", {"model": own, "template": b"{{ .Prompt }}"})
    (entry,) = Registry(roots=[tmp_path]).entries()
    assert (entry.has_template, entry.chat_template) == (True, None)


def test_older_blobs_are_named_with_a_colon(tmp_path):
    manifest(tmp_path, f"{LIBRARY}/m/x", {"model": gguf.model()}, separator=":")
    assert stems(discover([tmp_path])) == ["m:x"]


def test_a_blob_that_is_not_there_is_said_to_be_missing(tmp_path):
    manifest(tmp_path, f"{LIBRARY}/m/x", {"model": gguf.model()})
    next((tmp_path / "blobs").iterdir()).unlink()
    scan = discover([tmp_path])
    assert scan.models == []
    assert "pull it again" in reasons(scan)["x"]


def test_a_blob_that_is_no_gguf_is_refused_by_content(tmp_path):
    manifest(tmp_path, f"{LIBRARY}/m/x", {"model": b"GGML and more"})
    assert "it is not a GGUF model file" in reasons(discover([tmp_path])).values()


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:../../../../etc/passwd",
        "sha256:" + "a" * 63,
        "sha256:" + "A" * 64,
        "md5:" + "a" * 64,
        "",
    ],
)
def test_a_digest_cannot_lead_out_of_the_store(tmp_path, digest):
    path = manifest(tmp_path, f"{LIBRARY}/m/x", {"model": gguf.model()})
    path.write_text(json.dumps({"layers": [{"mediaType": MEDIA + "model", "digest": digest}]}))
    scan = discover([tmp_path])
    assert scan.models == []
    assert "no sha256 digest" in reasons(scan)["x"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"layers": 3}', b'{"layers": [{}]}', b"\xff", b"[" * 10_000, b"{}"],
)
def test_a_bad_manifest_is_said_to_be_one(tmp_path, content):
    path = manifest(tmp_path, f"{LIBRARY}/m/x", {"model": gguf.model()})
    path.write_bytes(content)
    assert "manifest" in reasons(discover([tmp_path]))["x"]


def test_a_manifest_of_any_size_is_not_read(tmp_path, monkeypatch):
    manifest(tmp_path, f"{LIBRARY}/m/x", {"model": gguf.model()})
    monkeypatch.setattr(ollama, "MAX_MANIFEST", 10)
    assert "too large" in reasons(discover([tmp_path]))["x"]


def test_bad_parameters_are_none(tmp_path):
    manifest(tmp_path, f"{LIBRARY}/m/x", {"model": gguf.model(), "params": b"stop?"})
    (entry,) = Registry(roots=[tmp_path]).entries()
    assert entry.parameters == {}


def test_an_empty_store_is_no_harm(tmp_path):
    (tmp_path / "manifests").mkdir()
    (tmp_path / "blobs").mkdir()
    assert discover([tmp_path]) == Scan(models=[])


def test_files_that_lie_in_a_store_by_themselves_are_models_too(tmp_path):
    manifest(tmp_path, f"{LIBRARY}/m/x", {"model": gguf.model()})
    gguf.write(tmp_path / "beside.gguf", "qwen3")
    gguf.write(tmp_path / "mine" / "more" / "deep.gguf", "qwen3")
    gguf.write(tmp_path / "blobs" / "no-manifest-names-this.gguf")
    assert stems(discover([tmp_path])) == ["m:x", "beside", "deep"]


@pytest.mark.parametrize("folder", [".", "models", ".ollama/models"])
def test_a_system_wide_store_is_found_however_it_is_set_up(tmp_path, folder):
    """/var/lib/ollama is a store on Arch, and a service's home elsewhere."""
    manifest(tmp_path / folder, f"{LIBRARY}/m/x", {"model": gguf.model()})
    assert stems(discover([tmp_path])) == ["m:x"]


# --- LM Studio, llama.cpp -----------------------------------------------------------------------


def test_issue_51_and_184_publishers_and_repositories_of_lm_studio(tmp_path):
    folder = tmp_path / "models" / "lmstudio-community" / "Qwen3-4B-GGUF"
    model = gguf.write(
        folder / "Qwen3-4B-Q4_K_M.gguf", "qwen3", fields={"qwen3.embedding_length": 64}
    )
    eyes = gguf.write_projector(folder / "mmproj-f16.gguf")
    gguf.write_projector(folder / "mmproj-big.gguf", 128)
    (entry,) = Registry(roots=[tmp_path / "models"]).entries()
    assert (entry.name, entry.path) == ("Qwen3-4B-Q4_K_M", str(model))
    assert entry.projector == str(eyes)


def test_a_depth_more_than_usual_is_reached(tmp_path):
    gguf.write(tmp_path / "publisher" / "repo" / "Q4_K_M" / "more" / "m.gguf")
    assert stems(discover([tmp_path])) == ["m"]


def test_the_flat_cache_of_llama_cpp(tmp_path):
    gguf.write(tmp_path / "ggml-org_gemma-3-1b-it-GGUF_gemma-3-1b-it-Q4_K_M.gguf", "gemma3")
    (tmp_path / "manifest=ggml-org=gemma-3-1b-it-GGUF=latest.json").write_text("{}")
    (tmp_path / "x.gguf.downloadInProgress").write_bytes(b"GGUF")
    scan = discover([tmp_path])
    assert stems(scan) == ["ggml-org_gemma-3-1b-it-GGUF_gemma-3-1b-it-Q4_K_M"]
    assert list(reasons(scan)) == ["x.gguf.downloadInProgress"]
