from __future__ import annotations

from pathlib import Path

import pytest

from shimmy.engine.types.options import EngineOptions
from shimmy.errors import ConfigError, GgufError, ModelNotFoundError
from shimmy.models import owners as owners_module
from shimmy.models import registry as module
from shimmy.models.demo import NAME
from shimmy.models.entry import ModelEntry
from shimmy.models.owners import Owners
from shimmy.models.registry import Registry, register
from tests.models import gguf


@pytest.fixture
def demo(tmp_path, monkeypatch) -> ModelEntry:
    path = gguf.write(tmp_path / "package" / f"{NAME}.gguf")
    entry = ModelEntry(
        name=NAME,
        path=str(path),
        size=1,
        source="builtin",
        modified=0,
        note="built-in demo model",
    )
    monkeypatch.setattr(module, "demo_entry", lambda: entry)
    return entry


def names(registry: Registry) -> list[str]:
    return [entry.name for entry in registry.entries()]


def test_registered_come_before_discovered_and_the_demo_is_last(tmp_path, demo):
    mine = gguf.write(tmp_path / "mine.gguf")
    gguf.write(tmp_path / "found" / "aaa.gguf")
    registry = Registry.standard(model_path=mine, roots=[tmp_path / "found"])
    assert names(registry) == ["mine", "aaa", NAME]
    assert [entry.source for entry in registry.entries()] == [
        "registered",
        "discovered",
        "builtin",
    ]


def test_the_demo_is_the_default_only_when_there_is_nothing_else(tmp_path, demo):
    registry = Registry.standard(roots=[tmp_path / "found"])
    assert registry.resolve(None) == demo
    gguf.write(tmp_path / "found" / "m.gguf")
    registry.refresh()
    assert registry.resolve(None).name == "m"
    assert registry.resolve("").name == "m"


def test_the_default_is_the_first_that_writes_text(tmp_path, demo):
    gguf.write(tmp_path / "found" / "a.gguf", "bert")
    registry = Registry.standard(roots=[tmp_path / "found"])
    assert registry.resolve(None) == demo
    gguf.write(tmp_path / "found" / "b.gguf")
    registry.refresh()
    assert registry.resolve(None).name == "b"
    named = Registry.standard(model_path=tmp_path / "found" / "a.gguf")
    assert named.resolve(None).name == "a"


def test_the_demo_says_what_it_is(demo):
    assert Registry.standard().resolve(None).title == "shimmy-demo (built-in demo model)"


def test_without_any_model_nothing_resolves(monkeypatch):
    monkeypatch.setattr(module, "demo_entry", lambda: None)
    with pytest.raises(ModelNotFoundError):
        Registry.standard().resolve(None)


def test_issue_65_an_unknown_name_lists_those_there_are(tmp_path, demo):
    gguf.write(tmp_path / "m.gguf")
    with pytest.raises(ModelNotFoundError, match="gpt-4") as caught:
        Registry.standard(roots=[tmp_path]).resolve("gpt-4")
    assert caught.value.available[0] == "m"
    assert NAME in caught.value.available


def test_the_second_of_a_name_is_named_after_its_folder(tmp_path):
    for folder in ("one", "two", "three"):
        gguf.write(tmp_path / folder / "m.gguf")
    registry = Registry(roots=[tmp_path / "one", tmp_path / "two", tmp_path / "three"])
    assert names(registry) == ["m", "m@two", "m@three"]
    assert Path(registry.resolve("m@two").path).parent.name == "two"


def test_as_many_folders_are_named_as_it_takes(tmp_path):
    for folder in ("a/q", "b/q", "c/q"):
        gguf.write(tmp_path / folder / "m.gguf")
    assert names(Registry(roots=[tmp_path])) == ["m", "m@q", "m@c-q"]


def test_two_endings_of_one_stem_in_one_folder_get_different_names(tmp_path):
    gguf.write(tmp_path / "m.gguf")
    gguf.write(tmp_path / "m.GGUF")
    found = names(Registry(roots=[tmp_path]))
    assert len(set(found)) == 2


def test_a_registered_name_is_never_given_away(tmp_path, demo):
    mine = gguf.write(tmp_path / "mine" / "m.gguf")
    gguf.write(tmp_path / "found" / "m.gguf")
    registry = Registry.standard(model_path=mine, roots=[tmp_path / "found"])
    assert registry.resolve("m").path == str(mine)
    assert names(registry) == ["m", "m@found", NAME]


def test_a_discovered_file_does_not_take_the_demos_name(tmp_path, demo):
    gguf.write(tmp_path / "found" / f"{NAME}.gguf")
    registry = Registry.standard(roots=[tmp_path / "found"])
    assert registry.resolve(NAME) == demo
    assert names(registry) == [f"{NAME}@found", NAME]


def test_a_registered_file_that_is_also_found_is_listed_once(tmp_path, demo):
    mine = gguf.write(tmp_path / "m.gguf")
    registry = Registry.standard(model_path=mine, roots=[tmp_path])
    assert names(registry).count("m") == 1
    assert registry.resolve("m").source == "registered"


