from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shimmy.errors import InvalidRequestError, ModelLoadError
from shimmy.llama import Batch, Context, Lora, Model
from tests.support.tiny_gguf import write_lora


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lora(tmp_path_factory.mktemp("lora") / "lora.gguf")


def logits(context: Context) -> np.ndarray:
    context.memory.clear()
    context.decode(Batch.of([1, 2, 3]))
    return context.logits()


def test_an_adapter_changes_the_output_by_its_scale(
    model: Model, context: Context, adapter: Path
) -> None:
    base = logits(context)
    with Lora(model, adapter) as lora:
        context.set_loras({lora: 1.0})
        assert context.loras == {lora: 1.0}
        full = logits(context)
        context.set_loras({lora: 0.0})
        np.testing.assert_allclose(logits(context), base, atol=1e-5)
        context.set_loras({})
        np.testing.assert_array_equal(logits(context), base)
    assert not np.allclose(full, base, atol=1e-2)


def test_closing_an_adapter_takes_it_out_of_its_contexts(
    model: Model, context: Context, adapter: Path
) -> None:
    base = logits(context)
    lora, other = Lora(model, adapter), Lora(model, adapter)
    context.set_loras({lora: 1.0, other: 0.5})
    lora.close()
    assert context.loras == {other: 0.5}
    other.close()
    np.testing.assert_array_equal(logits(context), base)


def test_an_adapter_is_closed_with_its_model(tiny_gguf: Path, adapter: Path) -> None:
    model = Model.load(tiny_gguf)
    context = Context(model)
    lora = Lora(model, adapter)
    context.set_loras({lora: 1.0})
    model.close()
    assert lora.closed
    assert context.closed


def test_metadata(model: Model, adapter: Path) -> None:
    with Lora(model, adapter) as lora:
        assert lora.metadata["adapter.type"] == "lora"
        assert lora.meta("general.type") == "adapter"
        assert lora.meta("no.such.key") is None
        assert lora.invocation_tokens == ()


def test_adapters_that_do_not_fit_say_why(model: Model, tmp_path: Path, tiny_gguf: Path) -> None:
    for path, reason in (
        (write_lora(tmp_path / "arch.gguf", arch="qwen2"), "arch mismatch"),
        (write_lora(tmp_path / "layers.gguf", n_layer=9), "does not exist in base model"),
        (write_lora(tmp_path / "suffix.gguf", suffix="x"), "unexpected suffix"),
        (tiny_gguf, "general.type"),
    ):
        with pytest.raises(ModelLoadError) as caught:
            Lora(model, path)
        assert reason in str(caught.value)


def test_an_adapter_of_another_model_is_refused(
    context: Context, tiny_gguf: Path, adapter: Path
) -> None:
    with (
        Model.load(tiny_gguf) as other,
        Lora(other, adapter) as lora,
        pytest.raises(InvalidRequestError, match="another model"),
    ):
        context.set_loras({lora: 1.0})


def test_scales_are_checked(model: Model, context: Context, adapter: Path) -> None:
    with Lora(model, adapter) as lora, pytest.raises(InvalidRequestError) as caught:
        context.set_loras({lora: float("nan")})
    assert caught.value.param == "scale"
