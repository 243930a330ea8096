from __future__ import annotations

import re

import msgspec
import pytest

from shimmy.errors import InvalidRequestError
from shimmy.models.catalogue import CatalogueModel, Machine, catalogue, recommend
from shimmy.models.entry import ModelEntry
from shimmy.models.hub.names import REPO

KNOWN = catalogue()


def test_every_model_has_a_source_a_date_and_a_repository():
    for model in KNOWN.models:
        assert model.source.startswith("https://"), model.name
        assert re.fullmatch(r"20\d\d-\d\d", model.as_of), model.name
        assert REPO.fullmatch(model.repo), model.name


def test_the_month_of_a_check_is_not_before_that_of_the_source():
    for model in KNOWN.models:
        if model.checked is not None:
            assert re.fullmatch(r"20\d\d-\d\d", model.checked), model.name
            assert model.as_of <= model.checked, model.name


def test_an_entry_without_a_check_is_read():
    fields = msgspec.to_builtins(KNOWN.models[0])
    del fields["checked"]
    assert msgspec.convert(fields, CatalogueModel).checked is None


@pytest.mark.parametrize("field", ["chekced", "n_layers"])
def test_a_field_that_there_is_not_is_refused(field):
    fields = msgspec.to_builtins(KNOWN.models[0])
    with pytest.raises(msgspec.ValidationError, match=field):
        msgspec.convert(fields | {field: 1}, CatalogueModel)


def test_names_are_unique_and_drafts_exist():
    names = [model.name for model in KNOWN.models]
    assert len(set(names)) == len(names)
    assert {model.draft for model in KNOWN.models if model.draft} <= set(names)


def test_a_draft_is_smaller_and_of_the_same_family():
    for model in KNOWN.models:
        if model.draft:
            draft = KNOWN.find(model.draft)
            assert draft.n_params * 4 < model.n_params or draft.family == "llama3"
            assert draft.family == model.family


def test_the_size_of_every_quantisation_can_be_computed():
    for model in KNOWN.models:
        sizes = [KNOWN.weights(model, quant) for quant in model.quants]
        assert all(0 < size < 2 * model.n_params + 1e9 for size in sizes)


def test_tools_are_claimed_only_where_the_source_does():
    for model in KNOWN.models:
        assert ("tools" in model.uses) == (model.tools is True), model.name


@pytest.mark.parametrize(
    ("name", "quant", "size"),
    [
        # sizes of the published files, in bytes, to 4 %
        ("llama-3.1-8b", "Q4_K_M", 4.92e9),
        ("llama-3.2-1b", "Q4_K_M", 807_694_464),
        ("llama-3.2-1b", "Q5_K_M", 911_503_488),
        ("llama-3.2-3b", "Q4_K_M", 2_019_377_696),
        ("llama-3.3-70b", "Q4_K_M", 42.5e9),
        ("qwen3-0.6b", "Q8_0", 0.64e9),
        ("qwen3-1.7b", "Q8_0", 1_834_426_016),
        ("qwen3-4b", "Q4_K_M", 2_497_280_256),
        ("qwen3-8b", "Q4_K_M", 5.03e9),
        ("qwen3-14b", "Q4_K_M", 9_001_752_960),
        ("qwen3-32b", "Q4_K_M", 19_762_149_024),
        ("qwen3-30b-a3b-2507", "Q6_K", 25_092_532_640),
        ("qwen3-coder-30b-a3b", "Q4_K_M", 18_556_689_568),
        ("qwen2.5-coder-0.5b", "Q4_K_M", 0.491e9),
        ("qwen2.5-coder-0.5b", "Q8_0", 675_710_848),
        ("qwen2.5-coder-1.5b", "Q4_K_M", 1_117_320_736),
        ("qwen2.5-coder-1.5b", "Q8_0", 1_894_532_128),
        ("qwen2.5-coder-3b", "Q4_K_M", 2_104_932_768),
        ("gemma-3-1b", "Q4_K_M", 806_058_240),
        ("gemma-3-1b", "Q8_0", 1.07e9),
        ("gemma-3-12b", "Q4_K_M", 7_300_778_336),
        ("gpt-oss-20b", "MXFP4", 12_109_566_560),
        ("gpt-oss-120b", "MXFP4", 63.4e9),
        ("mistral-small-3.2-24b", "Q6_K", 19_345_952_288),
        ("phi-4", "Q4_K_M", 9.05e9),
        ("smollm2-1.7b", "Q4_K_M", 1_055_609_536),
        ("qwen3-embedding-8b", "Q4_K_M", 4_676_804_928),
        ("nomic-embed-text-v1.5", "Q8_0", 146_146_432),
    ],
)
def test_computed_sizes_are_near_those_of_the_files(name, quant, size):
    assert KNOWN.weights(KNOWN.find(name), quant) == pytest.approx(size, rel=0.04)


