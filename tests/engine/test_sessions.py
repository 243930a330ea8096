"""Sessions: what a slot's last request left, on disk and back."""

from __future__ import annotations

import asyncio
import struct
import threading
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shimmy.engine import Engine
from shimmy.engine.types.options import EngineOptions
from shimmy.engine.types.prompt import TokenPrompt
from shimmy.errors import InvalidRequestError, LlamaError, OverloadedError, UnsupportedError
from shimmy.worker import session_cells
from shimmy.worker.lora_set import NO_LORAS
from shimmy.worker.session_cells import SessionCells
from shimmy.worker.session_file import Piece, SessionWriter, read_session
from tests.engine.ask import ask
from tests.engine.integrity import checked, faults, loop_of, on_engine
from tests.support.tiny_gguf import write_model

FIRST = [5 + i % 200 for i in range(300)]


@pytest.fixture
def saving(options: EngineOptions, tmp_path: Path) -> EngineOptions:
    return msgspec.structs.replace(options, n_parallel=2, slot_save_path=str(tmp_path), cache_ram=0)


def prompt(*ends: int) -> TokenPrompt:
    return TokenPrompt([*FIRST, *ends])


def cells_of(engine: Engine) -> Any:
    return engine._link._transport._worker._sessions._cells  # type: ignore[union-attr]


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
    monkeypatch.setattr(session_cells, "PAUSE", 0.0)
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
        cells = cells_of(engine)
        index = loop_of(engine)._scheduler._index

        def whole() -> list[bytes]:
            held = cells.hold(index.idle()[0])
            pieces = [
                bytes(piece.data) for part in iter(lambda: cells.take(held), []) for piece in part
            ]
            cells.let_go(held)
            return pieces

        before = await on_engine(engine, whole)
        held = await on_engine(engine, lambda: cells.hold(index.idle()[0]))
        # the session itself has to go for another one
        await on_engine(engine, lambda: cells._make_room(600))
        assert not any(one.n_tokens == 308 for one in index.idle())
        after = await on_engine(engine, lambda: [call() for call in held.pieces])
        await on_engine(engine, lambda: cells.let_go(held))
    assert len(before) == 5
    assert [bytes(piece.data) for piece in after] == before


