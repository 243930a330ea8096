"""tensor_buft_overrides: that they are applied, not only accepted."""

from __future__ import annotations

from pathlib import Path

import pytest

from shimmy.errors import InvalidRequestError
from shimmy.llama import (
    Batch,
    Context,
    ContextParams,
    DecodeStatus,
    LogLevel,
    Model,
    ModelParams,
    TensorBuftOverride,
    cpu_moe,
    log,
    n_cpu_moe,
    parse_override_tensor,
)


@pytest.fixture
def moe(tiny_of) -> Path:
    return tiny_of(n_expert=4)


def overridden(path: Path, overrides: tuple[TensorBuftOverride, ...]) -> set[str]:
    """Return the tensors that llama.cpp says it has overridden."""
    log.set_level(LogLevel.DEBUG)
    try:
        log.drain()
        with Model.load(path, ModelParams(tensor_buft_overrides=overrides)):
            lines = [line.text for line in log.drain()]
    finally:
        log.set_level(LogLevel.INFO)
    return {line.split()[1] for line in lines if "buffer type overridden to CPU" in line}


def experts(*layers: int) -> set[str]:
    return {f"blk.{i}.ffn_{x}_exps.weight" for i in layers for x in ("gate", "up", "down")}


def test_cpu_moe_overrides_the_experts_of_all_layers(alone, moe: Path) -> None:
    assert alone(overridden, moe, cpu_moe()) == experts(0, 1)


def test_n_cpu_moe_overrides_the_experts_of_the_first_layers(alone, moe: Path) -> None:
    assert alone(overridden, moe, n_cpu_moe(1)) == experts(0)
    assert alone(overridden, moe, n_cpu_moe(2)) == experts(0, 1)
    assert n_cpu_moe(0) == ()


def test_n_cpu_moe_does_not_take_layer_10_for_layer_1(alone, tiny_of) -> None:
    path = tiny_of(n_expert=2, n_layer=11)
    assert alone(overridden, path, n_cpu_moe(2)) == experts(0, 1)


def test_an_override_works_on_any_tensor(alone, moe: Path) -> None:
    assert alone(overridden, moe, parse_override_tensor("attn_[qk]=CPU,output_norm=CPU")) == {
        "blk.0.attn_q.weight",
        "blk.0.attn_k.weight",
        "blk.1.attn_q.weight",
        "blk.1.attn_k.weight",
        "output_norm.weight",
    }


def test_no_override_no_line(alone, moe: Path) -> None:
    assert alone(overridden, moe, ()) == set()


def test_a_model_with_overrides_decodes(moe: Path) -> None:
    with (
        Model.load(moe, ModelParams(tensor_buft_overrides=cpu_moe())) as model,
        Context(model, ContextParams(n_ctx=256)) as context,
    ):
        assert context.decode(Batch.of([1, 2, 3])) is DecodeStatus.OK


def test_a_bad_pattern_is_refused_with_the_reason(moe: Path) -> None:
    with pytest.raises(InvalidRequestError, match=r"'blk\.\(' is no regular expression"):
        Model.load(moe, ModelParams(tensor_buft_overrides=[TensorBuftOverride("blk.(", "CPU")]))


def test_an_unknown_buffer_type_is_refused_with_those_there_are(moe: Path) -> None:
    with pytest.raises(InvalidRequestError, match=r"no buffer type 'CUDA9', only: CPU"):
        Model.load(moe, ModelParams(tensor_buft_overrides=[TensorBuftOverride("blk", "CUDA9")]))


def test_too_many_overrides_are_refused(moe: Path) -> None:
    with pytest.raises(InvalidRequestError, match="4095"):
        Model.load(moe, ModelParams(tensor_buft_overrides=[TensorBuftOverride("x", "CPU")] * 4096))
    with pytest.raises(InvalidRequestError):
        n_cpu_moe(4096)
    with pytest.raises(InvalidRequestError):
        n_cpu_moe(-1)


@pytest.mark.parametrize("argument", ["", "blk", "=CPU", "blk=", "a=CPU,", "a=CPU,b"])
def test_override_tensor_arguments_that_cannot_be_read(argument: str) -> None:
    with pytest.raises(InvalidRequestError, match="PATTERN=BUFFER_TYPE"):
        parse_override_tensor(argument)
