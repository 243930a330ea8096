"""Several models at once: who stays, who goes, who waits, and for how long."""

from __future__ import annotations

import asyncio
import math

import msgspec
import pytest

from shimmy.engine import EngineState
from shimmy.errors import (
    EngineClosedError,
    EngineLoadingError,
    InvalidRequestError,
    ModelLoadError,
    ModelNotFoundError,
)
from shimmy.models.profile import Profile
from shimmy.models.registry import Registry
from tests.models.fake_engine import Garage
from tests.models.pools import User, entry_of, make_pool, settle


@pytest.fixture
def registry() -> Registry:
    return Registry(registered=[entry_of(name) for name in "abcdef"])


@pytest.fixture
def garage() -> Garage:
    return Garage()


def running(garage) -> list[str]:
    """The models in memory, by name, in the order of their loads."""
    return [
        engine.options.model_path.removesuffix(".gguf")[-1]
        for engine in garage.engines
        if engine.n_closed == 0
    ]


async def touch(pool, *names) -> None:
    for name in names:
        async with pool.use(name):
            pass


def state(pool, name) -> str:
    return pool.status(name).state


async def test_as_many_models_stay_loaded_as_the_budget_allows(registry, garage):
    pool = make_pool(registry, garage, max_models=3)
    await touch(pool, "a", "b", "c", "a", "b", "c")
    assert running(garage) == ["a", "b", "c"]
    assert len(garage.engines) == 3
    await pool.close()
    assert garage.n_running == 0


async def test_no_limit_of_models_is_0(registry, garage):
    pool = make_pool(registry, garage, max_models=0)
    await touch(pool, *"abcdef")
    assert running(garage) == list("abcdef")
    await pool.close()


async def test_the_least_recently_used_idle_model_makes_room(registry, garage):
    pool = make_pool(registry, garage, max_models=2)
    await touch(pool, "a", "b", "a", "c")
    assert running(garage) == ["a", "c"]
    await pool.close()


async def test_a_model_in_use_is_not_the_one_to_go(registry, garage):
    pool = make_pool(registry, garage, max_models=2)
    user = User(pool, "a")
    await settle()
    await touch(pool, "b", "c")
    assert running(garage) == ["a", "c"]
    await user.leave()
    await pool.close()


async def test_a_failed_model_goes_before_one_that_works(registry, garage):
    pool = make_pool(registry, garage, max_models=2)
    await touch(pool, "a", "b")
    garage.engines[1].state = EngineState.FAILED
    await touch(pool, "c")
    assert running(garage) == ["a", "c"]
    await pool.close()


async def test_where_all_are_in_use_the_longest_loaded_lets_nobody_new_in(registry, garage):
    pool = make_pool(registry, garage, max_models=2)
    first, second = User(pool, "a"), User(pool, "b")
    await settle()
    asker = User(pool, "c")
    await settle()
    late_a, late_b = User(pool, "a"), User(pool, "b")
    await settle()
    assert late_a.engine is None  # a is to go next
    assert late_b.engine is not None  # nobody waits for b's end
    await first.leave()
    await settle()
    assert asker.entry.name == "c"
    assert running(garage) == ["b", "c"]
    for user in (second, late_b):
        await user.leave()
    await settle()
    assert late_a.entry.name == "a"
    assert running(garage) == ["c", "a"]
    for user in (asker, late_a):
        await user.leave()
    await pool.close()


async def test_the_model_that_is_idle_first_goes_and_the_other_lets_in_again(registry, garage):
    pool = make_pool(registry, garage, max_models=2)
    first, second = User(pool, "a"), User(pool, "b")
    await settle()
    asker = User(pool, "c")
    late = User(pool, "a")
    await settle()
    await second.leave()
    await settle()
    assert asker.entry.name == "c"
    assert late.entry.name == "a"
    assert late.engine is garage.engines[0]
    for user in (first, asker, late):
        await user.leave()
    await pool.close()


async def test_when_the_waiting_request_leaves_all_are_let_in_again(registry, garage):
    pool = make_pool(registry, garage)
    first = User(pool, "a")
    await settle()
    asker, late = User(pool, "b"), User(pool, "a")
    await settle()
    assert late.engine is None
    asker.task.cancel()
    await settle()
    assert late.engine is garage.engines[0]
    for user in (first, late):
        await user.leave()
    await pool.close()