async def test_a_session_that_is_being_saved_gives_way_and_is_saved_all_the_same(
    saving: EngineOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request beside it needs more cells than it leaves, and the disk is slow."""
    monkeypatch.setattr(session_cells, "PAUSE", 0.0)
    begun, ended = threading.Event(), threading.Event()
    write = SessionWriter.piece

    def write_slowly(writer: SessionWriter, piece: Piece) -> None:
        begun.set()
        assert ended.wait(60)
        write(writer, piece)

    monkeypatch.setattr(SessionWriter, "piece", write_slowly)
    async with checked(msgspec.structs.replace(saving, n_ctx=640)) as engine:
        first = await ask(engine, prompt(7), max_tokens=8, ignore_eos=True)
        save = asyncio.create_task(engine.slot_action(0, "save", "talk.bin"))
        await asyncio.to_thread(begun.wait, 60)
        try:
            assert len(await asyncio.wait_for(engine.slots(), 30)) == 2
            other = await ask(engine, TokenPrompt([9] * 300), max_tokens=200, ignore_eos=True)
        finally:
            ended.set()
        assert (await save).n_tokens == 308
        await engine.slot_action(0, "restore", "talk.bin")
        again = await ask(engine, prompt(7), max_tokens=8, ignore_eos=True)
    assert other.end.usage.completion_tokens == 200
    assert again.end.usage.cached_tokens == 300
    assert again.text == first.text


async def test_what_cannot_be_copied_when_a_save_gives_way_fails_the_save(
    saving: EngineOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    async with checked(saving) as engine:
        await ask(engine, prompt(7), max_tokens=2, ignore_eos=True)
        cells = cells_of(engine)
        take = cells.take

        def give_way_first(held: object) -> list[Piece]:
            with monkeypatch.context() as patch:
                patch.setattr(cells._cells, "copy_out", no_memory)
                cells.give_way()
            taken: list[Piece] = take(held)
            return taken

        monkeypatch.setattr(cells, "take", give_way_first)
        with pytest.raises(OverloadedError):
            await engine.slot_action(0, "save", "talk.bin")
    assert [one for one in tmp_path.iterdir() if one.suffix != ".gguf"] == []


async def test_a_session_that_is_being_restored_gives_way(
    saving: EngineOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_cells, "PAUSE", 0.0)
    async with checked(msgspec.structs.replace(saving, n_ctx=640)) as engine:
        await ask(engine, prompt(7), max_tokens=8, ignore_eos=True)
        await engine.slot_action(0, "save", "talk.bin")
        await engine.slot_action(0, "erase")
        file = read_session(tmp_path / "talk.bin")
        cells = cells_of(engine)
        bringing = await on_engine(
            engine, lambda: cells.bring(1, file.tokens, file.pieces, NO_LORAS)
        )
        for _ in range(4):
            assert not await on_engine(engine, lambda: cells.put(bringing))
        other = await ask(engine, TokenPrompt([9] * 300), max_tokens=250, ignore_eos=True)
        assert other.end.usage.completion_tokens == 250
        with pytest.raises(OverloadedError):
            await on_engine(engine, lambda: cells.put(bringing))
        await on_engine(engine, lambda: cells.let_go(bringing))


async def test_a_restore_looks_for_cells_as_long_as_there_are_any(
    saving: EngineOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_held = 3
    place = SessionCells._place

    def relieve() -> bool:
        nonlocal n_held
        n_held -= 1
        return n_held >= 0

    def scarce(cells: SessionCells, *args: Any) -> None:
        if n_held > 0:
            raise LlamaError("no cells")
        place(cells, *args)

    async with checked(msgspec.structs.replace(saving, cache_ram=64)) as engine:
        await ask(engine, prompt(7), max_tokens=2, ignore_eos=True)
        await engine.slot_action(0, "save", "talk.bin")
        monkeypatch.setattr(SessionCells, "_place", scarce)
        monkeypatch.setattr(cells_of(engine)._paging, "relieve", relieve)
        assert (await engine.slot_action(1, "restore", "talk.bin")).n_tokens == 302
        n_held = 10**9
        monkeypatch.setattr(cells_of(engine)._paging, "relieve", lambda: False)
        with pytest.raises(InvalidRequestError, match="no cells"):
            await engine.slot_action(1, "restore", "talk.bin")
        generating = asyncio.Event()
        beside = asyncio.create_task(
            ask(engine, TokenPrompt([9]), max_tokens=500, ignore_eos=True, generating=generating)
        )
        await generating.wait()
        # the request beside it is in slot 0, and may have the cells
        with pytest.raises(OverloadedError):
            await engine.slot_action(1, "restore", "talk.bin")
        await beside


async def test_a_restore_that_breaks_down_leaves_nothing_behind(
    saving: EngineOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("not foreseen")

    async with checked(saving) as engine:
        await ask(engine, prompt(7), max_tokens=2, ignore_eos=True)
        await engine.slot_action(0, "save", "talk.bin")
        with monkeypatch.context() as patch:
            patch.setattr(SessionCells, "_place", fail)
            with pytest.raises(Exception, match="not foreseen"):
                await engine.slot_action(1, "restore", "talk.bin")
        assert await faults(engine) == []
        assert (await engine.slot_action(1, "restore", "talk.bin")).n_tokens == 302


async def test_a_session_in_pieces_is_refused_where_slots_have_their_own_cells(
    saving: EngineOptions,
) -> None:
    """And that is not for lack of room, though the slot's sequence is the only one."""
    async with checked(saving) as engine:
        await ask(engine, prompt(7), max_tokens=2, ignore_eos=True)
        await engine.slot_action(0, "save", "talk.bin")
    divided = msgspec.structs.replace(saving, kv_unified=False, n_parallel=1)
    async with checked(divided) as engine:
        with pytest.raises(InvalidRequestError, match="share their cells"):
            await engine.slot_action(0, "restore", "talk.bin")


async def test_a_session_is_refused_where_positions_are_scaled_otherwise(
    saving: EngineOptions,
) -> None:
    async with checked(saving) as engine:
        await ask(engine, prompt(7), max_tokens=2, ignore_eos=True)
        await engine.slot_action(0, "save", "talk.bin")
    async with checked(msgspec.structs.replace(saving, rope_freq_base=5000.0)) as engine:
        with pytest.raises(InvalidRequestError, match="another model"):
            await engine.slot_action(0, "restore", "talk.bin")


def test_a_file_whose_last_token_is_not_whole_is_refused(tmp_path: Path) -> None:
    header = struct.Struct("<8sIIII")
    blank = header.pack(b"shmsess2", 1, 0, 6, 0)
    checksum = zlib.crc32(bytes(6), zlib.crc32(blank))
    path = tmp_path / "talk.bin"
    path.write_bytes(header.pack(b"shmsess2", 1, 0, 6, checksum) + bytes(6))
    with pytest.raises(LlamaError, match="damaged"):
        read_session(path)


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
