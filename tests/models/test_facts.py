"""What a file is, by its metadata; and what must not reach native code."""

from __future__ import annotations

from typing import Any

import pytest

from shimmy.models.gguf.checks import objections
from shimmy.models.gguf.facts import Facts, facts_of, fits
from shimmy.models.gguf.file import read_gguf
from shimmy.models.gguf.types import ValueType
from tests.models import gguf
from tests.support import tiny_gguf

U16, I32, U32, U64 = ValueType.UINT16, ValueType.INT32, ValueType.UINT32, ValueType.UINT64


def facts(path, *args: Any, **options: Any) -> Facts:
    return facts_of(read_gguf(gguf.write(path, *args, **options)))


@pytest.mark.parametrize(
    ("architecture", "said", "fields", "kind"),
    [
        ("llama", None, {}, "llm"),
        ("llama", "model", {}, "llm"),
        ("t5", None, {}, "llm"),
        ("dream", None, {"dream.attention.causal": False}, "llm"),
        ("qwen3", None, {"qwen3.pooling_type": 0}, "llm"),
        ("bert", None, {}, "embedding"),
        ("qwen3", None, {"qwen3.pooling_type": 3}, "embedding"),
        ("gemma3", None, {"gemma3.attention.causal": False}, "embedding"),
        ("qwen3", None, {"qwen3.pooling_type": 4}, "reranker"),
        ("bert", None, {"bert.pooling_type": 4}, "reranker"),
        ("wavtokenizer-dec", None, {}, "speech"),
        ("llama", "adapter", {}, "adapter"),
        ("llama", "adapter", {"adapter.type": "lora"}, "adapter"),
        ("llama", "adapter", {"adapter.type": "ia3"}, "other"),
        ("clip", None, {}, "mmproj"),
        ("clip", "mmproj", {}, "mmproj"),
        ("llama", "imatrix", {}, "other"),
        ("llama", "vocab", {}, "other"),
        ("llama", None, {"split.no": (U16, 1), "split.count": (U16, 2)}, "shard"),
    ],
)
def test_the_kind_comes_from_the_metadata(tmp_path, architecture, said, fields, kind):
    # a name that says something else changes nothing
    path = tmp_path / "clip-lora-embedding.gguf"
    assert facts(path, architecture, said, fields=fields).kind == kind


def test_a_bare_vocabulary_is_no_model(tmp_path):
    assert facts(tmp_path / "v.gguf", tensors=()).kind == "vocabulary"


def test_a_first_shard_may_have_no_tensors(tmp_path):
    found = facts(
        tmp_path / "v.gguf", tensors=(), fields={"split.count": (U16, 3), "split.no": (U16, 0)}
    )
    assert (found.kind, found.n_shards, found.shard) == ("llm", 3, 0)


def test_a_file_without_layers_is_no_language_model(tmp_path):
    assert facts(tmp_path / "flux.gguf", "flux", layers=False).kind == "other"


def test_a_real_model_has_its_facts(tmp_path):
    path = tiny_gguf.write_model(tmp_path / "m.gguf", n_expert=4)
    assert facts_of(read_gguf(path)) == Facts(
        kind="llm",
        architecture="llama",
        name="tiny-llama",
        n_params=sum(t.n_elements for t in read_gguf(path).tensors),
        quantisation="F16",
        n_ctx_train=2048,
        n_embd=64,
        n_layer=2,
        n_expert=4,
        n_expert_used=2,
        tokenizer="gpt2 gpt-2",
        n_vocab=len(tiny_gguf.vocabulary()[0]),
        has_template=True,
    )


def test_named_templates_are_listed(tmp_path):
    fields = {"tokenizer.chat_template": "a", "tokenizer.chat_template.tool_use": "b"}
    found = facts(tmp_path / "m.gguf", fields=fields)
    assert (found.has_template, found.templates) == (True, ("tool_use",))


def test_the_quantisation_is_the_stated_one_or_that_of_most_bytes(tmp_path):
    tensors = (("a", (64,), 0), ("b", (256, 64), 12), ("c", (256,), 14))
    assert facts(tmp_path / "a.gguf", tensors=tensors).quantisation == "Q4_K"
    stated = facts(tmp_path / "b.gguf", tensors=tensors, fields={"general.file_type": 15})
    assert stated.quantisation == "Q4_K_M"
    guessed = facts(tmp_path / "c.gguf", tensors=tensors, fields={"general.file_type": 1024})
    assert guessed.quantisation == "Q4_K"
    assert facts(tmp_path / "d.gguf", tensors=()).quantisation is None


def test_an_adapter_asks_for_a_width_and_for_layers(tmp_path):
    adapter = facts_of(read_gguf(gguf.write_lora(tmp_path / "l.gguf", n_embd=64, n_layer=3)))
    assert (adapter.kind, adapter.n_embd, adapter.n_layer) == ("adapter", 64, 3)


