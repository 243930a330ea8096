"""Sessions: what a slot's last request left, on disk and back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from shimmy.engine import Engine
from shimmy.engine.types.options import EngineOptions
from shimmy.engine.types.prompt import TokenPrompt
from shimmy.errors import InvalidRequestError, OverloadedError, UnsupportedError
from shimmy.worker import session_cells
from shimmy.worker.session_file import read_session
from tests.engine.ask import ask
from tests.engine.integrity import checked, faults, loop_of, on_engine
from tests.support.tiny_gguf import write_model

FIRST = [5 + i % 200 for i in range(300)]


@pytest.fixture
def saving(options: EngineOptions, tmp_path: Path) -> EngineOptions:
    return msgspec.structs.replace(options, n_parallel=2, slot_save_path=str(tmp_path), cache_ram=0)


def prompt(*ends: int) -> TokenPrompt:
    return TokenPrompt([*FIRST, *ends])


async def test_a_saved_session_is_gone_on_with_by_another_engine(
    saving: EngineOptions, tmp_path: Path
) -> None:
    async with checked(saving) as engine:
        first = await ask(engine, prompt(7), max_tokens=8, ignore_eos=True)
        saved = await engine.slot_action(0, "save", "talk.bin")
    assert saved.n_tokens == 308
    assert saved.n_bytes == (tmp_path / "talk.bin").stat().st_size
    async with checked(saving) as engine:
        restored = await engine.slot_action(1, "restore", "talk.bin")
        assert (restored.n_tokens, restored.n_bytes) == (308, saved.n_bytes)
        assert [slot.n_past for slot in await engine.slots()] == [0, 308]
        again = await ask(engine, prompt(7), max_tokens=8, ignore_eos=True)
    assert again.end.usage.cached_tokens == 300
    assert again.text == first.text


@pytest.mark.parametrize("arch", ["mamba", "llama-divided"])
async def test_sessions_work_where_cells_are_not_shared(
    arch: str, saving: EngineOptions, tmp_path: Path
) -> None:
    if arch == "mamba":
        path = write_model(tmp_path / "m.gguf", arch=arch)
        saving = msgspec.structs.replace(saving, model_path=str(path))
    else:
        saving = msgspec.structs.replace(saving, kv_unified=False)
    async with checked(saving) as engine:
        await ask(engine, prompt(7), max_tokens=1, ignore_eos=True)
        saved = await engine.slot_action(0, "save", "talk.bin")
        assert (await engine.slot_action(0, "erase")).n_tokens == 301
        assert (await engine.slot_action(0, "restore", "talk.bin")).n_tokens == saved.n_tokens
        again = await ask(engine, prompt(7, 9, 11), max_tokens=8, ignore_eos=True)
    async with checked(saving) as engine:
        alone = await ask(engine, prompt(7, 9, 11), max_tokens=8, ignore_eos=True)
    assert again.end.usage.cached_tokens == 301
    assert again.text == alone.text


async def test_rows_go_on_while_a_session_is_saved_and_restored(
    saving: EngineOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One piece between two steps."""
    monkeypatch.setattr(session_cells, "SECONDS", 0.0)
    async with checked(saving) as engine:
        first = await ask(engine, prompt(7), max_tokens=8, ignore_eos=True)
        index = loop_of(engine)._scheduler._index
        (left,) = [one.seq_id for one in index.idle()]
        generating = asyncio.Event()
        beside = asyncio.create_task(
            ask(engine, TokenPrompt([9]), max_tokens=600, ignore_eos=True, generating=generating)
        )
        await generating.wait()
        # the running request is in slot 0: what it left is that of slot 1 now
        loop_of(engine)._scheduler._left[1] = left
        await engine.slot_action(1, "save", "talk.bin")
        assert (await engine.slot_action(1, "erase")).n_tokens == 308
        await engine.slot_action(1, "restore", "talk.bin")
        assert not beside.done()
        again = await ask(engine, prompt(7), max_tokens=8, ignore_eos=True)
        long = await beside
    pieces = read_session(tmp_path / "talk.bin").pieces
    assert [(piece.begin, piece.end) for piece in pieces] == [
        (0, 64),
        (64, 128),
        (128, 192),
        (192, 256),
        (256, 308),
    ]
    assert again.end.usage.cached_tokens == 300
    assert again.text == first.text
    assert long.end.usage.completion_tokens == 600


async def test_a_session_that_is_being_saved_stays_whole_when_it_is_evicted(
    saving: EngineOptions,
) -> None:
    tight = msgspec.structs.replace(saving, n_ctx=640)
    async with checked(tight) as engine:
        await ask(engine, prompt(7), max_tokens=8, ignore_eos=True)
        cells = engine._link._transport._worker._sessions._cells  # type: ignore[union-attr]
        index = loop_of(engine)._scheduler._index

        def whole() -> list[bytes]:
            held = cells.hold(index.idle()[0])
            pieces = [
                bytes(piece.data) for part in iter(lambda: cells.take(held), []) for piece in part
            ]
            cells.release(held)
            return pieces

        before = await on_engine(engine, whole)
        held = await on_engine(engine, lambda: cells.hold(index.idle()[0]))
        # the session itself has to go for another one
        await on_engine(engine, lambda: cells._make_room(600))
        assert not any(one.n_tokens == 308 for one in index.idle())
        after = await on_engine(engine, lambda: [call() for call in held.pieces])
        await on_engine(engine, lambda: cells.release(held))
    assert len(before) == 5
    assert [bytes(piece.data) for piece in after] == before


