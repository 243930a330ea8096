"""The prefix index alone, against a model of the cells that is too simple to be wrong."""

from __future__ import annotations

import random

import pytest

from shimmy.worker.prefix import Placement, PrefixIndex, Sharing
from shimmy.worker.resident import Resident, prefix_key


def ids(residents: list[Resident]) -> list[int]:
    return [resident.seq_id for resident in residents]


def common(left: list[int], right: list[int]) -> int:
    n = 0
    while n < min(len(left), len(right)) and left[n] == right[n]:
        n += 1
    return n


def test_the_longest_prefix_among_several_is_found() -> None:
    index = PrefixIndex(8)
    for tokens in ([1, 2, 3], [1, 2, 3, 4, 5], [9, 9]):
        placed = index.place(prefix_key([*tokens, 0]))
        index.extend(placed.seq_id, [*tokens, 0][placed.n_shared :])
    found = index.place(prefix_key([1, 2, 3, 4, 7]))
    assert found.n_shared == 4
    assert found.source == 1


def test_shared_cells_are_counted_once_and_freed_with_their_last_holder() -> None:
    index = PrefixIndex(8)
    first = index.place(prefix_key([1] * 11))
    index.extend(first.seq_id, [1] * 11)
    second = index.place(prefix_key([1] * 10 + [2, 3]))
    index.extend(second.seq_id, [2, 3])
    assert (second.source, second.n_shared) == (first.seq_id, 10)
    assert index.n_cells == 13
    index.drop(first.seq_id)
    assert index.n_cells == 12
    index.drop(second.seq_id)
    assert index.n_cells == 0


def test_eviction_frees_only_idle_sequences_and_only_what_is_not_shared() -> None:
    index = PrefixIndex(8)
    idle = index.place(prefix_key([1] * 21))
    index.extend(idle.seq_id, [1] * 21)
    index.rest(idle.seq_id)
    running = index.place(prefix_key([1] * 10 + [2] * 5))
    index.extend(running.seq_id, [2] * 5)
    assert index.n_idle_cells == 11
    assert ids(index.evict(100)) == [idle.seq_id]
    assert index.n_cells == 15
    assert index.evict(100) == []


def test_a_sequence_without_cells_is_not_kept() -> None:
    index = PrefixIndex(1)
    placed = index.place(prefix_key([1, 2]))
    assert index.rest(placed.seq_id) is False
    assert index.place(prefix_key([5])) == Placement(0)


@pytest.mark.parametrize("seed", range(20))
def test_a_thousand_random_operations_keep_index_and_cells_in_step(seed: int) -> None:
    draw = random.Random(seed)
    index = PrefixIndex(6)
    cells: dict[int, list[tuple[int, int]]] = {}  # sequence: (token, cell) for each position
    running: dict[int, list[int]] = {}  # sequence: tokens that wait
    next_cell = 0
    stems = [[draw.randrange(3) for _ in range(12)] for _ in range(3)]
    for _ in range(1000):
        action = draw.choice(["place", "extend", "rest", "rewind", "evict", "drop"])
        if action == "place":
            for seq_id in ids(index.evict(0, n_ids=1)):
                del cells[seq_id]
            if len(running) == 6:
                continue
            stem = draw.choice(stems)
            prompt = stem[: draw.randrange(1, 12)] + [draw.randrange(3) for _ in range(3)]
            longest = max(
                (common(prompt[:-1], [t for t, _ in held]) for held in cells.values()), default=0
            )
            assert index.n_shared(prefix_key(prompt)) == longest
            placed = index.place(prefix_key(prompt))
            assert placed.n_shared == longest
            if placed.source is not None:
                cells[placed.seq_id] = cells[placed.source][: placed.n_shared]
            cells.setdefault(placed.seq_id, [])
            assert [t for t, _ in cells[placed.seq_id]] == prompt[: placed.n_shared]
            running[placed.seq_id] = prompt[placed.n_shared :]
        elif action == "evict":
            for seq_id in ids(index.evict(draw.randrange(10))):
                assert seq_id not in running
                del cells[seq_id]
        elif running:
            seq_id = draw.choice(list(running))
            if action == "extend" and running[seq_id]:
                n = draw.randrange(1, len(running[seq_id]) + 1)
                fed, running[seq_id] = running[seq_id][:n], running[seq_id][n:]
                index.extend(seq_id, fed)
                cells[seq_id] += [(token, next_cell + i) for i, token in enumerate(fed)]
                next_cell += n
            elif action == "rewind":
                running[seq_id] = [t for t, _ in cells[seq_id]] + running[seq_id]
                cells[seq_id] = []
                index.rewind(seq_id)
            elif action == "rest":
                del running[seq_id]
                if not index.rest(seq_id):
                    assert cells.pop(seq_id) == []
            elif action == "drop":
                index.drop(seq_id)
                del running[seq_id], cells[seq_id]
        assert index.faults() == []
        assert index.n_cells == len({cell for held in cells.values() for _, cell in held})


def filled(index: PrefixIndex, tokens: list[int], *, idle: bool = True) -> int:
    """Give the index a sequence of `tokens`; return its id."""
    placed = index.place(prefix_key([*tokens, 0]))
    index.extend(placed.seq_id, tokens[placed.n_shared :])
    if idle:
        index.rest(placed.seq_id)
    return placed.seq_id


