"""Which projector a model is loaded with: its own, or the one that somebody named; and which never."""

from __future__ import annotations

from pathlib import Path

import pytest

from shimmy.engine.types.options import EngineOptions
from shimmy.errors import ConfigError
from shimmy.models.budget import estimate
from shimmy.models.entry import ModelEntry
from shimmy.models.gguf.checks import objections
from shimmy.models.gguf.facts import facts_of
from shimmy.models.gguf.file import read_gguf
from shimmy.models.profile import Profile
from shimmy.models.registry import Registry, register
from tests.models import gguf
from tests.models.fake_engine import Garage
from tests.models.pools import make_pool
from tests.models.test_stores import LIBRARY, manifest

BASE = EngineOptions(model_path="")
WIDE = {"llama.embedding_length": 64}


def write(path: Path, n_embd: int = 64, architecture: str = "llama") -> Path:
    return gguf.write(path, architecture, fields={f"{architecture}.embedding_length": n_embd})


def entry(tmp_path: Path, name: str | None = None) -> ModelEntry:
    return Registry(roots=[tmp_path]).resolve(name)


# --- its own ------------------------------------------------------------------------------------


def test_ollamas_projector_layer_is_used(tmp_path):
    layers = {"model": gguf.model(fields=WIDE), "projector": gguf.projector()}
    manifest(tmp_path, f"{LIBRARY}/m/x", layers)
    options = entry(tmp_path).options(BASE)
    assert options.mmproj is not None
    assert Path(options.mmproj).read_bytes() == layers["projector"]


def test_the_projector_beside_a_model_is_used(tmp_path):
    write(tmp_path / "m.gguf")
    eyes = gguf.write_projector(tmp_path / "mmproj.gguf")
    assert entry(tmp_path).options(BASE).mmproj == str(eyes)


def test_the_projector_in_a_snapshot_is_used_by_all_its_quantisations(tmp_path):
    snapshot = tmp_path / "models--o--eyes-GGUF" / "snapshots" / ("a" * 40)
    for name in ("eyes-Q8_0.gguf", "Q4_K_M/eyes-Q4_K_M.gguf"):
        write(snapshot / name)
    eyes = gguf.write_projector(snapshot / "mmproj-F16.gguf")
    gguf.write_projector(tmp_path / "Q4_K_M" / "mmproj-F16.gguf")
    found = {e.name: e.options(BASE).mmproj for e in Registry(roots=[tmp_path]).entries()}
    assert found == {"eyes-Q8_0": str(eyes), "eyes-Q4_K_M": str(eyes)}


@pytest.mark.parametrize("folder", [".", "Q8_0"])
def test_a_file_that_was_named_outright_has_the_projector_beside_it(tmp_path, folder):
    path = write(tmp_path / folder / "m-Q8_0.gguf")
    eyes = gguf.write_projector(tmp_path / "mmproj.gguf")
    assert register(path).projector == str(eyes)
    assert Registry.standard(model_path=path).resolve(None).projector == str(eyes)


def test_in_llama_cpps_flat_cache_the_names_say_whose_projector_it_is(tmp_path):
    for name in ("gemma-3-4b-it", "Qwen3-4B"):
        write(tmp_path / f"org_{name}-GGUF_{name}-Q4_K_M.gguf")
    eyes = gguf.write_projector(tmp_path / "org_gemma-3-4b-it-GGUF_mmproj-model-f16.gguf")
    found = {e.name.split("_")[1]: e.projector for e in Registry(roots=[tmp_path]).entries()}
    assert found == {"gemma-3-4b-it-GGUF": str(eyes), "Qwen3-4B-GGUF": None}


def test_a_projector_without_a_name_is_nobodys_where_several_models_have_its_width(tmp_path):
    write(tmp_path / "a.gguf")
    write(tmp_path / "b.gguf", architecture="qwen3")
    gguf.write_projector(tmp_path / "mmproj-f16.gguf")
    assert [e.projector for e in Registry(roots=[tmp_path]).entries()] == [None, None]


@pytest.mark.parametrize("n_embd", [32, 128])
def test_a_projector_of_another_width_is_not_a_models(tmp_path, n_embd):
    write(tmp_path / "m.gguf")
    gguf.write_projector(tmp_path / "mmproj-m.gguf", n_embd)
    assert entry(tmp_path).projector is None


def test_of_several_projectors_the_usual_type_is_taken(tmp_path):
    write(tmp_path / "m.gguf")
    for name, kind in (("BF16", 32), ("F16", 1), ("F32", 0)):
        gguf.write_projector(tmp_path / f"mmproj-{name}.gguf", fields={"general.file_type": kind})
    assert entry(tmp_path).projector == str(tmp_path / "mmproj-F16.gguf")


def test_a_projector_for_sound_only_is_known_and_not_used(tmp_path):
    write(tmp_path / "m.gguf")
    ears = gguf.write_projector(tmp_path / "mmproj.gguf", 64, "audio")
    found = entry(tmp_path)
    assert (found.projector, found.senses, found.sees) == (str(ears), ("audio",), False)
    assert found.options(BASE).mmproj is None


