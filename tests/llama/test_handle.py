from __future__ import annotations

import gc
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from shimmy.errors import ClosedError
from shimmy.llama import Batch, Context, ContextParams, Handle, Model, Sampler, SamplerChain


def handle(log: list[str], name: str, *parents: Handle) -> Handle:
    return Handle(name, log.append, *parents)


def test_close_frees_once() -> None:
    log: list[str] = []
    one = handle(log, "one")
    assert not one.closed
    one.close()
    one.close()
    assert log == ["one"]
    assert one.closed


def test_use_after_close_raises() -> None:
    one = handle([], "one")
    assert one.ptr == "one"
    one.close()
    with pytest.raises(ClosedError, match="this Handle is closed"):
        _ = one.ptr


def test_with_closes() -> None:
    log: list[str] = []
    with handle(log, "one"):
        assert log == []
    assert log == ["one"]


def test_closing_a_parent_closes_its_children_first_and_the_youngest_before_the_others() -> None:
    log: list[str] = []
    parent = handle(log, "parent")
    child = handle(log, "child", parent)
    second = handle(log, "second", parent)
    grandchild = handle(log, "grandchild", child)
    parent.close()
    assert log == ["second", "grandchild", "child", "parent"]
    assert second.closed
    assert grandchild.closed


def test_a_closed_child_is_not_freed_again_by_its_parent() -> None:
    log: list[str] = []
    parent = handle(log, "parent")
    handle(log, "child", parent).close()
    parent.close()
    assert log == ["child", "parent"]


def test_a_child_of_a_closed_parent_cannot_be_made() -> None:
    log: list[str] = []
    parent = handle(log, "parent")
    parent.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the child that could not be made
        with pytest.raises(ClosedError):
            handle(log, "child", parent)
        gc.collect()
    assert log == ["parent", "child"]


@pytest.mark.filterwarnings("always::ResourceWarning")
def test_a_forgotten_handle_is_freed_with_a_warning_children_first() -> None:
    log: list[str] = []
    parent = handle(log, "parent")
    child = handle(log, "child", parent)
    del parent
    gc.collect()
    assert log == [], "the child keeps its parent"
    with warnings.catch_warnings(record=True) as caught:
        del child
        gc.collect()
    assert log == ["child", "parent"]
    assert [str(one.message) for one in caught] == ["Handle was not closed"] * 2


def test_a_released_pointer_is_not_freed() -> None:
    log: list[str] = []
    one = handle(log, "one")
    assert one._release() == "one"
    assert one.closed
    one.close()
    assert log == []


def test_repr_says_the_state() -> None:
    one = handle([], "one")
    assert repr(one) == "<Handle open>"
    one.close()
    assert repr(one) == "<Handle closed>"


def test_every_method_of_a_closed_model_and_its_parts_raises(tiny_gguf: Path) -> None:
    model = Model.load(tiny_gguf)
    vocab = model.vocab
    context = Context(model, ContextParams(n_ctx=256))
    memory, state = context.memory, context.state
    model.close()
    assert context.closed
    for use in (
        lambda: model.n_layer,
        lambda: model.vocab,
        lambda: model.metadata,
        lambda: vocab.tokenize("a"),
        lambda: vocab.bos,
        lambda: context.decode(Batch.of([1])),
        context.logits,
        lambda: memory.seq_rm(0),
        lambda: memory.can_shift,
        state.save,
        lambda: Context(model),
    ):
        with pytest.raises(ClosedError):
            use()


def test_a_sampler_in_a_chain_belongs_to_the_chain(model: Model) -> None:
    greedy = Sampler.greedy()
    with SamplerChain.of(greedy) as chain:
        assert greedy.closed
        with pytest.raises(ClosedError):
            greedy.reset()
        with chain.remove(0) as taken:
            assert taken.name == "greedy"
        assert len(chain) == 0


def test_a_chain_with_a_models_grammar_is_closed_with_the_model(tiny_gguf: Path) -> None:
    model = Model.load(tiny_gguf)
    chain = SamplerChain.of(Sampler.grammar(model, 'root ::= "a"'))
    model.close()
    assert chain.closed


def test_handles_left_open_at_exit_are_freed_in_order(tiny_gguf: Path) -> None:
    script = f"""
from shimmy.llama import *
model = Model.load({str(tiny_gguf)!r})
context = Context(model, ContextParams(n_ctx=256))
context.decode(Batch.of([1, 2]))
chain = SamplerChain.of(Sampler.grammar(model, 'root ::= "a"'), Sampler.greedy())
del model
"""
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("was not closed") == 3


def test_what_is_spared_at_exit_is_not_freed_there_nor_what_depends_on_it() -> None:
    script = """
from shimmy.llama.handle import Handle
parent = Handle("parent", print)
child = Handle("child", print, parent)
parent.spare_at_exit()
later = Handle("later", print, parent)
other = Handle("other", print)
"""
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["other"]
