"""`SyncEngine`: the same engine without asyncio."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from shimmy.engine import SyncEngine
from shimmy.engine.types.event import Delta, Finished
from shimmy.engine.types.prompt import TextPrompt, ToolCall
from shimmy.errors import (
    EngineClosedError,
    InvalidRequestError,
    ModelLoadError,
    ShimmyError,
    UnreachableError,
)
from tests.engine.ask import request
from tests.engine.test_chat import FORCED, WEATHER, check_call


@pytest.fixture
def engine(options):
    with SyncEngine.solo(options) as engine:
        yield engine
    assert not [thread for thread in threading.enumerate() if thread.name == "shimmy"]


def test_it_chats_and_streams_alike(engine):
    assert engine.mode == "solo"
    assert engine.info is not None
    reply = engine.chat("hello", max_tokens=8, temperature=0)
    with engine.stream_chat("hello", max_tokens=8, temperature=0) as generation:
        events = list(generation)
    assert "".join(event.text for event in events if isinstance(event, Delta)) == reply.text
    assert isinstance(events[-1], Finished)
    with pytest.raises(StopIteration):
        next(generation)


def test_all_the_rest_is_there_too(engine):
    tokens = engine.tokenize("hello fox")
    assert b"".join(engine.detokenize(tokens)) == b"hello fox"
    assert len(engine.embed([TextPrompt("a")]).vectors) == 1
    with pytest.raises(ShimmyError):
        engine.rerank("q", ["a"])
    with engine.generate(request(max_tokens=3, ignore_eos=True)) as generation:
        assert list(generation)[-1].usage.completion_tokens == 3


def test_leaving_the_block_cancels_the_request(engine):
    with engine.generate(request(max_tokens=None, ignore_eos=True)) as generation:
        for event in generation:
            if isinstance(event, Delta):
                break
    deadline = time.monotonic() + 10
    while engine._engine.n_active and time.monotonic() < deadline:
        time.sleep(0.005)
    assert engine._engine.n_active == 0
    assert engine.chat("hi", max_tokens=1).usage.completion_tokens == 1


def test_many_threads_may_ask_at_once(engine):
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda i: engine.chat(f"story {i}", max_tokens=4), range(16)))
    assert all(reply.usage.completion_tokens <= 4 for reply in replies)


def test_tools_run_where_they_may_wait_and_ask_the_engine_itself(engine):
    threads = []

    def run(call: ToolCall) -> str:
        check_call(call)
        threads.append(threading.current_thread())
        time.sleep(0.01)
        return engine.chat("hi", max_tokens=1).text

    reply = engine.chat_with_tools(
        "?", [WEATHER], run=run, tool_choice="required", max_rounds=2, **FORCED
    )
    assert len(threads) == 1
    assert threads[0] is not engine._thread
    assert [message.role for message in reply.messages][-2:] == ["tool", "assistant"]


def test_a_coroutine_function_runs_tools_too(engine):
    async def run(_call: ToolCall) -> str:
        return "sunny"

    reply = engine.chat_with_tools(
        "?", [WEATHER], run=run, tool_choice="required", max_rounds=2, **FORCED
    )
    assert reply.messages[-2].content == "sunny"


def test_errors_are_raised_to_the_caller(engine):
    with pytest.raises(InvalidRequestError, match="temperature"):
        engine.chat("hi", temperature=-1)
    with pytest.raises(InvalidRequestError, match="no option"):
        engine.stream_chat("hi", colour="blue")


def test_a_model_that_does_not_load_leaves_no_thread(tmp_path):
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(ModelLoadError, match=r"broken\.gguf"), SyncEngine.child(path):
        pass
    assert not [thread for thread in threading.enumerate() if thread.name == "shimmy"]


def test_a_server_that_is_not_there_is_said_so():
    with pytest.raises(UnreachableError), SyncEngine.connect("http://127.0.0.1:9"):
        pass


def test_after_the_block_it_is_closed(options):
    engine = SyncEngine.solo(options)
    with pytest.raises(EngineClosedError, match="with"):
        engine.chat("hi")
    with engine:
        with engine.generate(request(max_tokens=None, ignore_eos=True)) as generation:
            next(generation)
            engine.close()
            with pytest.raises(EngineClosedError):
                list(generation)
        engine.close()
    with pytest.raises(EngineClosedError):
        engine.chat("hi")
    with pytest.raises(EngineClosedError, match="make another"):
        engine.open()