def test_a_projector_for_images_and_sound_is_used_for_images(tmp_path):
    write(tmp_path / "m.gguf")
    both = gguf.write_projector(tmp_path / "mmproj.gguf", 64, "vision", "audio")
    found = entry(tmp_path)
    assert (found.options(BASE).mmproj, found.projector_use) == (str(both), "vision, not sound yet")


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (gguf.projector()[:-8], "it is cut short"),
        (gguf.projector(32), "it is made for a model that is 32 wide, and this one is 64"),
        (gguf.model(), "it is no projector, its metadata says llm"),
        (b"GGUF", "the file ends inside its header"),
    ],
)
def test_a_model_goes_without_a_projector_of_its_store_that_cannot_be_used(tmp_path, layer, said):
    manifest(tmp_path, f"{LIBRARY}/m/x", {"model": gguf.model(fields=WIDE), "projector": layer})
    found = entry(tmp_path)
    assert said in (found.projector_objection or "")
    assert found.projector_use.startswith(f"not used: {said}")
    assert found.options(BASE).mmproj is None


def test_a_projectors_file_counts_for_what_a_model_takes(tmp_path):
    write(tmp_path / "m.gguf")
    eyes = gguf.write_projector(tmp_path / "mmproj.gguf")
    found = entry(tmp_path)
    more = estimate(found, found.options(BASE)) - estimate(found, BASE)
    assert more == eyes.stat().st_size
    assert estimate(found, EngineOptions(model_path="", mmproj="/gone")) == estimate(found, BASE)


# --- one that was named -------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path) -> Registry:
    """Two models, each with a projector beside it."""
    for name in ("a", "b"):
        write(tmp_path / name / f"{name}.gguf")
        gguf.write_projector(tmp_path / name / "mmproj.gguf")
    return Registry(roots=[tmp_path])


def test_a_projector_that_was_named_goes_before_the_models_own(two, tmp_path):
    other = gguf.write_projector(tmp_path / "other.gguf")
    base = EngineOptions(model_path="", mmproj=str(other))
    assert two.resolve("a").options(base).mmproj == str(other)


def test_without_projectors_there_is_none_named_or_not(two, tmp_path):
    other = str(gguf.write_projector(tmp_path / "other.gguf"))
    for base in (BASE, EngineOptions(model_path="", mmproj=other)):
        off = EngineOptions(model_path="", mmproj=base.mmproj, use_mmproj=False)
        assert two.resolve("a").options(off).mmproj is None


async def test_the_projector_that_was_named_is_the_default_models_only(two, tmp_path):
    other = str(gguf.write_projector(tmp_path / "other.gguf"))
    pool = make_pool(two, Garage(), mmproj=other, image_max_tokens=9)
    async with pool.use("a") as lease:
        assert lease.engine.options.mmproj == other
    async with pool.use("b") as lease:
        options = lease.engine.options
        assert (options.mmproj, options.image_max_tokens) == (two.resolve("b").projector, 9)
    assert [pool.status(name).projector for name in "ab"] == [other, two.resolve("b").projector]
    await pool.close()


async def test_a_models_own_section_names_its_projector_or_none(two, tmp_path):
    other = str(gguf.write_projector(tmp_path / "other.gguf"))
    profiles = {
        "a": Profile(engine={"use_mmproj": False}),
        "b": Profile(engine={"mmproj": other, "mmproj_offload": False}),
    }
    pool = make_pool(two, Garage(), more={"profiles": profiles})
    async with pool.use("a") as lease:
        assert lease.engine.options.mmproj is None
    async with pool.use("b") as lease:
        assert (lease.engine.options.mmproj, lease.engine.options.mmproj_offload) == (other, False)
    assert [pool.status(name).projector for name in "ab"] == [None, other]
    await pool.close()


async def test_no_mmproj_switches_all_of_them_off(two):
    pool = make_pool(two, Garage(), use_mmproj=False)
    for name in "ab":
        async with pool.use(name) as lease:
            assert lease.engine.options.mmproj is None
    assert [pool.status(name).projector for name in "ab"] == [None, None]
    await pool.close()


async def test_a_model_whose_files_are_gone_has_a_status_still(tmp_path):
    path = write(tmp_path / "m.gguf")
    eyes = gguf.write_projector(tmp_path / "mmproj.gguf")
    registry = Registry(roots=[tmp_path])
    pool = make_pool(registry, Garage())
    async with pool.use("m"):
        path.unlink()
        registry.refresh()
        assert [one.projector for one in pool.statuses()] == [str(eyes)]
    await pool.close()


def named(path: Path) -> EngineOptions:
    return EngineOptions(model_path="", mmproj=str(path))


def refusal(model: ModelEntry, base: EngineOptions) -> str:
    with pytest.raises(ConfigError) as caught:
        model.options(base)
    assert caught.value.param in caught.value.message
    return caught.value.message


