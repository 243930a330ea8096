"""The placement report of models that are really loaded, and what is said of those that do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from shimmy.engine.types.info import DevicePlacement
from shimmy.engine.types.options import EngineOptions
from shimmy.errors import LlamaError
from shimmy.llama.model_params import ModelParams
from shimmy.worker import placed
from shimmy.worker.advice import advice, with_advice
from shimmy.worker.loading import LoadTicket, load
from tests.support.tiny_gguf import write_model

N_LAYER = 3


@pytest.fixture(scope="module")
def mixture(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("m") / "m.gguf", n_expert=4, n_layer=N_LAYER)


def options(path: Path, **more) -> EngineOptions:
    return EngineOptions(
        model_path=str(path), n_ctx=256, n_parallel=1, n_threads=1, gpu_backend="cpu", **more
    )


def test_issue_130_on_the_cpu_no_layer_is_offloaded_and_every_byte_is_somewhere(mixture) -> None:
    with load(options(mixture), LoadTicket(), lambda _: None) as loaded:
        [cpu] = loaded.info.placement
        tensors = loaded.model.tensors()
    assert cpu.device == "CPU"
    assert cpu.layers == cpu.experts == list(range(N_LAYER))
    assert cpu.output
    assert cpu.weights == sum(tensor.bytes for tensor in tensors)
    assert 0 < cpu.expert_weights < cpu.weights
    assert cpu.kv > 0
    assert cpu.compute > 0
    assert loaded.info.n_gpu_layers == 0
    assert loaded.info.devices == ["CPU"]


def test_offloaded_layers_are_those_on_other_devices() -> None:
    def on(device: str, layers: list[int], *, output: bool) -> DevicePlacement:
        return DevicePlacement(
            device=device, layers=layers, experts=[], output=output, weights=1024 * 1024,
            expert_weights=0, kv=0, compute=0,
        )  # fmt: skip

    where = [on("CUDA0", [1, 2], output=True), on("CPU", [0], output=False)]
    assert placed.offloaded(where) == 3
    assert placed.line(where[0]).startswith("CUDA0: 2 layers and the output, 1.0 MiB of weights")


def test_issue_108_a_cache_that_does_not_fit_names_the_flags_with_sizes(mixture) -> None:
    """The original only said that it failed to allocate."""
    error = LlamaError("failed to allocate buffer for kv cache", log=("a line",))
    with pytest.raises(LlamaError) as caught, with_advice(options(mixture), ModelParams()):
        raise error
    assert caught.value.message.startswith("failed to allocate buffer for kv cache")
    assert "what would help" in caught.value.message
    assert "-c 128: half of the context frees" in caught.value.message
    assert "-ctk q8_0" in caught.value.message
    assert caught.value.log == ("a line",)


def test_issue_108_on_a_gpu_the_experts_come_first(mixture) -> None:
    """The devices are not opened for advice, so any name will do for the flags."""
    params = ModelParams(devices=("CPU",))
    lines = "\n".join(advice(options(mixture), params))
    for flag in ("--cpu-moe", "--n-cpu-moe N", "-ngl N", "-nkvo", "-c 128"):
        assert flag in lines
    assert "--cpu-moe" not in "\n".join(advice(options(mixture, cpu_moe=True), params))


def test_other_errors_stay_as_they_are(mixture) -> None:
    error = LlamaError("the file is broken")
    with pytest.raises(LlamaError) as caught, with_advice(options(mixture), ModelParams()):
        raise error
    assert caught.value is error
