"""Many streams at once say what each says alone."""

from __future__ import annotations

import asyncio

import numpy as np
import openai
import pytest

from shimmy.llama import Batch, Context, ContextParams, Model
from shimmy.models.demo import demo_path
from tests.support.served import Served

STREAMS = 32
NEAR = 0.15
"""Logits closer than this count as a tie: batched kernels round differently."""

QUESTIONS = [
    *(f"What is {a} plus {b}?" for a in range(2, 6) for b in range(3, 7)),
    *(f"Which is bigger, {a} or {a + 4}?" for a in range(3, 9)),
    "What is shimmy?",
    "How do I start the server?",
    "Who are you?",
    "What day comes after Monday?",
    "What colour is the sky?",
    "What is the capital of France?",
    "What is the opposite of hot?",
    "Count from 1 to 5.",
    "Hello!",
    "Thank you!",
]


async def answer(client: openai.AsyncOpenAI, question: str) -> str:
    text = ""
    stream = await client.chat.completions.create(
        model="shimmy-demo",
        messages=[{"role": "user", "content": question}],
        temperature=0,
        max_tokens=64,
        stream=True,
    )
    async for chunk in stream:
        text += chunk.choices[0].delta.content or ""
    return text


def gap(question: str, alone: str, together: str) -> float:
    """Return how far apart the two best tokens are where the texts part, in logits."""
    common = 0
    while alone[common : common + 1] == together[common : common + 1]:
        common += 1
    prompt = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    with Model.load(demo_path()) as model:
        context = Context(model, ContextParams(n_ctx=512))
        tokens = model.vocab.tokenize(prompt, add_special=False, parse_special=True)
        shown = ""
        while True:
            context.memory.clear()
            context.decode(Batch.of(tokens))
            logits = context.logits()
            best, second = np.sort(logits)[-2:][::-1]
            piece = model.vocab.token_to_piece(int(logits.argmax())).decode("utf-8", "replace")
            shown += piece
            if len(shown) > common:
                return float(best - second)
            tokens.append(int(logits.argmax()))


async def test_32_streams_at_temperature_0_say_what_each_says_alone(served: Served) -> None:
    assert len(QUESTIONS) == STREAMS
    async with openai.AsyncOpenAI(base_url=served.url + "/v1", api_key="none") as client:
        alone = [await answer(client, question) for question in QUESTIONS]
        together = await asyncio.gather(*(answer(client, question) for question in QUESTIONS))
    different = [i for i in range(STREAMS) if alone[i] != together[i]]
    assert len(different) <= 1
    for i in different:
        assert gap(QUESTIONS[i], alone[i], together[i]) < NEAR


@pytest.mark.slow
async def test_128_requests_on_8_slots_are_all_answered(served: Served) -> None:
    async with openai.AsyncOpenAI(base_url=served.url + "/v1", api_key="none") as client:
        answers = await asyncio.gather(*(answer(client, QUESTIONS[i % 32]) for i in range(128)))
    assert all(answers)
