from __future__ import annotations

import math
import threading
from pathlib import Path

import gguf
import pytest

from shimmy.errors import InvalidRequestError, LoadCancelledError, ModelLoadError
from shimmy.llama import (
    Batch,
    Context,
    ContextParams,
    LoadControl,
    LoadMode,
    Model,
    ModelParams,
    SplitMode,
)
from tests.support.tiny_gguf import CHATML, N_CTX, N_EMBD, vocabulary, write_splits


def test_a_model_describes_itself(model: Model) -> None:
    assert model.metadata["general.name"] == "tiny-llama"
    assert model.meta("general.architecture") == "llama"
    assert model.meta("no.such.key") is None
    assert model.chat_template() == CHATML
    assert model.chat_template("no-such-variant") is None
    assert "llama" in model.desc
    assert model.ftype == "F16"
    assert (model.n_layer, model.n_embd, model.n_head, model.n_head_kv) == (2, N_EMBD, 2, 2)
    assert (model.n_embd_out, model.n_ctx_train, model.n_swa) == (N_EMBD, N_CTX, 0)
    assert model.n_params > 100_000
    assert model.size > model.n_params
    assert model.has_decoder
    assert not model.has_encoder
    assert not model.is_recurrent
    assert not model.is_hybrid
    assert not model.is_diffusion
    assert model.decoder_start_token is None
    assert model.classifier_labels == (None,)


