"""Log-probabilities of an answer and of a prompt, against a log-softmax of the context's own logits."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from shimmy.engine import Engine
from shimmy.engine.types.event import Delta, Finished, PromptScored, TokenLogprob
from shimmy.engine.types.options import EngineOptions
from shimmy.engine.types.prompt import TextPrompt, TokenPrompt
from shimmy.engine.types.request import GenerateRequest
from shimmy.engine.types.sampling import SamplingParams
from shimmy.errors import InvalidRequestError
from shimmy.llama import Batch, Context, ContextParams, Model

# a batch of another shape rounds differently; tests/llama/test_stepper.py compares the same logits
TOLERANCE = 0.02
PROMPT = [5 + (7 * i) % 200 for i in range(150)]


def request(**fields: object) -> GenerateRequest:
    sampling = SamplingParams(
        **({"temperature": 1.0, "seed": 3, "ignore_eos": True} | fields.pop("sampling", {}))
    )  # type: ignore[operator]
    return GenerateRequest(
        **({"prompt": TokenPrompt(PROMPT), "max_tokens": 6, "sampling": sampling} | fields)  # type: ignore[arg-type]
    )


async def events(engine: Engine, asked: GenerateRequest) -> list[object]:
    async with engine.generate(asked) as generation:
        return [event async for event in generation]


def logprobs_of(found: list[object]) -> list[TokenLogprob]:
    return [entry for event in found if isinstance(event, Delta) for entry in event.logprobs]


def reference(path: Path, tokens: list[int]) -> np.ndarray:
    """Rows of log-probabilities of what follows each token."""
    with (
        Model.load(path) as model,
        Context(model, ContextParams(n_ctx=512, n_threads=1)) as context,
    ):
        context.decode(Batch.of(tokens, all_logits=True))
        rows = np.stack([context.logits(i) for i in range(len(tokens))]).astype(np.float64)
    rows -= rows.max(axis=1, keepdims=True)
    return rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))


async def test_an_answers_logprobs_are_a_log_softmax_of_the_raw_logits(
    solo: Engine, tiny_gguf: Path
) -> None:
    found = logprobs_of(await events(solo, request(logprobs=5, sampling={"temperature": 1.5})))
    tokens = [entry.token for entry in found]
    assert len(tokens) == 6
    rows = reference(tiny_gguf, PROMPT + tokens)[len(PROMPT) - 1 :]
    for entry, row in zip(found, rows, strict=False):
        assert entry.logprob == pytest.approx(row[entry.token], abs=TOLERANCE)
        order = np.argsort(-row)[:5]
        assert [other.logprob for other in entry.top] == pytest.approx(row[order], abs=TOLERANCE)
        assert [other.logprob for other in entry.top] == sorted(
            (other.logprob for other in entry.top), reverse=True
        )


async def test_penalties_and_biases_do_not_change_what_is_told(solo: Engine) -> None:
    (x,) = await solo.tokenize("x")
    biased = {"logit_bias": {x: 100.0}, "temperature": 0.0}
    plain = logprobs_of(await events(solo, request(logprobs=3, max_tokens=1)))
    told = logprobs_of(await events(solo, request(logprobs=3, max_tokens=1, sampling=biased)))
    assert told[0].token == x
    assert told[0].text == b"x"
    assert told[0].logprob is not None
    assert told[0].logprob < -1
    assert [other.token for other in told[0].top] == [other.token for other in plain[0].top]


async def test_min_tokens_leave_the_end_tokens_probability_alone(solo: Engine) -> None:
    free, held = [
        logprobs_of(
            await events(
                solo,
                request(
                    logprobs=100,
                    max_tokens=1,
                    min_tokens=least,
                    sampling={"ignore_eos": False, "temperature": 0.0},
                ),
            )
        )
        for least in (0, 1)
    ]
    assert free[0].top[0].token == held[0].top[0].token
    ends = [[c.logprob for c in one[0].top if c.text == b"<|im_end|>"] for one in (free, held)]
    assert ends[1] == pytest.approx(ends[0], abs=TOLERANCE)


async def test_each_token_has_its_bytes_and_a_delta_even_without_text(solo: Engine) -> None:
    asked = request(
        prompt=TextPrompt("x"),
        logprobs=0,
        max_tokens=50,
        sampling={"grammar": 'root ::= "a😀b"', "ignore_eos": False},
    )
    found = await events(solo, asked)
    deltas = [event for event in found if isinstance(event, Delta)]
    end = found[-1]
    assert isinstance(end, Finished)
    entries = logprobs_of(found)
    assert b"".join(entry.text for entry in entries) == "a😀b".encode()
    assert "".join(delta.text for delta in deltas) == "a😀b"
    assert len(entries) == end.usage.completion_tokens - 1  # all but the end token
    assert all(len(delta.logprobs) == 1 for delta in deltas)
    assert all(entry.top == [] for entry in entries)


async def test_without_being_asked_nothing_is_told(solo: Engine) -> None:
    found = await events(solo, request())
    assert logprobs_of(found) == []
    assert not any(isinstance(event, PromptScored) for event in found)


@pytest.mark.parametrize("n_batch", [2048, 40])
async def test_a_prompts_logprobs_are_a_log_softmax_of_the_raw_logits(
    options: EngineOptions, tiny_gguf: Path, n_batch: int
) -> None:
    small = msgspec.structs.replace(options, n_batch=n_batch)
    async with Engine.solo(small) as engine:
        found = await events(engine, request(prompt_logprobs=2, max_tokens=2))
    scored = [event for event in found if isinstance(event, PromptScored)]
    assert len(scored) == 1
    assert found.index(scored[0]) < next(i for i, e in enumerate(found) if isinstance(e, Delta))
    entries = scored[0].logprobs
    assert [entry.token for entry in entries] == PROMPT
    assert entries[0].logprob is None
    rows = reference(tiny_gguf, PROMPT)
    for i, entry in enumerate(entries[1:]):
        assert entry.logprob == pytest.approx(rows[i][entry.token], abs=TOLERANCE)
        assert [other.logprob for other in entry.top] == pytest.approx(
            np.sort(rows[i])[::-1][:2], abs=TOLERANCE
        )


async def test_a_prompt_is_scored_without_generating_anything(solo: Engine) -> None:
    found = await events(solo, request(prompt_logprobs=0, max_tokens=0))
    scored, end = found[-2:]
    assert isinstance(scored, PromptScored)
    assert isinstance(end, Finished)
    assert len(scored.logprobs) == len(PROMPT)
    assert (end.reason, end.usage.completion_tokens) == ("length", 0)


async def test_a_cached_prompt_is_scored_all_the_same(solo: Engine) -> None:
    await events(solo, request())
    found = await events(solo, request(prompt_logprobs=0))
    scored = next(event for event in found if isinstance(event, PromptScored))
    assert len(scored.logprobs) == len(PROMPT)
    end = found[-1]
    assert isinstance(end, Finished)
    assert end.usage.cached_tokens == 0


async def test_a_prompt_of_one_token_has_a_score_of_none(solo: Engine) -> None:
    found = await events(solo, request(prompt=TokenPrompt([7]), prompt_logprobs=1))
    scored = next(event for event in found if isinstance(event, PromptScored))
    assert [(entry.token, entry.logprob) for entry in scored.logprobs] == [(7, None)]


async def test_scored_prompts_run_beside_others(solo: Engine) -> None:
    import asyncio

    prompts = [TokenPrompt([(i * 13 + k) % 200 + 5 for k in range(200)]) for i in range(4)]
    answers = await asyncio.gather(
        *(events(solo, request(prompt=prompt, prompt_logprobs=1, n=2)) for prompt in prompts)
    )
    for prompt, found in zip(prompts, answers, strict=True):
        scored = [event for event in found if isinstance(event, PromptScored)]
        assert [entry.token for entry in scored[0].logprobs] == prompt.tokens
        assert len(scored) == 1
        assert sum(isinstance(event, Finished) for event in found) == 2


@pytest.mark.parametrize("field", ["logprobs", "prompt_logprobs"])
@pytest.mark.parametrize("value", [-1, 101])
async def test_a_number_of_logprobs_that_cannot_be_names_its_field(
    solo: Engine, field: str, value: int
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await events(solo, request(**{field: value}))
    assert caught.value.param == field


async def test_more_scores_than_an_answer_holds_are_refused(
    options: EngineOptions,
) -> None:
    large = msgspec.structs.replace(options, n_ctx=16384, n_parallel=1)
    async with Engine.solo(large) as engine:
        n_ctx = (await engine.ready()).n_ctx_row
        asked = request(prompt=TokenPrompt([5] * (n_ctx - 1)), prompt_logprobs=100, max_tokens=0)
        if n_ctx * 101 > 1_000_000:
            with pytest.raises(InvalidRequestError) as caught:
                await events(engine, asked)
            assert caught.value.param == "prompt_logprobs"