def test_the_demo_file_named_outright_still_says_what_it_is(demo):
    registry = Registry.standard(model_path=Path(demo.path))
    assert names(registry) == [NAME]
    assert registry.resolve(None).note == "built-in demo model"


def test_an_alias_names_the_registered_model(tmp_path, demo):
    mine = gguf.write(tmp_path / "m.gguf")
    registry = Registry.standard(model_path=mine, alias="gpt-4")
    assert names(registry) == ["gpt-4", NAME]


def test_an_alias_without_a_file_is_another_name_of_the_default(tmp_path, demo):
    gguf.write(tmp_path / "found" / "m.gguf")
    registry = Registry.standard(roots=[tmp_path / "found"], alias="gpt-4")
    assert registry.resolve("gpt-4") == registry.resolve("m")


@pytest.mark.parametrize("asked", ["phi3-mini", "PHI3_MINI", "Phi3 Mini", "Phi3_Mini.gguf"])
def test_a_name_may_differ_in_case_and_separators(tmp_path, asked):
    gguf.write(tmp_path / "Phi3_Mini.gguf")
    assert Registry(roots=[tmp_path]).resolve(asked).name == "Phi3_Mini"


def test_an_equal_name_beats_a_similar_one_and_doubt_finds_nothing(tmp_path):
    gguf.write(tmp_path / "a-b.gguf")
    gguf.write(tmp_path / "a_b.gguf")
    registry = Registry(roots=[tmp_path])
    assert registry.resolve("a_b").name == "a_b"
    with pytest.raises(ModelNotFoundError):
        registry.resolve("A-B")


def test_names_are_stable_from_scan_to_scan(tmp_path):
    for folder in "cab":
        gguf.write(tmp_path / folder / "m.gguf")
    registry = Registry(roots=[tmp_path])
    before = registry.entries()
    assert registry.refresh() == before


def test_a_registered_path_is_absolute(tmp_path, monkeypatch):
    mine = gguf.write(tmp_path / "m.gguf")
    monkeypatch.chdir(tmp_path)
    assert register(Path("m.gguf")).path == str(mine)


def test_a_missing_model_file_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.gguf cannot be read: No such file") as caught:
        register(tmp_path / "none.gguf")
    assert caught.value.param == "--model-path"


def test_a_file_of_another_kind_is_a_clear_error(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(ConfigError, match="not a GGUF model file"):
        register(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("asked", "closest"),
    [
        ("qwen3-4B-q4", ["Qwen3-4B-Q4_K_M"]),
        ("qwen3 4b", ["Qwen3-4B-Q4_K_M"]),
        ("mistrall-7b", ["mistral-7b"]),
        ("zzzzzz", []),
    ],
)
def test_an_unknown_name_comes_with_the_closest(tmp_path, asked, closest):
    for name in ("Qwen3-4B-Q4_K_M", "mistral-7b", "phi"):
        gguf.write(tmp_path / f"{name}.gguf")
    with pytest.raises(ModelNotFoundError) as caught:
        Registry(roots=[tmp_path]).resolve(asked)
    assert caught.value.closest == closest
    assert ("Did you mean" in caught.value.message) is bool(closest)
    assert "phi" in caught.value.message


def test_the_message_of_an_unknown_name_is_bounded(tmp_path):
    names = [f"model-{number}" for number in range(1000)]
    message = ModelNotFoundError("x", names).message
    assert message.endswith("and 950 more")
    assert len(message) < 2000


def test_a_name_stays_with_its_file_when_another_comes_before_it(tmp_path):
    gguf.write(tmp_path / "b" / "m.gguf")
    registry = Registry(roots=[tmp_path])
    gguf.write(tmp_path / "a" / "m.gguf")
    registry.refresh()
    assert {entry.name: Path(entry.path).parent.name for entry in registry.entries()} == {
        "m": "b",
        "m@a": "a",
    }


def test_a_name_can_be_shown_as_it_is(tmp_path):
    gguf.write(tmp_path / "a\x1b[31m\nb.gguf")
    assert names(Registry(roots=[tmp_path])) == ["a_[31m_b"]


def test_adapters_are_offered_to_the_models_that_they_fit_and_are_no_models(tmp_path):
    shape = {"llama.embedding_length": 32}
    gguf.write(tmp_path / "base.gguf", "llama", fields=shape)
    gguf.write(tmp_path / "wider.gguf", "llama", fields={"llama.embedding_length": 64})
    gguf.write(tmp_path / "other.gguf", "qwen3", fields={"qwen3.embedding_length": 32})
    path = gguf.write_lora(tmp_path / "style.gguf", n_embd=32)
    registry = Registry(roots=[tmp_path])
    assert names(registry) == ["base", "other", "wider"]
    offered = {entry.name: [a.path for a in entry.adapters] for entry in registry.entries()}
    assert offered == {"base": [str(path)], "other": [], "wider": []}
    assert registry.resolve("base").lora == ()


def test_the_base_model_of_the_environment_takes_its_adapter(tmp_path, demo, monkeypatch):
    monkeypatch.setenv("SHIMMY_BASE_GGUF", str(gguf.write(tmp_path / "base.gguf")))
    adapter = gguf.write_lora(tmp_path / "l.gguf")
    monkeypatch.setenv("SHIMMY_LORA_GGUF", str(adapter))
    assert Registry.standard().resolve(None).lora == ((str(adapter), 1.0),)
    assert Registry.standard(model_path=Path(demo.path)).resolve(None).lora == ()


@pytest.mark.parametrize("what", ["none", "model", "text"])
def test_an_adapter_that_is_none_is_a_clear_error(tmp_path, demo, monkeypatch, what):
    monkeypatch.setenv("SHIMMY_BASE_GGUF", str(gguf.write(tmp_path / "base.gguf")))
    gguf.write(tmp_path / "model.gguf")
    (tmp_path / "text.gguf").write_text("no")
    monkeypatch.setenv("SHIMMY_LORA_GGUF", str(tmp_path / f"{what}.gguf"))
    with pytest.raises(ConfigError) as caught:
        Registry.standard()
    assert caught.value.param == "SHIMMY_LORA_GGUF"
    assert str(tmp_path / f"{what}.gguf") in caught.value.message


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (gguf.write_lora, "--lora"),
        (lambda path: gguf.write(path, "clip", "mmproj"), "projector"),
        (lambda path: gguf.write(path, tensors=()), "no weights"),
        (lambda path: gguf.write(path, fields={"llama.block_count": 0}), "block_count is 0"),
    ],
)
def test_a_registered_file_that_cannot_be_loaded_says_why(tmp_path, write, reason):
    entry = register(write(tmp_path / "m.gguf"))
    assert reason in (entry.objection or "")
    with pytest.raises(GgufError, match=reason):
        entry.options(EngineOptions(model_path=""))


