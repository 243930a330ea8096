"""What a model's store says about its requests, where they say nothing themselves."""

from __future__ import annotations

from typing import Any

import pytest

from shimmy.engine.types.prompt import ChatPrompt, Message, TextPrompt
from shimmy.engine.types.request import GenerateRequest
from shimmy.engine.types.sampling import MAX_SEED, SamplingParams
from shimmy.models.defaults import with_defaults

STORE: dict[str, Any] = {
    "temperature": 0.25,
    "top_k": 7,
    "top_p": 0.5,
    "min_p": 0.125,
    "typical_p": 0.75,
    "seed": 42,
    "stop": ["<end>", "<turn>"],
    "num_predict": 12,
    "num_keep": 3,
    "repeat_penalty": 1.5,
    "repeat_last_n": 32,
    "num_ctx": 4096,
}


def request(**fields: Any) -> GenerateRequest:
    return GenerateRequest(**{"prompt": TextPrompt("hi")} | fields)


def test_what_a_request_leaves_out_is_the_models() -> None:
    got = with_defaults(request(), STORE, None)
    assert got.sampling == SamplingParams(
        temperature=0.25,
        top_k=7,
        top_p=0.5,
        min_p=0.125,
        typ_p=0.75,
        seed=42,
        repeat_penalty=1.5,
        repeat_last_n=32,
    )
    assert (got.stop, got.max_tokens, got.n_keep) == (["<end>", "<turn>"], 12, 3)


def test_what_a_request_says_wins() -> None:
    sampling = SamplingParams(temperature=0.0, top_k=0, seed=MAX_SEED)
    got = with_defaults(
        request(sampling=sampling, stop=["x"], max_tokens=99, n_keep=1), STORE, None
    )
    assert (got.sampling.temperature, got.sampling.top_k, got.sampling.seed) == (0.0, 0, MAX_SEED)
    assert got.sampling.top_p == 0.5
    assert (got.stop, got.max_tokens, got.n_keep) == (["x"], 99, 1)


def test_an_endpoints_own_limit_gives_way() -> None:
    assert with_defaults(request(max_tokens=16), STORE, None, limited=False).max_tokens == 12
    endless = with_defaults(request(max_tokens=16), {"num_predict": -1}, None, limited=False)
    assert endless.max_tokens is None
    assert with_defaults(request(max_tokens=16), {}, None, limited=False).max_tokens == 16


@pytest.mark.parametrize(
    "parameters",
    [
        {"temperature": "warm"},
        {"temperature": -1},
        {"temperature": 1e999},
        {"top_k": 10**30},
        {"seed": -1},
        {"stop": [""]},
        {"stop": 5},
        {"num_predict": None},
        {"mirostat": 9, "nonsense": {"a": 1}},
        {"stop": ["x"] * 1000},
    ],
    ids=str,
)
def test_a_stores_nonsense_is_passed_over(parameters: dict[str, Any]) -> None:
    assert with_defaults(request(), parameters, None) == request()


def test_text_numbers_count_as_numbers() -> None:
    assert with_defaults(request(), {"top_k": "40"}, None).sampling.top_k == 40


def chat(*roles: str) -> GenerateRequest:
    return request(prompt=ChatPrompt(messages=[Message(role=r, content=r) for r in roles]))


def test_a_chat_without_a_system_message_gets_the_models() -> None:
    got = with_defaults(chat("user"), {}, "Be brief.")
    assert isinstance(got.prompt, ChatPrompt)
    assert [(m.role, m.content) for m in got.prompt.messages] == [
        ("system", "Be brief."),
        ("user", "user"),
    ]


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_chats_own_system_message_wins(role: str) -> None:
    assert with_defaults(chat(role, "user"), {}, "Be brief.") == chat(role, "user")


def test_a_raw_prompt_gets_no_system_message() -> None:
    assert with_defaults(request(), {}, "Be brief.") == request()
