from __future__ import annotations

import threading

import numpy as np
import pytest

from shimmy.errors import InvalidRequestError, LlamaError
from shimmy.llama import (
    Attention,
    Batch,
    Context,
    ContextParams,
    ContextType,
    DecodeStatus,
    FlashAttn,
    Model,
    Pooling,
    RopeScaling,
)

PROMPT = [1, 2, 3, 4, 5]


def test_a_context_says_what_it_got(model: Model) -> None:
    params = ContextParams(n_ctx=300, n_batch=100, n_ubatch=50, n_seq_max=2, kv_unified=True)
    with Context(model, params) as context:
        assert context.n_ctx == 512, "llama.cpp rounds up to 256"
        assert context.n_ctx_seq == 512
        assert (context.n_batch, context.n_ubatch, context.n_seq_max) == (100, 50, 2)
        assert context.n_rs_seq == 0


def test_n_ctx_of_zero_is_the_models(model: Model) -> None:
    with Context(model, ContextParams(n_ctx=0)) as context:
        assert context.n_ctx == model.n_ctx_train


def test_the_defaults_are_llama_cpps(model: Model) -> None:
    with Context(model) as context:
        assert (context.n_ctx, context.n_batch, context.n_ubatch) == (512, 512, 512)
        assert context.n_threads == (4, 4)


def test_decode_gives_the_same_logits_whole_and_in_parts(model: Model) -> None:
    params = ContextParams(n_ctx=256)
    with Context(model, params) as whole, Context(model, params) as parts:
        assert whole.decode(Batch.of(PROMPT)) is DecodeStatus.OK
        parts.decode(Batch.of(PROMPT[:2]))
        parts.decode(Batch.of(PROMPT[2:], pos=2))
        np.testing.assert_allclose(whole.logits(), parts.logits(), atol=1e-2)
        assert whole.logits().shape == (model.vocab.n_tokens,)


def test_logits_are_copies_unless_asked(context: Context) -> None:
    context.decode(Batch.of([1, 2]))
    view, copy = context.logits(copy=False), context.logits()
    context.decode(Batch.of([3, 4], pos=2))
    assert not np.array_equal(view, copy)


def test_logits_by_batch_index(context: Context) -> None:
    batch = Batch(3)
    batch.add(1, 0, 0, logits=True)
    batch.add(2, 0, 1, logits=False)
    batch.add(3, 0, 2, logits=True)
    assert batch.n_outputs == 2
    context.decode(batch)
    assert np.array_equal(context.logits(2), context.logits(-1))
    assert np.array_equal(context.logits(0), context.logits(-2))
    for index in (1, 3, -3, 2**31 - 1):
        with pytest.raises(InvalidRequestError) as caught:
            context.logits(index)
        assert caught.value.param == "index"
    with pytest.raises(InvalidRequestError):
        context.logits(2**31)


def test_logits_before_any_decode(context: Context) -> None:
    with pytest.raises(InvalidRequestError, match="no logits"):
        context.logits()


def test_embeddings_of_a_generating_model(model: Model) -> None:
    with Context(model, ContextParams(n_ctx=256, embeddings=True)) as context:
        context.decode(Batch.of(PROMPT))
        assert context.embeddings().shape == (model.n_embd,)
        with pytest.raises(InvalidRequestError, match="no pooled embeddings"):
            context.pooled_embeddings(0)
        context.set_embeddings(False)
        context.decode(Batch.of([1], pos=5))
        with pytest.raises(InvalidRequestError, match="no embeddings"):
            context.embeddings(5)