def test_a_projector_that_was_named_and_has_another_width_is_refused_with_both(two, tmp_path):
    other = gguf.write_projector(tmp_path / "other.gguf", 128)
    assert refusal(two.resolve("a"), named(other)) == (
        f"--mmproj: {other} is made for a model that is 128 wide, and a is 64: "
        "give the projector that came with the model"
    )


def test_what_was_named_and_is_no_projector_is_refused(two, tmp_path):
    model = two.resolve("a")
    assert "is no projector, its metadata says llm" in refusal(model, named(Path(model.path)))
    assert "No such file or directory" in refusal(model, named(tmp_path / "gone.gguf"))
    ears = gguf.write_projector(tmp_path / "ears.gguf", 64, "audio")
    assert "is for sound, which is not supported yet" in refusal(model, named(ears))
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(gguf.projector()[:-8])
    assert "it is cut short" in refusal(model, named(cut))


def test_more_tokens_at_least_than_at_most_are_refused(two):
    base = EngineOptions(model_path="", image_min_tokens=9, image_max_tokens=8)
    assert refusal(two.resolve("a"), base) == (
        "--image-min-tokens 9 is more than --image-max-tokens 8"
    )


# --- its header ---------------------------------------------------------------------------------


def facts(tmp_path: Path, content: bytes):
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    return facts_of(read_gguf(path))


def clip(kind: str, dim: int, *tensors: gguf.Tensor, said: str | None = None) -> bytes:
    fields: dict[str, object] = {
        "clip.has_vision_encoder": True,
        "clip.projector_type": kind,
        "clip.vision.projection_dim": dim,
    }
    return gguf.model("clip", said, fields=fields, tensors=tensors or (gguf.WEIGHT,))


@pytest.mark.parametrize(
    ("content", "n_embd"),
    [
        # llava's older tools wrote the width inside of CLIP
        (clip("mlp", 768, ("mm.2.weight", (64, 4096), 0)), 4096),
        (clip("mlp", 768, ("mm.2.weight", (64, 4096), 0), ("mm.3.weight", (64,), 0)), None),
        (clip("mlp", 768), None),
        (clip("resampler", 0, ("resampler.proj.weight", (96, 96), 0)), 96),
        # wider than the model by its deepstack layers, of which the model knows as well
        (clip("qwen3vl_merger", 64, ("mm.2.bias", (64,), 0), said="mmproj"), 64),
        (clip("gemma3", 1, ("mm.input_projection.weight", (64, 32), 0)), 64),
        (clip("something_new", 96, said="mmproj"), 96),
        (clip("granite4_vision", 96, said="mmproj"), None),
    ],
)
def test_the_width_is_read_where_it_is_sure(tmp_path, content, n_embd):
    assert facts(tmp_path, content).n_embd == n_embd


@pytest.mark.parametrize(
    ("fields", "senses"),
    [
        ({"clip.has_vision_encoder": True}, ("vision",)),
        ({"clip.has_audio_encoder": True, "clip.has_vision_encoder": False}, ("audio",)),
        ({"clip.has_vision_encoder": True, "clip.has_audio_encoder": True}, ("vision", "audio")),
        ({"clip.vision.image_size": 224}, ("vision",)),
        ({"clip.audio.num_mel_bins": 128}, ("audio",)),
        ({"clip.has_vision_encoder": False, "clip.vision.image_size": 224}, ()),
        ({}, ()),
    ],
)
def test_the_senses_are_what_the_header_says_or_shows(tmp_path, fields, senses):
    assert facts(tmp_path, gguf.model("clip", "mmproj", fields=fields)).senses == senses


def test_a_model_has_no_senses(tmp_path):
    assert facts(tmp_path, gguf.model(fields={"clip.has_vision_encoder": True})).senses == ()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"clip.has_vision_encoder": 1}, "clip.has_vision_encoder is uint32, not bool"),
        ({"clip.projector_type": 1}, "clip.projector_type is uint32, not string"),
        ({"clip.vision.patch_size": 1.0}, "clip.vision.patch_size is float32, not uint32"),
        ({"clip.audio.block_count": "x"}, "clip.audio.block_count is string, not uint32"),
        ({"clip.vision.block_count": 100_000}, "at most 512 can be"),
        ({"clip.vision.attention.layer_norm_epsilon": -1.0}, "no small positive number"),
    ],
)
def test_a_header_that_would_abort_is_refused(tmp_path, fields, said):
    path = gguf.write_projector(tmp_path / "x.gguf", fields=fields)
    assert any(said in objection for objection in objections(read_gguf(path)))


def test_a_header_that_llama_cpp_would_not_load_is_refused(tmp_path):
    path = gguf.write(tmp_path / "x.gguf", "clip", "mmproj", fields={"clip.vision.image_size": 8})
    assert objections(read_gguf(path)) == [
        "it does not say what it encodes: clip.has_vision_encoder is not there"
    ]
    path = gguf.write(tmp_path / "y.gguf", "clip", fields={"clip.has_vision_encoder": True})
    assert objections(read_gguf(path)) == [
        "it does not say what kind of projector it is: clip.projector_type is not there"
    ]
    assert objections(read_gguf(gguf.write_projector(tmp_path / "good.gguf"))) == []