async def test_memory_decides_where_the_number_does_not(garage):
    registry = Registry(registered=[entry_of("a", 400), entry_of("b", 400), entry_of("c", 400)])
    pool = make_pool(registry, garage, max_models=0, free=lambda: 1000)
    await touch(pool, "a", "b", "c")
    assert running(garage) == ["b", "c"]
    await pool.close()


async def test_a_model_that_is_alone_is_tried_whatever_is_free(registry, garage):
    pool = make_pool(registry, garage, max_models=2, free=lambda: 0)
    await touch(pool, "a", "b")
    assert running(garage) == ["b"]
    await pool.close()


async def test_a_model_over_the_memory_that_was_given_is_refused_with_the_numbers(garage):
    registry = Registry(registered=[entry_of("a", 10**9), entry_of("b", 3 * 10**9)])
    pool = make_pool(registry, garage, memory=2 * 10**9)
    with pytest.raises(ModelLoadError, match=r"3\.0 GB.*2\.0 GB.*--models-memory"):
        await touch(pool, "b")
    await touch(pool, "a")
    assert running(garage) == ["a"]
    await pool.close()


async def test_a_pinned_model_never_makes_room(registry, garage):
    pool = make_pool(registry, garage, max_models=2, more={"profiles": {"a": Profile(pinned=True)}})
    await touch(pool, "a", "b", "c", "d")
    assert running(garage) == ["a", "d"]
    await pool.close()


async def test_beside_pinned_models_alone_there_is_no_room(registry, garage):
    pool = make_pool(registry, garage, more={"profiles": {"a": Profile(pinned=True)}})
    await touch(pool, "a")
    with pytest.raises(ModelLoadError, match=r"pinned models \(a\).*--models-max"):
        await touch(pool, "b")
    await pool.close()


@pytest.mark.parametrize("memory", [None, 2500])
async def test_beside_pinned_models_one_that_looks_too_large_is_tried_unless_memory_is_limited(
    registry, garage, memory
):
    profiles = {"a": Profile(pinned=True)}
    pool = make_pool(
        registry, garage, max_models=4, memory=memory, free=lambda: 500, more={"profiles": profiles}
    )
    await touch(pool, "a", "b")
    assert running(garage) == ["a", "b"]
    if memory is None:  # its loader knows better what fits; the next one makes room of b first
        await touch(pool, "c")
        assert running(garage) == ["a", "c"]
    else:
        pool = make_pool(registry, garage, max_models=4, memory=1500, more={"profiles": profiles})
        await touch(pool, "a")
        with pytest.raises(ModelLoadError, match="--models-memory"):
            await touch(pool, "b")
    await pool.close()


async def test_a_model_whose_header_is_refused_is_a_failure_that_is_remembered(garage):
    bad = msgspec.structs.replace(entry_of("a"), objection="it has no layers")
    pool = make_pool(Registry(registered=[bad, entry_of("b")]), garage)
    await pool.start()
    assert state(pool, "a") == "failed"
    assert "no layers" in str(pool.failure)
    assert not pool.is_asleep
    with pytest.raises(ModelLoadError, match="no layers"):
        await touch(pool, "a")
    await touch(pool, "b")
    assert running(garage) == ["b"]
    await pool.close()


async def test_preload_models_are_loaded_at_the_start(registry, garage):
    pool = make_pool(
        registry, garage, max_models=3, more={"profiles": {"c": Profile(preload=True)}}
    )
    await pool.start()
    await settle()
    assert running(garage) == ["a", "c"]
    await pool.close()


async def test_a_profile_shapes_its_own_model_only(registry, garage):
    profiles = {"b": Profile(engine={"n_ctx": 77})}
    pool = make_pool(registry, garage, max_models=2, n_ctx=5, more={"profiles": profiles})
    await touch(pool, "a", "b")
    assert [engine.options.n_ctx for engine in garage.engines] == [5, 77]
    await pool.close()