def test_options_are_the_models_own_with_those_asked_for_on_top():
    entry = ModelEntry(
        name="m",
        path="/m.gguf",
        size=1,
        source="discovered",
        modified=0,
        lora=(("/own", 1.0),),
        chat_template="own",
    )
    options = entry.options(EngineOptions(model_path="", n_ctx=512))
    assert (options.model_path, options.lora, options.chat_template, options.n_ctx) == (
        "/m.gguf",
        [("/own", 1.0)],
        "own",
        512,
    )
    options = entry.options(EngineOptions(model_path="", lora=[("/x", 0.5)], chat_template="x"))
    assert (options.lora, options.chat_template) == ([("/own", 1.0), ("/x", 0.5)], "x")


def test_the_standard_registry_keeps_headers_in_the_cache_folder(tmp_path, demo, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    gguf.write(tmp_path / "models" / "m.gguf")
    Registry.standard(roots=[tmp_path / "models"])
    kept = {path.name for path in (tmp_path / "cache" / "shimmy").iterdir()}
    assert kept == {"headers-2.msgpack", "names-1.msgpack"}


def test_a_name_stays_with_its_file_at_a_restart(tmp_path, demo, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    gguf.write(tmp_path / "b" / "m.gguf")

    def found() -> dict[str, str]:
        entries = Registry.standard(roots=[tmp_path / "a", tmp_path / "b"]).entries()
        return {e.name: Path(e.path).parent.name for e in entries if e.source == "discovered"}

    assert found() == {"m": "b"}
    gguf.write(tmp_path / "a" / "m.gguf")
    assert found() == found() == {"m": "b", "m@a": "a"}
    (tmp_path / "b" / "m.gguf").unlink()
    assert found() == {"m": "a"}, "a name that nobody has is the next one's"
    gguf.write(tmp_path / "b" / "m.gguf")
    assert found() == {"m": "a", "m@b": "b"}, "both have had it: the order decides"


@pytest.mark.parametrize("content", [b"", b"\xff", b"\x93\x01\x02\x03", b"\x91\x92\xa1a\x01"])
def test_damaged_names_are_none(tmp_path, content):
    gguf.write(tmp_path / "m.gguf")
    path = tmp_path / "names.msgpack"
    path.write_bytes(content)
    assert names(Registry(roots=[tmp_path], owners=Owners(path))) == ["m"]
    assert Owners(path).names() == {(str(tmp_path / "m.gguf"), "m"): "m"}


def test_the_oldest_names_are_forgotten_and_a_folder_that_cannot_be_written_is_no_error(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(owners_module, "MAX_OWNERS", 2)
    for stem in "abc":
        gguf.write(tmp_path / "models" / f"{stem}.gguf")
    path = tmp_path / "names.msgpack"
    Registry(roots=[tmp_path / "models"], owners=Owners(path))
    assert sorted(Owners(path).names().values()) == ["b", "c"]
    (tmp_path / "file").touch()
    lost = Owners(tmp_path / "file" / "names.msgpack")
    assert names(Registry(roots=[tmp_path / "models"], owners=lost)) == ["a", "b", "c"]
