"""Thinking through /v1/messages and /v1/responses: a random model, and a template that opens <think>."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anthropic
import openai
import pytest

from tests.support.served import Served, serve
from tests.support.tiny_gguf import write_model

TEMPLATE = Path(__file__).parents[1] / "support" / "templates" / "deepseek-r1.jinja"
ASK = {
    "model": "thinker",
    "max_tokens": 40,
    "messages": [{"role": "user", "content": "Hi"}],
    # a prompt from the cache rounds differently, and random weights make near-ties
    "extra_body": {"temperature": 1, "seed": 3, "cache_prompt": False},
}
BUDGET = {"type": "enabled", "budget_tokens": 8}


def _serve(home: Path) -> Iterator[Served]:
    model = write_model(home / "thinker.gguf")
    with serve(home, "--model-path", str(model), "--chat-template", str(TEMPLATE)) as server:
        yield server


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from _serve(tmp_path_factory.mktemp("thinker"))


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[anthropic.Anthropic]:
    """A client of a server that nobody else has used: what lies in its cells moves near-ties."""
    for server in _serve(tmp_path):
        with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as client:
            yield client


@pytest.fixture
def claude(thinker: Served) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=thinker.url, api_key="none", max_retries=0) as client:
        yield client


def test_a_budget_ends_the_thinking_block_and_text_follows(claude):
    message = claude.messages.create(**ASK, thinking=BUDGET)
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert 0 < message.usage.output_tokens_details.thinking_tokens <= 8
    assert message.content[0].signature
    assert message.content[1].text


def test_streaming_equals_non_streaming(alone):
    whole = alone.messages.create(**ASK, thinking=BUDGET)
    with alone.messages.stream(**ASK, thinking=BUDGET) as stream:
        final = stream.get_final_message()
    assert [block.to_dict() for block in final.content] == [
        block.to_dict() for block in whole.content
    ]
    assert final.stop_reason == whole.stop_reason


@pytest.mark.parametrize("thinking", [{}, {"thinking": {"type": "disabled"}}])
def test_a_model_that_always_thinks_does_not_where_it_is_not_asked_to(claude, thinking):
    message = claude.messages.create(**ASK, **thinking)
    assert [block.type for block in message.content] == ["text"]


def test_adaptive_thinking_has_no_limit_but_max_tokens(claude):
    message = claude.messages.create(**ASK, thinking={"type": "adaptive"})
    assert [block.type for block in message.content] == ["thinking"]
    assert message.stop_reason == "max_tokens"


def test_responses_have_a_reasoning_item_that_can_be_sent_back(thinker):
    ask = {"model": "thinker", "temperature": 1, "extra_body": {"seed": 3}}
    with openai.OpenAI(base_url=thinker.url + "/v1", api_key="x", max_retries=0) as client:
        fields = {"include": ["reasoning.encrypted_content"], "max_output_tokens": 20}
        whole = client.responses.create(**ask, **fields, input="Hi")
        (item,) = whole.output
        assert (item.type, item.status) == ("reasoning", "incomplete")
        assert whole.usage.output_tokens_details.reasoning_tokens == 20
        with client.responses.stream(**ask, **fields, input="Hi") as stream:
            deltas = [e.delta for e in stream if e.type == "response.reasoning_text.delta"]
        assert "".join(deltas) == item.content[0].text
        sealed = {"type": "reasoning", "id": item.id, "summary": []}
        sealed["encrypted_content"] = item.encrypted_content
        again = [{"role": "user", "content": "Hi"}, sealed, {"role": "user", "content": "And?"}]
        assert client.responses.create(**ask, max_output_tokens=4, input=again).output