def test_the_cache_is_layers_times_cells_times_heads():
    # 2 x 32 layers x 8 heads x 128 x 2 bytes: 128 KiB for a token
    assert KNOWN.find("llama-3.1-8b").kv_bytes(8192) == 8192 * 131_072


def test_layers_with_a_window_keep_no_more_than_it():
    model = KNOWN.find("gpt-oss-20b")
    per_layer = 4 * 8 * 64
    assert model.kv_bytes(10_000) == per_layer * (12 * 10_000 + 12 * 128)


def test_a_larger_quantisation_is_taken_where_the_gpu_has_room():
    def quant(vram):
        found = recommend(KNOWN, Machine(vram=int(vram), ram=0), use="chat")
        return next((one.quant for one in found if one.model.name == "qwen3-8b"), None)

    assert (quant(4e9), quant(8e9), quant(24e9)) == (None, "Q4_K_M", "Q8_0")


def test_a_name_is_found_however_it_is_written():
    assert KNOWN.find("Qwen3_4B").name == "qwen3-4b"
    with pytest.raises(InvalidRequestError, match="Did you mean"):
        KNOWN.find("qwen3-4")


@pytest.mark.parametrize(
    ("name", "path", "same"),
    [
        ("Qwen3-4B-Q4_K_M", "/m/Qwen3-4B-Q4_K_M.gguf", True),
        ("x", "/hub/models--Qwen--Qwen3-4B-GGUF/snapshots/1/x.gguf", True),
        ("x", "/data/Qwen/Qwen3-4B-GGUF/x.gguf", True),
        ("Qwen3-4B-Q4_K_M@mine", "/mine/Qwen3-4B-Q4_K_M.gguf", True),
        ("Qwen3-4B-Thinking-Q4_K_M", "/m/Qwen3-4B-Thinking-Q4_K_M.gguf", False),
    ],
)
def test_what_is_on_disk_is_known_by_repository_or_file(name, path, same):
    entry = ModelEntry(name=name, path=path, size=1, source="discovered", modified=1)
    found = recommend(KNOWN, Machine(vram=0, ram=2**40), entries=[entry])
    there = {one.model.name for one in found if one.on_disk}
    assert there == ({"qwen3-4b"} if same else set())


@pytest.mark.parametrize("on", ["vram", "ram"])
def test_in_every_tier_all_picks_fit_and_the_first_three_are_of_two_families(on):
    """scale-out.md 2, row 17."""
    best = 0
    for gigabytes in (4, 8, 12, 16, 24, 48, 80, 192):
        budget = gigabytes * 10**9
        machine = Machine(**{"vram": 0, "ram": 0, on: budget})
        found = recommend(catalogue(), machine, use="chat")
        assert all(one.need < budget for one in found)
        assert len({one.model.family for one in found[:3]}) >= 2, gigabytes
        assert found[0].model.n_params >= best, "more memory, no worse a model"
        best = found[0].model.n_params
    assert recommend(catalogue(), Machine(vram=0, ram=0)) == []


def test_the_projector_of_a_model_on_disk_is_counted(tmp_path):
    model = KNOWN.find("gemma-3-4b")
    projector = tmp_path / "mmproj.gguf"
    with projector.open("wb") as file:
        file.truncate(10**9)
    entry = ModelEntry(
        name="gemma",
        path=f"/x/{model.repo}/x.gguf",
        size=1,
        source="discovered",
        modified=0,
        projector=str(projector),
        senses=("vision",),
    )
    machine = Machine(vram=0, ram=10**12)
    blind, seeing = (
        next(one for one in recommend(KNOWN, machine, entries=entries) if one.model == model)
        for entries in ([], [entry])
    )
    assert (blind.projector, seeing.projector) == (0, 10**9)
    assert seeing.need == blind.need + 10**9
    tight = Machine(vram=0, ram=blind.need + (1 << 30))
    names = [
        {one.model.name for one in recommend(KNOWN, tight, entries=entries)}
        for entries in ([], [entry])
    ]
    assert names[0] - names[1] == {model.name}
