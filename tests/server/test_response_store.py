"""What is kept of responses, and for how long."""

from __future__ import annotations

import pytest

from shimmy.server.dialects.responses.items import ContentPart, Item
from shimmy.server.response_store import ResponseStore


def response(name: str, text: str = "Hello") -> dict:
    content = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
    item = {"id": f"msg_{name}", "type": "message", "role": "assistant", "content": content}
    return {"id": name, "output": [item]}


def question(words: str = "Hi") -> Item:
    content = [ContentPart(type="input_text", text=words)]
    return Item(id="in_1", type="message", role="user", content=content)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_response_is_found_with_its_context_and_its_items():
    store = ResponseStore()
    store.add(response("a"), [question()])
    assert store.get("a").response == response("a")
    assert [item.id for item in store.context("a")] == ["in_1", "msg_a"]
    assert store.item("msg_a").content[0].text == "Hello"


def test_what_is_not_there_is_none():
    store = ResponseStore()
    assert (store.get("a"), store.context("a"), store.item("a")) == (None, None, None)
    assert store.delete("a") is False


def test_a_deleted_response_is_gone_with_its_items():
    store = ResponseStore()
    store.add(response("a"), [])
    assert store.delete("a") is True
    assert (store.get("a"), store.item("msg_a"), store.n_bytes) == (None, None, 0)


def test_it_is_bounded_by_count_and_the_oldest_go_first():
    store = ResponseStore(max_count=2)
    for name in "abc":
        store.add(response(name), [])
    assert len(store) == 2
    assert store.get("a") is None
    assert store.item("msg_a") is None
    assert store.get("c") is not None


def test_it_is_bounded_by_bytes_of_all_that_was_read_and_said():
    store = ResponseStore(max_bytes=5000)
    for i in range(20):
        store.add(response(str(i)), [question("x" * 1000)])
        assert store.n_bytes <= 5000
    assert 1 <= len(store) <= 4
    assert store.get("19") is not None


def test_one_that_is_too_large_by_itself_drives_no_other_out():
    store = ResponseStore(max_bytes=2000)
    store.add(response("a"), [])
    store.add(response("b", "x" * 3000), [])
    assert store.get("a") is not None
    assert store.get("b") is None


def test_it_is_bounded_by_age():
    clock = Clock()
    store = ResponseStore(max_age=10, clock=clock)
    store.add(response("a"), [])
    clock.now = 6.0
    store.add(response("b"), [])
    clock.now = 11.0
    assert store.get("a") is None
    assert store.item("msg_a") is None
    assert store.get("b") is not None
    clock.now = 100.0
    assert len(store) == 0
    assert store.n_bytes == 0


@pytest.mark.parametrize("ask", [lambda s: s.context("a"), lambda s: s.delete("a")])
def test_what_is_too_old_is_gone_whoever_asks(ask):
    clock = Clock()
    store = ResponseStore(max_age=10, clock=clock)
    store.add(response("a"), [])
    clock.now = 11.0
    assert not ask(store)
