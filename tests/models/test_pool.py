"""One model at a time: the pool's promises, whatever the budget."""

from __future__ import annotations

import asyncio

import pytest

from shimmy.engine import EngineState
from shimmy.errors import DeadlineError, EngineClosedError, ModelLoadError, ModelNotFoundError
from shimmy.models import residency as module
from shimmy.models.registry import Registry
from tests.models.fake_engine import Garage
from tests.models.pools import User, entry_of, make_pool, settle


@pytest.fixture
def registry() -> Registry:
    return Registry(registered=[entry_of(name) for name in "abc"])


async def test_the_first_use_loads_the_model(registry):
    garage = Garage()
    pool = make_pool(registry, garage)
    assert pool.current is None
    async with pool.use("b") as lease:
        assert lease.entry.name == "b"
        assert lease.engine is garage.engines[0]
        assert pool.current is lease.engine
        assert pool.current_entry == lease.entry
        assert lease.engine.options.model_path == lease.entry.path
    assert garage.n_running == 1  # it stays loaded
    await pool.close()


async def test_no_name_means_the_default_model(registry):
    pool = make_pool(registry, Garage())
    async with pool.use(None) as lease:
        assert lease.entry.name == "a"
    await pool.close()


async def test_an_unknown_name_loads_nothing(registry):
    garage = Garage()
    pool = make_pool(registry, garage)
    with pytest.raises(ModelNotFoundError):
        async with pool.use("gpt-4"):
            pass
    assert not garage.engines


async def test_start_begins_to_load_the_default_and_returns(registry):
    garage = Garage(instant=False)
    pool = make_pool(registry, garage)
    await pool.start()
    assert pool.current.state is EngineState.LOADING, "its worker is on its way at once"
    await pool.start()
    assert len(garage.engines) == 1
    await pool.close()


async def test_requests_for_one_model_load_it_once(registry):
    garage = Garage(instant=False)
    pool = make_pool(registry, garage)
    users = [User(pool, "a") for _ in range(10)]
    await settle()
    assert len(garage.engines) == 1
    assert all(user.engine is None for user in users)
    garage.engines[0].loaded()
    await settle()
    assert all(user.engine is garage.engines[0] for user in users)
    for user in users:
        await user.leave()
    await pool.close()


async def test_another_model_waits_until_the_loaded_one_is_idle(registry):
    garage = Garage()
    pool = make_pool(registry, garage)
    first, second = User(pool, "a"), User(pool, "a")
    await settle()
    other = User(pool, "b")
    await settle()
    await first.leave()
    await settle()
    assert other.engine is None
    assert garage.n_running == 1
    await second.leave()
    await settle()
    assert other.entry.name == "b"
    assert [engine.n_closed for engine in garage.engines] == [1, 0]
    await other.leave()
    await pool.close()


async def test_the_old_model_is_gone_before_the_new_one_loads(registry):
    garage = Garage()
    pool = make_pool(registry, garage)
    async with pool.use("a"):
        garage.engines[0].slow_close.clear()
    other = User(pool, "b")
    await settle()
    assert len(garage.engines) == 1
    garage.engines[0].slow_close.set()
    await settle()
    assert other.entry.name == "b"
    await other.leave()
    await pool.close()


async def test_a_stream_of_users_cannot_keep_another_model_out(registry):
    garage = Garage()
    pool = make_pool(registry, garage)
    first = User(pool, "a")
    await settle()
    other = User(pool, "b")
    await settle()
    late = User(pool, "a")
    await settle()
    assert late.engine is None  # it came after `other`
    await first.leave()
    await settle()
    assert other.engine is not None
    await other.leave()
    await settle()
    assert late.entry.name == "a"
    await late.leave()
    await pool.close()


async def test_a_load_failure_is_raised_to_everyone_who_waits(registry):
    garage = Garage(instant=False)
    pool = make_pool(registry, garage)
    users = [User(pool, "a") for _ in range(3)]
    await settle()
    garage.engines[0].fail(ModelLoadError("bad tensor"))
    results = await asyncio.gather(*(user.task for user in users), return_exceptions=True)
    assert [str(error) for error in results] == ["bad tensor"] * 3
    assert pool.current.state is EngineState.FAILED  # shown by /health
    await pool.close()


async def test_a_load_failure_is_remembered_for_a_while(registry, monkeypatch):
    garage = Garage(instant=False)
    pool = make_pool(registry, garage)
    user = User(pool, "a")
    await settle()
    garage.engines[0].fail(ModelLoadError("bad tensor"))
    with pytest.raises(ModelLoadError):
        await user.task
    with pytest.raises(ModelLoadError, match="bad tensor"):
        async with pool.use("a"):
            pass
    assert len(garage.engines) == 1
    monkeypatch.setattr(module, "FAILURE_MEMORY", 0.0)
    garage.instant = True
    async with pool.use("a") as lease:
        assert lease.engine is garage.engines[1]
    await pool.close()


async def test_a_failed_model_does_not_stand_in_anothers_way(registry):
    garage = Garage(instant=False)
    pool = make_pool(registry, garage)
    await pool.start()
    await settle()
    garage.engines[0].fail(ModelLoadError("bad tensor"))
    await settle()
    garage.instant = True
    async with pool.use("b") as lease:
        assert lease.entry.name == "b"
    assert garage.engines[0].n_closed == 1
    await pool.close()


