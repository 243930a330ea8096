"""lm-evaluation-harness 0.4.13 against a real server: the bodies it sends, and its reading of the answers.

Seen with `--model local-completions` (token ids and texts, batches) and `local-chat-completions`.
"""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest

from tests.support.served import Served

SEED = 1234
PAIRS = [
    ("The capital of France is", " Paris"),
    ("The capital of France is", " Berlin"),
    ("Two plus two is", " nine"),
    ("The sky is", " blue and wide"),
]


def likelihoods(served: Served, prompt: Any) -> dict[str, Any]:
    """Send what a loglikelihood request is to the harness."""
    body = {
        "model": "shimmy-demo",
        "prompt": prompt,
        "temperature": 0,
        "max_tokens": 1,
        "logprobs": 1,
        "seed": SEED,
        "echo": True,
    }
    status, answer = served.post("/v1/completions", body)
    assert status == 200, answer
    return dict(answer)


def streamed(served: Served, prompt: str) -> list[dict[str, Any]]:
    """Return the choices of a stream's chunks."""
    body = {"prompt": prompt, "max_tokens": 1, "logprobs": 1, "echo": True, "temperature": 0}
    data = json.dumps({**body, "stream": True}).encode()
    with urllib.request.urlopen(served.url + "/v1/completions", data, timeout=60) as answer:
        lines = [line for line in answer.read().decode().split("\n") if line.startswith("data: {")]
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines]
    return [choice for chunk in chunks for choice in chunk["choices"]]


def read(answer: dict[str, Any], n_contexts: list[int]) -> list[tuple[float, bool]]:
    """Return (log-likelihood, whether it is the greedy answer) of each continuation, as the harness does."""
    found = []
    choices = sorted(answer["choices"], key=lambda choice: choice["index"])
    for choice, n_context in zip(choices, n_contexts, strict=True):
        scores = choice["logprobs"]["token_logprobs"][n_context:-1]
        tops = choice["logprobs"]["top_logprobs"][n_context:-1]
        greedy = all(score == max(top.values()) for score, top in zip(scores, tops, strict=True))
        found.append((sum(scores), greedy))
    return found


@pytest.fixture
def tokenized(served: Served) -> list[tuple[list[int], int]]:
    """Each pair's tokens, and how many of them are the context's."""

    def tokens(text: str) -> list[int]:
        return list(served.post("/tokenize", {"content": text})[1]["tokens"])

    return [(tokens(a) + tokens(b), len(tokens(a))) for a, b in PAIRS]


def test_a_batch_of_token_ids_is_scored_as_each_alone(
    served: Served, tokenized: list[tuple[list[int], int]]
) -> None:
    n_contexts = [n for _, n in tokenized]
    together = read(likelihoods(served, [ids for ids, _ in tokenized]), n_contexts)
    alone = [read(likelihoods(served, [ids]), [n])[0] for ids, n in tokenized]
    for (a, is_greedy), (b, alone_greedy) in zip(together, alone, strict=True):
        assert a == pytest.approx(b, abs=0.05)
        assert is_greedy == alone_greedy
    assert together[0][0] > together[1][0], "Paris is likelier than Berlin"


def test_texts_are_scored_as_their_tokens(
    served: Served, tokenized: list[tuple[list[int], int]]
) -> None:
    n_contexts = [n for _, n in tokenized]
    by_tokens = read(likelihoods(served, [ids for ids, _ in tokenized]), n_contexts)
    by_texts = read(likelihoods(served, [a + b for a, b in PAIRS]), n_contexts)
    assert [score for score, _ in by_texts] == pytest.approx(
        [score for score, _ in by_tokens], abs=0.05
    )


def test_a_rolling_window_begins_with_the_end_token(served: Served) -> None:
    (end,) = served.post("/tokenize", {"content": "<|endoftext|>"})[1]["tokens"]
    text = served.post("/tokenize", {"content": "Shimmy is a small server."})[1]["tokens"]
    (choice,) = likelihoods(served, [[end, *text]])["choices"]
    scores = choice["logprobs"]["token_logprobs"]
    assert len(scores) == len(text) + 2
    assert scores[0] is None
    assert all(score <= 0 for score in scores[1:])


@pytest.mark.parametrize("stream", [False, True])
def test_the_last_word_is_scored_where_the_model_would_end(served: Served, stream: bool) -> None:
    """The harness cuts the generated token off; an end token that is not there would cost a word."""
    context = "<|im_start|>user\nWhat is shimmy?<|im_end|>\n<|im_start|>assistant\n"
    body = {"prompt": context, "max_tokens": 200, "temperature": 0}
    said = served.post("/v1/completions", body)[1]["choices"][0]
    assert said["finish_reason"] == "stop"
    text = context + said["text"]
    n_tokens = len(served.post("/tokenize", {"content": text})[1]["tokens"])
    if stream:
        lists = [choice["logprobs"] for choice in streamed(served, text) if choice["logprobs"]]
        tokens = [token for one in lists for token in one["tokens"]]
    else:
        tokens = likelihoods(served, text)["choices"][0]["logprobs"]["tokens"]
    assert len(tokens) == n_tokens + 1
    assert tokens[-1] == "<|im_end|>"


@pytest.mark.parametrize("prompt", [["What is shimmy?"], None], ids=["text", "tokens"])
def test_generate_until(served: Served, prompt: list[str] | None) -> None:
    if prompt is None:
        ids = served.post("/tokenize", {"content": "What is shimmy?"})[1]["tokens"]
    body = {
        "prompt": prompt or [ids],
        "model": "shimmy-demo",
        "max_tokens": 32,
        "temperature": 0,
        "stop": ["\n", "<|im_end|>"],
        "seed": SEED,
    }
    status, answer = served.post("/v1/completions", body)
    assert status == 200, answer
    assert "\n" not in answer["choices"][0]["text"]


def test_chat_generate_until(served: Served) -> None:
    body = {
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "model": "shimmy-demo",
        "max_tokens": 32,
        "temperature": 0,
        "stop": ["\n"],
        "seed": SEED,
    }
    status, answer = served.post("/v1/chat/completions", body)
    assert status == 200, answer
    assert "Paris" in answer["choices"][0]["message"]["content"]