@pytest.mark.parametrize("size", [255, 256, 257, 5000])
def test_metadata_of_any_length_is_whole(tiny_of, size: int) -> None:
    value = "ä" * (size // 2) + "b" * (size % 2)
    with Model.load(tiny_of(fields={"general.note": (value, gguf.GGUFValueType.STRING)})) as model:
        assert model.metadata["general.note"] == value
        assert model.meta("general.note") == value


def test_a_recurrent_model_says_so(tiny_of) -> None:
    with Model.load(tiny_of(arch="mamba")) as model:
        assert model.is_recurrent


def test_tensors_say_where_they_are(model: Model) -> None:
    places = {place.name: place for place in model.tensors()}
    assert places["blk.1.ffn_up.weight"].type == "f16"
    assert places["token_embd.weight"].bytes == 2 * N_EMBD * len(vocabulary()[0])
    assert all(place.buffer.startswith("CPU") for place in places.values())


@pytest.mark.parametrize("mode", [LoadMode.AUTO, LoadMode.NONE, LoadMode.MMAP])
def test_every_load_mode_gives_the_same_model(tiny_gguf: Path, mode: LoadMode) -> None:
    with Model.load(tiny_gguf, ModelParams(load_mode=mode)) as model:
        buffers = {place.buffer for place in model.tensors()}
    assert ("CPU_Mapped" in buffers) == (mode is not LoadMode.NONE)


def test_vocab_only_has_a_vocabulary_and_refuses_a_context(tiny_gguf: Path) -> None:
    with Model.load(tiny_gguf, ModelParams(vocab_only=True)) as model:
        assert model.vocab.tokenize("fox")
        assert model.tensors() == ()
        with pytest.raises(InvalidRequestError, match="vocab_only") as caught:
            Context(model)
        assert caught.value.param == "vocab_only"


def test_no_alloc_sizes_without_loading(tiny_gguf: Path) -> None:
    with (
        Model.load(tiny_gguf, ModelParams(no_alloc=True)) as model,
        Context(model, ContextParams(n_ctx=256)) as context,
    ):
        uses = context.memory_breakdown()
        assert sum(use.model for use in uses) > 0
        assert sum(use.context for use in uses) > 0
        with pytest.raises(InvalidRequestError, match="no_alloc"):
            context.decode(Batch.of([1]))
    with pytest.raises(InvalidRequestError) as caught:
        Model.load(tiny_gguf, ModelParams(no_alloc=True, load_mode=LoadMode.MMAP))
    assert caught.value.param == "load_mode"


def test_splits_load_from_the_first_or_from_all(tmp_path: Path) -> None:
    shards = write_splits(tmp_path)
    for source in (shards[0], shards):
        with Model.load(source) as model:
            assert model.n_layer == 2
            assert len(model.tensors()) == 20


def test_a_missing_shard_is_a_load_error(tmp_path: Path) -> None:
    first, second = write_splits(tmp_path)
    second.unlink()
    with pytest.raises(ModelLoadError, match="00002-of-00002"):
        Model.load(first)


def test_a_missing_file_is_a_load_error(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="does not exist"):
        Model.load(tmp_path / "none.gguf")
    with pytest.raises(ModelLoadError, match="is a directory"):
        Model.load(tmp_path)
    with pytest.raises(InvalidRequestError, match="NUL"):
        Model.load("a\0b")


def test_a_load_error_carries_llama_cpps_own_lines(tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUX" + bytes(100))
    with pytest.raises(ModelLoadError) as caught:
        Model.load(bad)
    assert any("magic" in line for line in caught.value.log)
    assert all(line in str(caught.value) for line in caught.value.log)


def test_an_older_error_is_not_blamed_for_a_new_one(tiny_of, tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUX" + bytes(100))
    with pytest.raises(ModelLoadError):
        Model.load(bad)
    with pytest.raises(ModelLoadError) as caught:
        Model.load(tiny_of(drop=("blk.0.attn_q.weight",)))
    assert not any("magic" in line for line in caught.value.log)


def test_concurrent_loads_report_their_own_errors(tmp_path: Path, tiny_of) -> None:
    paths = [tiny_of(drop=(f"blk.{i}.attn_q.weight",)) for i in (0, 1)]
    found: dict[Path, str] = {}

    def load(path: Path) -> None:
        for _ in range(20):
            with pytest.raises(ModelLoadError) as caught:
                Model.load(path)
            found[path] = found.get(path, "") + str(caught.value)

    threads = [threading.Thread(target=load, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, path in enumerate(paths):
        assert f"blk.{i}.attn_q.weight" in found[path]
        assert f"blk.{1 - i}.attn_q.weight" not in found[path]


def test_progress_grows_to_one(tiny_gguf: Path) -> None:
    seen: list[float] = []
    control = LoadControl()
    with Model.load(tiny_gguf, progress=seen.append, control=control):
        pass
    assert seen == sorted(seen)
    assert len(seen) > 2
    assert seen[-1] == 1.0
    assert control.progress == 1.0


def test_an_exception_in_progress_ends_the_load_and_comes_out(tiny_gguf: Path) -> None:
    seen: list[float] = []

    def give_up(progress: float) -> None:
        seen.append(progress)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Model.load(tiny_gguf, progress=give_up)
    assert len(seen) == 1


def test_cancel_during_the_load(tiny_gguf: Path) -> None:
    control = LoadControl()
    seen: list[float] = []

    def cancel(progress: float) -> None:
        seen.append(progress)
        control.cancel()

    with pytest.raises(LoadCancelledError, match=r"tiny\.gguf was cancelled"):
        Model.load(tiny_gguf, progress=cancel, control=control)
    assert control.cancelled
    assert len(seen) == 1


def test_cancel_before_the_load(tiny_gguf: Path) -> None:
    control = LoadControl()
    control.cancel()
    with pytest.raises(LoadCancelledError):
        Model.load(tiny_gguf, control=control)
    assert control.progress == 0.0


def test_kv_overrides_are_applied(tiny_gguf: Path) -> None:
    params = ModelParams(
        kv_overrides={
            "llama.context_length": 1024,
            "llama.attention.layer_norm_rms_epsilon": 1e-6,
            "tokenizer.ggml.add_bos_token": True,
            "tokenizer.ggml.pre": "default",
        }
    )
    with Model.load(tiny_gguf, params) as model:
        assert model.n_ctx_train == 1024
        assert model.vocab.add_bos


@pytest.mark.parametrize(
    ("params", "param"),
    [
        (ModelParams(n_gpu_layers=-2), "n_gpu_layers"),
        (ModelParams(n_gpu_layers=2**31), "n_gpu_layers"),
        (ModelParams(n_gpu_layers=1.5), "n_gpu_layers"),  # type: ignore[arg-type]
        (ModelParams(main_gpu=-2), "main_gpu"),
        (ModelParams(split_mode="half"), "split_mode"),  # type: ignore[arg-type]
        (ModelParams(load_mode="fast"), "load_mode"),  # type: ignore[arg-type]
        (ModelParams(check_tensors="yes"), "check_tensors"),  # type: ignore[arg-type]
        (ModelParams(tensor_split=[1.0] * 17), "tensor_split"),
        (ModelParams(tensor_split=[math.nan]), "tensor_split"),
        (ModelParams(tensor_split=[-1.0]), "tensor_split"),
        (ModelParams(devices=["CUDA7"]), "devices"),
        (ModelParams(kv_overrides={"": 1}), "kv_overrides"),
        (ModelParams(kv_overrides={"k" * 128: 1}), "kv_overrides"),
        (ModelParams(kv_overrides={"k\0": 1}), "kv_overrides"),
        (ModelParams(kv_overrides={"k": "v" * 128}), "kv_overrides"),
        (ModelParams(kv_overrides={"k": 2**63}), "kv_overrides k"),
        (ModelParams(kv_overrides={"k": None}), "kv_overrides"),  # type: ignore[dict-item]
    ],
)
def test_bad_parameters_are_named(tiny_gguf: Path, params: ModelParams, param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Model.load(tiny_gguf, params)
    assert caught.value.param == param


def test_no_devices_means_the_cpu(tiny_gguf: Path) -> None:
    params = ModelParams(devices=[], split_mode=SplitMode.LAYER, n_gpu_layers=-1)
    with Model.load(tiny_gguf, params) as model:
        assert all(place.buffer.startswith("CPU") for place in model.tensors())


def test_a_device_can_be_named_in_any_case(tiny_gguf: Path) -> None:
    with Model.load(tiny_gguf, ModelParams(devices=["cpu"])) as model:
        assert model.n_layer == 2