def test_pooled_embeddings_of_an_encoder(tiny_of) -> None:
    params = ContextParams(n_ctx=256, n_batch=32, n_ubatch=32, embeddings=True, n_seq_max=2)
    with Model.load(tiny_of(arch="bert")) as model, Context(model, params) as context:
        batch = Batch(8)
        batch.extend([1, 2, 3], seq_id=0, all_logits=True)
        batch.extend([4, 5], seq_id=1, all_logits=True)
        assert context.encode(batch) is DecodeStatus.OK
        first, second = context.pooled_embeddings(0), context.pooled_embeddings(1)
        assert first.shape == (model.n_embd_out,)
        assert not np.array_equal(first, second)
        with pytest.raises(InvalidRequestError):
            context.pooled_embeddings(7)
        with pytest.raises(InvalidRequestError):
            context.pooled_embeddings(256)


def test_pooling_can_be_chosen(tiny_of) -> None:
    params = ContextParams(n_ctx=256, embeddings=True, pooling_type=Pooling.CLS)
    with Model.load(tiny_of(arch="bert")) as model, Context(model, params) as context:
        context.encode(Batch.of([1, 2], all_logits=True))
        assert np.isfinite(context.pooled_embeddings(0)).all()


def test_a_full_memory_is_a_status_and_changes_nothing(model: Model) -> None:
    with Context(model, ContextParams(n_ctx=256, n_batch=256)) as context:
        assert context.decode(Batch.of([1] * 250)) is DecodeStatus.OK
        assert context.decode(Batch.of([1] * 10, pos=250)) is DecodeStatus.KV_FULL
        assert context.memory.seq_pos_max(0) == 249
        assert context.decode(Batch.of([1] * 6, pos=250)) is DecodeStatus.OK


def test_abort_stops_decodes_until_cleared(context: Context) -> None:
    assert not context.aborted
    context.abort()
    assert context.aborted
    assert context.decode(Batch.of(PROMPT)) is DecodeStatus.ABORTED
    context.clear_abort()
    context.memory.clear()
    assert context.decode(Batch.of(PROMPT)) is DecodeStatus.OK


def test_abort_from_another_thread_stops_a_running_decode(tiny_of) -> None:
    path = tiny_of(n_layer=24, n_ctx=8192)
    params = ContextParams(n_ctx=8192, n_batch=8192, n_ubatch=512)
    with Model.load(path) as model, Context(model, params) as context:
        timer = threading.Timer(0.05, context.abort)
        timer.start()
        assert context.decode(Batch.of([1] * 8192)) is DecodeStatus.ABORTED
        timer.join()
        assert (context.memory.seq_pos_max(0) or 0) < 8191


def test_threads_can_be_set(context: Context) -> None:
    context.set_n_threads(1)
    assert context.n_threads == (1, 1)
    context.set_n_threads(1, 2)
    assert context.n_threads == (1, 2)
    for bad in (0, 513):
        with pytest.raises(InvalidRequestError):
            context.set_n_threads(bad)
        with pytest.raises(InvalidRequestError):
            context.set_n_threads(1, bad)


def test_causal_attention_can_be_switched(context: Context) -> None:
    context.decode(Batch.of(PROMPT, all_logits=True))
    causal = context.logits(0)
    context.memory.clear()
    context.set_causal_attn(False)
    context.decode(Batch.of(PROMPT, all_logits=True))
    assert not np.allclose(causal, context.logits(0), atol=1e-2), "it sees the tokens after it"


def test_perf_counts_when_asked(model: Model) -> None:
    with Context(model, ContextParams(n_ctx=256, no_perf=False)) as context:
        context.decode(Batch.of(PROMPT))
        context.synchronize()
        context.decode(Batch.of([1], pos=5))
        context.synchronize()
        perf = context.perf()
        assert (perf.n_p_eval, perf.n_eval) == (5, 1)
        assert perf.t_p_eval_ms > 0
        context.reset_perf()
        assert context.perf().n_p_eval == 1, "llama.cpp never says 0"


def test_the_memory_breakdown_counts_all_three_kinds(context: Context) -> None:
    uses = context.memory_breakdown()
    for kind in ("model", "context", "compute"):
        assert sum(getattr(use, kind) for use in uses) > 0
    assert all(use.host for use in uses)