@pytest.mark.parametrize(
    ("model", "does"),
    [
        (Facts(kind="llm", architecture="llama", n_embd=64, n_layer=3), True),
        (Facts(kind="llm", architecture="llama", n_embd=64, n_layer=8), True),
        (Facts(kind="llm", architecture="llama", n_embd=64, n_layer=2), False),
        (Facts(kind="llm", architecture="llama", n_embd=128, n_layer=3), False),
        (Facts(kind="llm", architecture="qwen3", n_embd=64, n_layer=3), False),
    ],
)
def test_an_adapter_fits_by_architecture_and_shape(tmp_path, model, does):
    adapter = facts_of(read_gguf(gguf.write_lora(tmp_path / "l.gguf", n_embd=64, n_layer=3)))
    assert fits(adapter, model) is does


def test_an_adapter_of_no_architecture_fits_nothing():
    assert not fits(Facts(kind="adapter"), Facts(kind="llm"))


# native.md 7.1, and what tests/llama/test_hostile_gguf.py found
REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "block_count 0": ({"llama.block_count": 0}, "block_count is 0"),
    "block_count 513": ({"llama.block_count": 513}, "block_count is 513"),
    "block_count 2^32-1": ({"llama.block_count": 2**32 - 1}, "1 to 512"),
    "experts, none used": ({"llama.expert_count": 4}, "expert_used_count 0"),
    "more used than there": (
        {"llama.expert_count": 4, "llama.expert_used_count": 5},
        "expert_used_count 5",
    ),
    "used without experts": ({"llama.expert_used_count": 2}, "expert_used_count 2"),
    "expert_count 1025": (
        {"llama.expert_count": 1025, "llama.expert_used_count": 2},
        "1024 is the limit",
    ),
    "more groups than experts": (
        {"llama.expert_count": 4, "llama.expert_used_count": 2, "llama.expert_group_count": 9},
        "expert_group_count 9",
    ),
    "groups without experts": ({"llama.expert_group_count": 1}, "expert_group_count 1"),
    "groups that do not divide": (
        {
            "llama.expert_count": 8,
            "llama.expert_used_count": 2,
            "llama.expert_group_count": 3,
            "llama.expert_group_used_count": 1,
        },
        "3 groups",
    ),
    "all groups used": (
        {
            "llama.expert_count": 8,
            "llama.expert_used_count": 2,
            "llama.expert_group_count": 4,
            "llama.expert_group_used_count": 4,
        },
        "4 are used",
    ),
    "unknown rope.scaling.type": ({"llama.rope.scaling.type": "sideways"}, "'sideways'"),
    "split.no of another type": ({"split.no": (I32, 0)}, "split.no is int32"),
    "split.count of another type": ({"split.count": 2}, "split.count is uint32"),
    "general.type no text": ({"general.type": 3}, "general.type is uint32"),
    "adapter.lora.alpha no float": ({"adapter.lora.alpha": 3}, "adapter.lora.alpha is uint32"),
    "a negative epsilon": ({"llama.attention.layer_norm_rms_epsilon": -1.0}, "is -1.0"),
    "no number": ({"llama.attention.layer_norm_epsilon": float("nan")}, "is nan"),
    "posnet": ({"llama.posnet.block_count": 3}, "posnet"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_llama_cpp_would_abort_at_is_refused(tmp_path, case):
    fields, reason = REFUSED[case]
    path = gguf.write(tmp_path / "m.gguf", fields=fields)
    assert reason in "; ".join(objections(read_gguf(path)))


@pytest.mark.parametrize("number", [9, 15, 28])
def test_types_that_no_kernel_knows_are_refused(tmp_path, number):
    path = gguf.write(tmp_path / "m.gguf", tensors=(("t", (256,), number),))
    assert "cannot be computed with" in objections(read_gguf(path))[0]


def test_a_file_that_is_shorter_than_its_tensors_is_refused(tmp_path):
    path = gguf.write(tmp_path / "m.gguf")
    path.write_bytes(path.read_bytes()[:-1])
    size = path.stat().st_size
    assert objections(read_gguf(path)) == [
        f"it is cut short: {size} of {size + 1} bytes; fetch it again"
    ]


@pytest.mark.parametrize(
    ("arch", "n_expert"),
    [("llama", 0), ("llama", 4), ("qwen2vl", 0), ("mamba", 0), ("bert", 0)],
)
def test_good_models_are_not_refused(tmp_path, arch, n_expert):
    path = tiny_gguf.write_model(tmp_path / "m.gguf", arch=arch, n_expert=n_expert)
    assert objections(read_gguf(path)) == []


def test_adapters_and_shards_of_real_models_are_not_refused(tmp_path):
    assert objections(read_gguf(tiny_gguf.write_lora(tmp_path / "l.gguf"))) == []
    for shard in tiny_gguf.write_splits(tmp_path):
        assert objections(read_gguf(shard)) == []