async def test_an_erased_session_is_forgotten_in_host_memory_too(saving: EngineOptions) -> None:
    async with checked(msgspec.structs.replace(saving, cache_ram=64)) as engine:
        await ask(engine, prompt(7), max_tokens=8, ignore_eos=True)
        assert (await engine.slot_action(0, "erase")).n_tokens == 308
        assert (await engine.slot_action(0, "erase")).n_tokens == 0
        again = await ask(engine, prompt(7), max_tokens=8, ignore_eos=True)
    assert again.end.usage.cached_tokens == 0


async def test_a_damaged_or_foreign_session_is_refused_and_nothing_else_suffers(
    saving: EngineOptions, tmp_path: Path
) -> None:
    async with checked(saving) as engine:
        await ask(engine, prompt(7), max_tokens=8, ignore_eos=True)
        await engine.slot_action(0, "save", "talk.bin")
        content = (tmp_path / "talk.bin").read_bytes()
        for at in (3, 20, 1500, len(content) // 2, len(content) - 1):
            damaged = bytearray(content)
            damaged[at] ^= 4
            (tmp_path / "damaged.bin").write_bytes(damaged)
            with pytest.raises(InvalidRequestError, match="damaged"):
                await engine.slot_action(1, "restore", "damaged.bin")
        for end in (0, 10, 40, 2000, len(content) - 1):
            (tmp_path / "damaged.bin").write_bytes(content[:end])
            with pytest.raises(InvalidRequestError, match="cannot be restored"):
                await engine.slot_action(1, "restore", "damaged.bin")
        assert await faults(engine) == []
    other = write_model(tmp_path / "other.gguf", n_layer=3)
    async with checked(msgspec.structs.replace(saving, model_path=str(other))) as engine:
        with pytest.raises(InvalidRequestError, match="another model"):
            await engine.slot_action(0, "restore", "talk.bin")


@pytest.mark.parametrize(
    "name",
    [
        "../talk",
        "/etc/passwd",
        "a/b",
        "a\\b",
        ".hidden",
        "",
        "x" * 200,
        "a\0b",
        "a.part",
        "..",
        "ä",
    ],
)
async def test_a_filename_stays_in_its_directory(
    name: str, saving: EngineOptions, tmp_path: Path
) -> None:
    async with checked(saving) as engine:
        await ask(engine, prompt(7), max_tokens=2)
        for verb in ("save", "restore"):
            with pytest.raises(InvalidRequestError) as refused:
                await engine.slot_action(0, verb, name)  # type: ignore[arg-type]
            assert refused.value.param == "filename"
    assert [one for one in tmp_path.iterdir() if one.suffix != ".gguf"] == []


async def test_what_cannot_be_done_says_why(saving: EngineOptions) -> None:
    async with checked(saving) as engine:
        with pytest.raises(InvalidRequestError, match="nothing to save"):
            await engine.slot_action(0, "save", "talk.bin")
        with pytest.raises(InvalidRequestError, match="no slot 2"):
            await engine.slot_action(2, "erase")
        with pytest.raises(InvalidRequestError, match="no session"):
            await engine.slot_action(0, "restore", "none.bin")
    async with checked(msgspec.structs.replace(saving, slot_save_path=None)) as engine:
        with pytest.raises(UnsupportedError, match="--slot-save-path"):
            await engine.slot_action(0, "save", "talk.bin")


async def test_a_busy_slot_and_full_cells_are_told_apart(saving: EngineOptions) -> None:
    tight = msgspec.structs.replace(saving, n_ctx=512)
    async with checked(tight) as engine:
        await ask(engine, prompt(7), max_tokens=2, ignore_eos=True)
        await engine.slot_action(0, "save", "talk.bin")
        generating = asyncio.Event()
        running = asyncio.create_task(
            ask(
                engine,
                TokenPrompt([9] * 400),
                max_tokens=100,
                ignore_eos=True,
                generating=generating,
            )
        )
        await generating.wait()
        (busy,) = [slot for slot in await engine.slots() if slot.is_processing]
        assert busy.n_prompt == 400
        assert busy.n_past >= 400
        with pytest.raises(InvalidRequestError, match="processing"):
            await engine.slot_action(busy.id, "restore", "talk.bin")
        with pytest.raises(OverloadedError):
            await engine.slot_action(1 - busy.id, "restore", "talk.bin")
        assert (await running).end.usage.completion_tokens == 100
        await engine.slot_action(0, "restore", "talk.bin")


async def test_what_was_evicted_is_no_longer_the_slots(saving: EngineOptions) -> None:
    tight = msgspec.structs.replace(saving, n_ctx=512)
    async with checked(tight) as engine:
        await ask(engine, prompt(7), max_tokens=2, ignore_eos=True)
        assert (await engine.slots())[0].n_past == 302
        await ask(engine, TokenPrompt([9] * 400), max_tokens=2, ignore_eos=True)
        assert [slot.n_past for slot in await engine.slots()] == [401, 0]


async def test_sessions_end_with_their_engine(saving: EngineOptions) -> None:
    engine = Engine.solo(saving)
    async with engine:
        worker = engine._link._transport._worker  # type: ignore[union-attr]
        sessions = worker._sessions
        await ask(engine, prompt(7), max_tokens=2)
    with pytest.raises(Exception, match="closed"):
        sessions.slots()