def test_with_own_cells_an_idle_sequence_is_cut_back_and_goes_on() -> None:
    index = PrefixIndex(2, sharing=Sharing.CUT)
    seq_id = filled(index, [1] * 20 + [2] * 20)
    assert index.place(prefix_key([1] * 20 + [3, 4])) == Placement(seq_id, 20)
    assert index.n_cells == 20
    assert index.faults() == []


def test_with_own_cells_a_running_sequence_lends_nothing() -> None:
    index = PrefixIndex(2, sharing=Sharing.CUT)
    filled(index, [1] * 20, idle=False)
    assert index.n_shared(prefix_key([1] * 20 + [3])) == 0
    assert index.place(prefix_key([1] * 20 + [3])) == Placement(1)


def test_with_own_cells_a_conversation_is_not_cut_for_a_few_tokens_while_one_is_empty() -> None:
    index = PrefixIndex(2, sharing=Sharing.CUT)
    filled(index, [1] * 100)
    assert index.place(prefix_key([1] * 2 + [9] * 98)) == Placement(1)
    index.rest(1)
    index = PrefixIndex(1, sharing=Sharing.CUT)
    filled(index, [1] * 100)
    assert index.place(prefix_key([1] * 2 + [9] * 98)) == Placement(0, 2)


def test_memory_that_cannot_be_cut_goes_on_only_where_it_ended() -> None:
    index = PrefixIndex(4, sharing=Sharing.WHOLE)
    seq_id = filled(index, [1, 2, 3, 4])
    assert index.n_shared(prefix_key([1, 2, 3, 9, 9])) == 0
    assert index.place(prefix_key([1, 2, 3, 4, 5])) == Placement(seq_id, 4)


def test_an_id_is_needed_only_when_the_prompt_cannot_go_on_in_an_idle_sequence() -> None:
    index = PrefixIndex(1, sharing=Sharing.WHOLE)
    filled(index, [1, 2, 3])
    assert not index.needs_id(prefix_key([1, 2, 3, 4]))
    assert index.needs_id(prefix_key([1, 2, 9]))


def test_a_shift_forgets_cells_and_hides_those_that_moved() -> None:
    index = PrefixIndex(4)
    seq_id = filled(index, list(range(100)), idle=False)
    assert index.shift(seq_id, 10, 45)
    assert index.n_cells == 55
    index.extend(seq_id, [7, 8])
    assert index.n_cells == 57
    assert index.n_shared(prefix_key(range(100))) == 10
    assert index.faults() == []
    assert index.rest(seq_id) is False
    assert index.n_cells == 0


def test_a_shift_moves_no_cell_that_another_sequence_holds() -> None:
    index = PrefixIndex(4)
    seq_id = filled(index, list(range(100)), idle=False)
    other = index.place(prefix_key(range(61)))
    assert index.shift(seq_id, 10, 45) is False
    assert index.n_cells == 60
    assert index.faults() == []
    index.extend(seq_id, list(range(55, 100)))
    index.drop(other.seq_id)
    assert index.n_cells == 55
    assert index.faults() == []


def test_what_was_brought_is_found_like_any_idle_sequence() -> None:
    index = PrefixIndex(4)
    seq_id = index.open()
    index.extend(seq_id, range(50))
    assert index.n_idle_cells == 0
    index.rest(seq_id)
    assert index.n_idle_cells == 50
    assert index.place(prefix_key(range(60))) == Placement(seq_id, 50)
    assert index.faults() == []


def test_faults_tells_of_a_count_that_is_off() -> None:
    index = PrefixIndex(4)
    seq_id = filled(index, [1, 2, 3])
    index._residents[seq_id].spans[0].n += 1
    assert len(index.faults()) == 3


@pytest.mark.parametrize("sharing", list(Sharing))
def test_random_lives_of_sequences_leave_no_fault(sharing: Sharing) -> None:
    draw = random.Random(3)
    index = PrefixIndex(5, sharing=sharing)
    running: dict[int, list[int]] = {}
    for _ in range(1500):
        action = draw.choice(["place", "extend", "rest", "rewind", "shift", "evict", "drop"])
        if action == "place" and len(running) < 5:
            prompt = [draw.randrange(2) for _ in range(draw.randrange(2, 30))]
            if index.needs_id(prefix_key(prompt)):
                index.evict(0, n_ids=1)
            placed = index.place(prefix_key(prompt))
            running[placed.seq_id] = prompt[placed.n_shared :]
        elif action == "evict":
            index.evict(draw.randrange(10))
        elif running:
            seq_id = draw.choice(list(running))
            resident = index._residents[seq_id]
            n_cells = resident.n_tokens + resident.n_hidden
            match action:
                case "extend":
                    index.extend(seq_id, running[seq_id] or [draw.randrange(2)])
                    running[seq_id] = []
                case "rest":
                    index.rest(seq_id)
                    del running[seq_id]
                case "rewind":
                    index.rewind(seq_id)
                case "shift" if n_cells > 4:
                    index.shift(seq_id, draw.randrange(2), 2)
                case "drop":
                    index.drop(seq_id)
                    del running[seq_id]
        assert index.faults() == []
        assert set(running) == {i for i, one in index._residents.items() if one.running}
