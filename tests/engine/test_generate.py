"""What a request gets, on the real engine with a tiny model in this process."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import pytest

from shimmy.engine import Engine
from shimmy.engine.types.options import EngineOptions
from shimmy.engine.types.prompt import TokenPrompt
from shimmy.errors import ContextLengthError, InvalidRequestError, OverloadedError
from tests.engine.ask import PROMPT, ask, chat, request
from tests.support.tiny_gguf import token_id


async def test_a_request_gets_text_exact_counts_and_timings(solo: Engine) -> None:
    answer = await ask(solo, max_tokens=16, ignore_eos=True)
    n_prompt = len(await solo.tokenize(PROMPT))
    assert answer.accepted is not None
    assert answer.accepted.prompt_tokens == n_prompt
    assert answer.end.reason == "length"
    assert answer.end.usage.prompt_tokens == n_prompt
    assert answer.end.usage.completion_tokens == 16
    assert answer.end.timings.prompt_ms > 0
    assert answer.end.timings.predicted_ms > 0


async def test_the_same_seed_gives_the_same_text_and_another_seed_another(solo: Engine) -> None:
    first, again, other = [
        (await ask(solo, temperature=1.0, seed=seed, max_tokens=24)).text for seed in (7, 7, 8)
    ]
    assert first == again
    assert first != other


async def test_without_a_seed_each_sampled_text_is_its_own(solo: Engine) -> None:
    texts = {(await ask(solo, temperature=1.5, max_tokens=24)).text for _ in range(3)}
    assert len(texts) == 3


async def test_a_seeded_text_does_not_depend_on_who_else_runs(solo: Engine) -> None:
    alone = await ask(solo, temperature=1.0, seed=3, max_tokens=12)
    together = await asyncio.gather(
        *(ask(solo, temperature=1.0, seed=3, max_tokens=12) for _ in range(4))
    )
    # the tiny model's logits are flat, so one batched row in four may round to another token
    assert sum(answer.text == alone.text for answer in together) >= 3


async def test_characters_of_several_tokens_arrive_whole(solo: Engine) -> None:
    text = "naïve 日本語 😀!"
    answer = await ask(solo, grammar=f'root ::= "{text}"', max_tokens=100)
    assert answer.text == text
    assert all("�" not in delta for delta in answer.deltas)
    assert answer.end.reason == "stop"


async def test_a_character_cut_off_by_the_limit_is_dropped(solo: Engine) -> None:
    answer = await ask(solo, grammar='root ::= "a😀"', max_tokens=3)
    assert answer.text == "a"
    assert answer.end.usage.completion_tokens == 3


async def test_a_stop_string_across_tokens_ends_the_text_before_it(solo: Engine) -> None:
    answer = await ask(
        solo, grammar='root ::= "hello STOPPED world"', stop=["nope", "STOP"], max_tokens=100
    )
    assert answer.text == "hello "
    assert answer.end.reason == "stop"
    assert answer.end.stop == "STOP"


async def test_the_earliest_of_several_stop_strings_wins(solo: Engine) -> None:
    answer = await ask(solo, grammar='root ::= "one two three"', stop=["three", "two"])
    assert answer.text == "one "
    assert answer.end.stop == "two"


async def test_text_that_only_began_like_a_stop_string_is_shown(solo: Engine) -> None:
    answer = await ask(solo, grammar='root ::= "a STO, a STOOP"', stop=["STOP"], max_tokens=100)
    assert answer.text == "a STO, a STOOP"
    assert answer.end.stop is None


async def test_text_held_back_for_a_stop_string_is_flushed_at_the_length_limit(
    solo: Engine,
) -> None:
    answer = await ask(solo, grammar='root ::= "xxSTOP"', stop=["STOP"], max_tokens=5)
    assert answer.end.reason == "length"
    assert answer.text == "xxSTO"


async def test_an_end_token_stops_and_is_counted(solo: Engine) -> None:
    answer = await ask(solo, logit_bias={token_id("<|im_end|>"): 1000.0})
    assert answer.text == ""
    assert answer.end.reason == "stop"
    assert answer.end.usage.completion_tokens == 1


async def test_ignore_eos_keeps_going(solo: Engine) -> None:
    bias = {token_id("<|im_end|>"): 50.0}
    answer = await ask(solo, logit_bias=bias, ignore_eos=True, max_tokens=8)
    assert answer.end.reason == "length"
    assert answer.end.usage.completion_tokens == 8


async def test_a_logit_bias_of_minus_infinity_bans_a_token(solo: Engine) -> None:
    (token,) = await solo.tokenize("x")
    forced = await ask(solo, logit_bias={token: 1000.0}, max_tokens=4)
    assert forced.text == "xxxx"
    banned = await ask(solo, logit_bias={token: -math.inf}, max_tokens=32)
    assert "x" not in banned.text


async def test_a_logit_bias_outside_of_the_vocabulary_is_refused(solo: Engine) -> None:
    with pytest.raises(InvalidRequestError, match="not in the vocabulary"):
        await ask(solo, logit_bias={10_000_000: 1.0})


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 0.7, "top_p": 0.9, "seed": 1},
        {"temperature": 1.0, "top_k": 5, "seed": 1},
        {"temperature": 1.0, "min_p": 0.2, "seed": 1},
        {"temperature": 1.0, "typ_p": 0.5, "seed": 1},
        {"temperature": 1.0, "top_n_sigma": 1.0, "seed": 1},
        {"temperature": 1.0, "xtc_probability": 0.9, "xtc_threshold": 0.05, "seed": 1},
        {"temperature": 1.0, "dynatemp_range": 0.5, "dynatemp_exponent": 2.0, "seed": 1},
        {"repeat_penalty": 1.5, "repeat_last_n": 8},
        {"presence_penalty": 1.0, "frequency_penalty": 0.5, "repeat_last_n": -1},
        {"dry_multiplier": 1.0, "dry_penalty_last_n": -1, "dry_sequence_breakers": ["\n", "x"]},
        {"mirostat": 1, "mirostat_tau": 3.0, "seed": 1, "temperature": 1.0},
        {"mirostat": 2, "mirostat_eta": 0.2, "seed": 1, "temperature": 1.0},
        {"samplers": ["adaptive_p"], "adaptive_target": 0.5, "seed": 1, "temperature": 1.0},
        {"samplers": ["top_k", "temperature"], "min_keep": 2, "seed": 1, "temperature": 1.0},
    ],
    ids=lambda sampling: next(iter(sampling.keys() - {"temperature", "seed"}), "plain"),
)
async def test_every_sampler_runs_and_is_repeatable(solo: Engine, sampling: dict[str, Any]) -> None:
    first = await ask(solo, max_tokens=12, ignore_eos=True, **sampling)
    again = await ask(solo, max_tokens=12, ignore_eos=True, **sampling)
    assert first.end.usage.completion_tokens == 12
    assert first.text == again.text


async def test_a_repeat_penalty_changes_a_repeating_text(solo: Engine) -> None:
    plain = await ask(solo, max_tokens=32)
    penalised = await ask(solo, max_tokens=32, presence_penalty=100.0, repeat_last_n=-1)
    assert plain.text != penalised.text


async def test_a_prompt_longer_than_n_batch_is_taken_in(options: EngineOptions) -> None:
    import msgspec

    small = msgspec.structs.replace(options, n_batch=32, n_ubatch=16)
    prompt = " ".join(["the fox and the dog"] * 40)
    async with Engine.solo(options) as engine:
        expected = await ask(engine, prompt, max_tokens=8, ignore_eos=True)
    async with Engine.solo(small) as engine:
        answer = await ask(engine, prompt, max_tokens=8, ignore_eos=True)
    assert answer.end.usage.prompt_tokens > 32
    assert answer.end.usage.completion_tokens == expected.end.usage.completion_tokens == 8


async def test_a_prompt_longer_than_the_context_is_refused_before_decoding(solo: Engine) -> None:
    prompt = TokenPrompt([5] * 3000)
    with pytest.raises(ContextLengthError) as caught:
        await ask(solo, prompt)
    assert caught.value.n_prompt_tokens == 3000
    assert caught.value.n_ctx == 2048
    assert (await ask(solo, max_tokens=2, ignore_eos=True)).end.usage.completion_tokens == 2


async def test_the_end_of_the_context_is_a_length_stop(solo: Engine) -> None:
    answer = await ask(solo, TokenPrompt([5] * 2040), max_tokens=None, ignore_eos=True)
    assert answer.end.reason == "length"
    assert answer.end.usage.completion_tokens == 8


async def test_max_tokens_of_0_counts_the_prompt_and_generates_nothing(solo: Engine) -> None:
    answer = await ask(solo, max_tokens=0)
    assert answer.text == ""
    assert answer.end.reason == "length"
    assert answer.end.usage.completion_tokens == 0


async def test_a_token_outside_of_the_vocabulary_is_refused(solo: Engine) -> None:
    with pytest.raises(InvalidRequestError, match="not in the vocabulary"):
        await ask(solo, TokenPrompt([1, 999_999]))


async def test_a_grammar_that_does_not_parse_is_the_callers_fault(solo: Engine) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await ask(solo, grammar="root ::= (")
    assert caught.value.param == "grammar"


async def test_an_unsupported_grammar_language_is_refused_and_does_not_abort(solo: Engine) -> None:
    with pytest.raises(InvalidRequestError, match="llguidance"):
        await ask(solo, grammar="%llguidance {}")


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", -1.0), ("top_p", 1.5), ("seed", -1), ("repeat_penalty", 0.0), ("mirostat", 3)],
)
async def test_a_value_out_of_range_names_its_field(solo: Engine, field: str, value: float) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        solo.generate(request(**{field: value}))
    assert caught.value.param == field


async def test_an_empty_stop_string_is_refused(solo: Engine) -> None:
    with pytest.raises(InvalidRequestError, match="stop"):
        solo.generate(request(stop=[""]))


async def test_a_conversation_is_rendered_with_the_models_template(solo: Engine) -> None:
    answer = await ask(solo, chat("hi"), max_tokens=4)
    rendered = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert answer.end.usage.prompt_tokens == len(await solo.tokenize(rendered))


async def test_a_template_that_refuses_the_conversation_is_the_callers_fault(
    options: EngineOptions,
) -> None:
    import msgspec

    source = "{{ raise_exception('no such role') }}"
    strict = msgspec.structs.replace(options, chat_template=source)
    async with Engine.solo(strict) as engine:
        with pytest.raises(InvalidRequestError, match="no such role") as caught:
            await ask(engine, chat("hi"))
    assert caught.value.param == "messages"


async def test_a_json_schema_constrains_the_answer(solo: Engine) -> None:
    schema = {
        "type": "object",
        "properties": {"animal": {"enum": ["fox", "dog"]}, "sure": {"type": "boolean"}},
        "required": ["animal", "sure"],
        "additionalProperties": False,
    }
    answer = await ask(solo, chat("which?", json_schema=schema), max_tokens=200)
    assert answer.end.reason == "stop"
    assert json.loads(answer.text)["animal"] in ("fox", "dog")


async def test_more_requests_than_slots_are_all_answered(solo: Engine) -> None:
    answers = await asyncio.gather(
        *(ask(solo, f"number {i}", max_tokens=8, ignore_eos=True) for i in range(32))
    )
    assert all(answer.end.usage.completion_tokens == 8 for answer in answers)


async def test_when_the_cells_run_out_rows_pause_and_still_finish(options: EngineOptions) -> None:
    import msgspec

    tight = msgspec.structs.replace(options, n_ctx=256)
    async with Engine.solo(tight) as engine:
        answers = await asyncio.gather(
            *(
                ask(engine, TokenPrompt([i + 5] * 60), max_tokens=100, ignore_eos=True)
                for i in range(4)
            )
        )
    assert all(answer.end.usage.completion_tokens == 100 for answer in answers)


async def test_a_full_queue_refuses_more_requests_and_those_in_it_are_answered(
    options: EngineOptions,
) -> None:
    import msgspec

    small = msgspec.structs.replace(options, n_parallel=1, max_queue=2)
    async with Engine.solo(small) as engine:
        outcomes = await asyncio.gather(
            *(ask(engine, f"number {i}", max_tokens=64, ignore_eos=True) for i in range(12)),
            return_exceptions=True,
        )
    refused = [outcome for outcome in outcomes if isinstance(outcome, OverloadedError)]
    answered = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert len(refused) + len(answered) == 12
    assert len(refused) >= 5
    assert len(answered) >= 3
    assert all(answer.end.usage.completion_tokens == 64 for answer in answered)