@pytest.mark.parametrize(
    "kv_type", ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl"]
)
def test_kv_types(model: Model, kv_type: str) -> None:
    with Context(model, ContextParams(n_ctx=256, type_k=kv_type, type_v=kv_type)) as context:
        assert context.decode(Batch.of(PROMPT)) is DecodeStatus.OK
        assert np.isfinite(context.logits()).all()


def test_every_enum_and_number_reaches_llama_cpp(model: Model) -> None:
    params = ContextParams(
        n_ctx=256,
        n_batch=64,
        n_ubatch=32,
        n_seq_max=2,
        n_rs_seq=0,
        n_outputs_max=8,
        n_outputs_max_per_seq=4,
        n_threads=1,
        n_threads_batch=2,
        ctx_type=ContextType.DEFAULT,
        rope_scaling_type=RopeScaling.YARN,
        pooling_type=Pooling.NONE,
        attention_type=Attention.CAUSAL,
        flash_attn_type=FlashAttn.OFF,
        rope_freq_base=20000.0,
        rope_freq_scale=0.5,
        yarn_ext_factor=1.0,
        yarn_attn_factor=1.0,
        yarn_beta_fast=32.0,
        yarn_beta_slow=1.0,
        yarn_orig_ctx=1024,
        type_k="f32",
        embeddings=False,
        offload_kqv=False,
        no_perf=True,
        op_offload=False,
        swa_full=False,
        kv_unified=True,
    )
    with Context(model, params) as context:
        context.decode(Batch.of(PROMPT))
        changed = context.logits()
        assert context.n_threads == (1, 2)
    with Context(model, ContextParams(n_ctx=256)) as context:
        context.decode(Batch.of(PROMPT))
        assert not np.allclose(changed, context.logits(), atol=1e-3), "the rope's base is used"


@pytest.mark.parametrize(
    ("params", "param"),
    [
        (ContextParams(n_batch=4, n_seq_max=8), "n_batch"),
        (ContextParams(n_ctx=4, n_seq_max=8), "n_batch"),
        (ContextParams(n_outputs_max=3, n_seq_max=8), "n_outputs_max"),
        (ContextParams(n_seq_max=257), "n_seq_max"),
        (ContextParams(n_seq_max=0), "n_seq_max"),
        (ContextParams(n_batch=0), "n_batch"),
        (ContextParams(n_ubatch=0), "n_ubatch"),
        (ContextParams(n_ctx=-1), "n_ctx"),
        (ContextParams(n_ctx=2**31), "n_ctx"),
        (ContextParams(n_ctx=1.5), "n_ctx"),  # type: ignore[arg-type]
        (ContextParams(n_threads=0), "n_threads"),
        (ContextParams(n_threads_batch=10_000), "n_threads_batch"),
        (ContextParams(type_k="q3_k"), "type_k"),
        (ContextParams(type_v="q8_0", flash_attn_type=FlashAttn.OFF), "type_v"),
        (ContextParams(rope_freq_base=float("nan")), "rope_freq_base"),
        (ContextParams(rope_freq_scale=float("inf")), "rope_freq_scale"),
        (ContextParams(flash_attn_type="sometimes"), "flash_attn_type"),  # type: ignore[arg-type]
        (ContextParams(pooling_type=3), "pooling_type"),  # type: ignore[arg-type]
        (ContextParams(kv_unified=1), "kv_unified"),  # type: ignore[arg-type]
    ],
)
def test_bad_parameters_are_named(model: Model, params: ContextParams, param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Context(model, params)
    assert caught.value.param == param


def test_a_context_that_llama_cpp_refuses_says_why(model: Model) -> None:
    with pytest.raises(LlamaError, match="could not create a context") as caught:
        Context(model, ContextParams(n_ctx=256, ctx_type=ContextType.MTP))
    assert any("MTP" in line for line in caught.value.log)


def test_a_context_of_another_context(model: Model, context: Context) -> None:
    with Context(model, ContextParams(n_ctx=256, ctx_other=context)) as second:
        context.close()
        assert second.closed