async def test_a_failed_background_load_is_raised_to_the_first_request(registry):
    garage = Garage(instant=False)
    pool = make_pool(registry, garage)
    await pool.start()
    await settle()
    garage.engines[0].fail(ModelLoadError("bad tensor"))
    await settle()
    with pytest.raises(ModelLoadError, match="bad tensor"):
        async with pool.use(None):
            pass
    await pool.close()


async def test_an_engine_that_gave_up_is_replaced(registry):
    garage = Garage()
    pool = make_pool(registry, garage)
    async with pool.use("a"):
        pass
    garage.engines[0].state = EngineState.FAILED
    async with pool.use("a") as lease:
        assert lease.engine is garage.engines[1]
    await pool.close()


async def test_an_engine_that_restarts_is_kept(registry):
    garage = Garage()
    pool = make_pool(registry, garage)
    async with pool.use("a"):
        pass
    garage.engines[0].state = EngineState.RESTARTING
    async with pool.use("a") as lease:
        assert lease.engine is garage.engines[0]
    await pool.close()


async def test_a_waiting_request_that_is_cancelled_leaves_no_trace(registry):
    garage = Garage(instant=False)
    pool = make_pool(registry, garage)
    waiting = User(pool, "a")
    await settle()
    waiting.task.cancel()
    await settle()
    garage.instant = True
    async with pool.use("b") as lease:  # nobody holds the first any more
        assert lease.entry.name == "b"
    await pool.close()


async def test_a_request_cancelled_during_a_swap_leaves_the_pool_usable(registry):
    garage = Garage()
    pool = make_pool(registry, garage)
    async with pool.use("a"):
        pass
    garage.engines[0].slow_close.clear()
    swapping = User(pool, "b")
    await settle()
    swapping.task.cancel()
    await settle()
    next_one = User(pool, "a")
    await settle()
    assert next_one.engine is None  # the old worker has not ended yet
    garage.engines[0].slow_close.set()
    await settle()
    assert next_one.entry.name == "a"
    assert next_one.engine is garage.engines[1]
    await next_one.leave()
    await pool.close()


async def test_an_error_inside_the_block_releases_the_model(registry):
    pool = make_pool(registry, Garage())
    with pytest.raises(ZeroDivisionError):
        async with pool.use("a"):
            1 / 0  # noqa: B018
    async with pool.use("b") as lease:
        assert lease.entry.name == "b"
    await pool.close()


async def test_close_ends_the_engine_and_all_who_wait(registry):
    garage = Garage(instant=False)
    pool = make_pool(registry, garage)
    loading, swapping, queued = User(pool, "a"), User(pool, "b"), User(pool, "a")
    await settle()
    await pool.close()
    results = await asyncio.gather(loading.task, swapping.task, queued.task, return_exceptions=True)
    assert [type(error) for error in results] == [EngineClosedError] * 3
    assert garage.n_running == 0
    await pool.close()
    with pytest.raises(EngineClosedError):
        await pool.start()


async def test_lora_and_template_are_the_default_models_only(registry):
    garage = Garage()
    pool = make_pool(registry, garage, lora=[("x.gguf", 1.0)], chat_template="chatml", n_ctx=512)
    async with pool.use("a") as lease:
        assert lease.engine.options.lora == [("x.gguf", 1.0)]
        assert lease.engine.options.chat_template == "chatml"
    async with pool.use("b") as lease:
        assert lease.engine.options.lora == []
        assert lease.engine.options.chat_template is None
        assert lease.engine.options.n_ctx == 512
    await pool.close()


async def test_a_crowd_over_three_models_is_served_with_one_loaded_at_a_time(registry):
    garage = Garage()
    pool = make_pool(registry, garage)
    served = []

    async def request(name: str) -> None:
        async with pool.use(name) as lease:
            assert lease.entry.name == name
            assert garage.n_running == 1
            await asyncio.sleep(0)
            served.append(name)

    await asyncio.gather(*(request("abcab"[number % 5]) for number in range(60)))
    assert len(served) == 60
    await pool.close()
    assert garage.n_running == 0


async def test_the_time_to_wait_for_another_models_unload_is_bounded(registry):
    garage = Garage()
    pool = make_pool(registry, garage)
    busy = User(pool, "a")
    await settle()
    with pytest.raises(DeadlineError, match="'b' was not loaded before the request's timeout"):
        async with pool.use("b", patience=0.02):
            pass
    assert pool.status("b").queued == 0
    async with pool.use("a", patience=0.02) as lease:  # it need not make room any more
        assert lease.engine is busy.engine
    await busy.leave()
    await pool.close()


async def test_a_load_goes_on_for_the_next_when_a_request_has_no_more_time(registry):
    garage = Garage(instant=False)
    pool = make_pool(registry, garage)
    with pytest.raises(DeadlineError):
        async with pool.use("a", patience=0.02):
            pass
    assert pool.status("a").state == "loading"
    garage.engines[0].loaded()
    await settle()
    async with pool.use("a", patience=5) as lease:
        assert lease.engine is garage.engines[0]
    assert len(garage.engines) == 1
    await pool.close()


async def test_a_load_that_fails_in_time_is_what_the_request_is_told(registry):
    garage = Garage(instant=False)
    pool = make_pool(registry, garage)
    using = asyncio.ensure_future(anext(aiter_of(pool)))
    await settle()
    garage.engines[0].fail(ModelLoadError("bad magic"))
    with pytest.raises(ModelLoadError, match="bad magic"):
        await using
    await pool.close()


async def aiter_of(pool):
    async with pool.use("a", patience=5) as lease:
        yield lease