async def test_a_model_that_nobody_uses_is_unloaded_after_a_while(registry, garage):
    pool = make_pool(registry, garage, max_models=2, more={"idle_unload": 0.05})
    await pool.start()
    user = User(pool, "b")
    await asyncio.sleep(0.1)
    assert running(garage) == ["b"]  # the default was loaded, and nobody came
    await user.leave()
    await settle()
    assert running(garage) == ["b"]
    assert not pool.is_asleep
    await asyncio.sleep(0.1)
    assert running(garage) == []
    assert pool.is_asleep
    await touch(pool, "b")
    assert running(garage) == ["b"]
    await pool.close()


async def test_a_request_says_how_long_its_model_stays(registry, garage):
    pool = make_pool(registry, garage, max_models=2)
    async with pool.use("a", idle_unload=0):
        pass
    await settle()
    assert running(garage) == []
    async with pool.use("a", idle_unload=math.inf):
        pass
    await asyncio.sleep(0.02)
    assert running(garage) == ["a"]
    await pool.close()


async def test_100_requests_for_a_cold_model_start_one_load(registry):
    garage = Garage(instant=False)
    pool = make_pool(registry, garage, max_models=2)
    users = [User(pool, "a") for _ in range(100)]
    await settle()
    status = pool.status("a")
    assert (status.state, status.in_flight, status.queued) == ("loading", 0, 100)
    garage.engines[0].loaded()
    await settle()
    assert {user.engine for user in users} == {garage.engines[0]}
    for user in users:
        await user.leave()
    await pool.close()


async def test_a_load_that_everyone_has_left_is_given_up(registry):
    garage = Garage(instant=False)
    pool = make_pool(registry, garage, max_models=2)
    users = [User(pool, "a"), User(pool, "a")]
    await settle()
    users[0].task.cancel()
    await settle()
    assert garage.engines[0].state is EngineState.LOADING
    users[1].task.cancel()
    await settle()
    assert garage.n_running == 0
    assert state(pool, "a") == "unloaded"
    await pool.close()


async def test_a_load_that_was_asked_for_by_itself_goes_on(registry):
    garage = Garage(instant=False)
    pool = make_pool(registry, garage, max_models=2)
    await pool.load("a", wait=False)
    user = User(pool, "a")
    await settle()
    user.task.cancel()
    await settle()
    garage.engines[0].loaded()
    await settle()
    assert state(pool, "a") == "loaded"
    await pool.close()


async def test_load_returns_when_the_model_is_ready_or_raises(registry):
    garage = Garage(instant=False)
    pool = make_pool(registry, garage)
    loading = asyncio.ensure_future(pool.load("a"))
    await settle()
    assert not loading.done()
    garage.engines[0].fail(ModelLoadError("bad tensor"))
    with pytest.raises(ModelLoadError, match="bad tensor"):
        await loading
    assert state(pool, "a") == "failed"
    garage.instant = True
    assert (await pool.load("a")).name == "a"  # although the failure is fresh
    assert state(pool, "a") == "loaded"
    await pool.close()


async def test_unload_lets_requests_finish_and_new_ones_load_again(registry, garage):
    pool = make_pool(registry, garage, max_models=2)
    user = User(pool, "a")
    await settle()
    unloading = asyncio.ensure_future(pool.unload("a"))
    await settle()
    late = User(pool, "a")
    await settle()
    assert garage.n_running == 1
    assert state(pool, "a") == "unloading"
    await user.leave()
    assert await unloading
    await settle()
    assert late.engine is garage.engines[1]
    await late.leave()
    await pool.close()


async def test_unload_by_force_does_not_wait(registry, garage):
    pool = make_pool(registry, garage, max_models=2)
    user = User(pool, "a")
    await settle()
    assert await pool.unload("a", force=True)
    assert garage.n_running == 0
    await user.leave()
    await pool.close()


async def test_unload_says_whether_the_model_was_loaded(registry, garage):
    pool = make_pool(registry, garage, max_models=2)
    assert not await pool.unload("a")
    await touch(pool, "a")
    assert await pool.unload("a")
    with pytest.raises(ModelNotFoundError):
        await pool.unload("gpt-4")
    await pool.close()


async def test_a_request_that_will_not_wait_begins_the_load_and_is_told(registry):
    garage = Garage(instant=False)
    pool = make_pool(registry, garage)
    for _ in range(2):
        with pytest.raises(EngineLoadingError, match="'a' is being loaded"):
            async with pool.use("a", wait=False):
                pass
    await settle()
    assert len(garage.engines) == 1
    garage.engines[0].loaded()
    await settle()
    async with pool.use("a", wait=False) as lease:
        assert lease.entry.name == "a"
    await pool.close()


async def test_a_request_that_must_not_load_loads_nothing(registry, garage):
    pool = make_pool(registry, garage)
    with pytest.raises(EngineLoadingError, match="'a' is not loaded"):
        async with pool.use("a", load=False):
            pass
    assert not garage.engines
    await pool.close()


async def test_a_request_that_will_not_wait_hears_of_a_failure(registry):
    garage = Garage(instant=False)
    pool = make_pool(registry, garage)
    await pool.load("a", wait=False)
    await settle()
    garage.engines[0].fail(ModelLoadError("bad tensor"))
    await settle()
    with pytest.raises(ModelLoadError, match="bad tensor"):
        async with pool.use("a", wait=False):
            pass
    await pool.close()


async def test_an_alias_is_one_model_or_the_other_for_200_requests(registry, garage):
    pool = make_pool(registry, garage, max_models=2, more={"aliases": {"gpt": "a"}})
    answers = []
    switched = asyncio.Event()

    async def request(number: int) -> None:
        await asyncio.sleep(number / 10_000)
        if number >= 150:
            await switched.wait()
        async with pool.use("gpt") as lease:
            await asyncio.sleep(0.001)
            assert lease.engine.options.model_path == lease.entry.path
            answers.append(lease.entry.name)

    requests = [asyncio.ensure_future(request(number)) for number in range(200)]
    while not answers:
        await asyncio.sleep(0.001)
    await pool.load("b")
    pool.aliases.point("gpt", "b")
    switched.set()
    await asyncio.gather(*requests)
    assert len(answers) == 200
    assert answers.index("b") > 0
    assert set(answers[: answers.index("b")]) == {"a"}
    async with pool.use("gpt") as lease:
        assert lease.entry.name == "b"
    await pool.close()


@pytest.mark.parametrize("alias", ["", "x" * 201, "two\nlines"])
async def test_an_alias_that_cannot_be_a_name_is_refused(registry, garage, alias):
    pool = make_pool(registry, garage)
    with pytest.raises(InvalidRequestError):
        pool.aliases.point(alias, "a")


async def test_the_status_counts_what_runs_and_waits(registry, garage):
    pool = make_pool(registry, garage)
    users = [User(pool, "a") for _ in range(6)]
    await settle()
    other = User(pool, "b")
    await settle()
    garage.engines[0].n_active = 6  # on 4 slots
    status = pool.status("a")
    assert (status.state, status.in_flight, status.queued) == ("loaded", 4, 2)
    assert (status.n_requests, status.per_minute, status.load_ms) == (6, 6, 12.5)
    assert status.last_used is not None
    waiting = pool.status("b")
    assert (waiting.state, waiting.in_flight, waiting.queued) == ("queued", 0, 1)
    for user in users:
        await user.leave()
    await settle()
    await other.leave()
    assert state(pool, "a") == "unloaded"
    await pool.close()


async def test_close_during_loads_of_several_models_ends_them_all(registry):
    garage = Garage(instant=False)
    pool = make_pool(registry, garage, max_models=2)
    users = [User(pool, name) for name in "abcabc"]
    await settle()
    await pool.close()
    results = await asyncio.gather(*(user.task for user in users), return_exceptions=True)
    assert {type(error) for error in results} == {EngineClosedError}
    assert garage.n_running == 0


async def test_a_crowd_over_six_models_never_exceeds_the_budget(registry, garage):
    pool = make_pool(registry, garage, max_models=3)
    served = []

    async def request(name: str) -> None:
        async with pool.use(name) as lease:
            assert lease.entry.name == name
            assert garage.n_running <= 3
            await asyncio.sleep(0)
            served.append(name)

    await asyncio.gather(*(request("abcdefadcb"[number % 10]) for number in range(300)))
    assert len(served) == 300
    await pool.close()
    assert garage.n_running == 0
