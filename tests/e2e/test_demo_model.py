"""The built-in model keeps the promise of its card: 18 of 20 answers, 9 of 10 tool calls."""

from __future__ import annotations

import json
import re
from pathlib import Path

import openai

from shimmy.models.demo import demo_path

CASES = json.loads((Path(__file__).parents[2] / "training" / "cases.json").read_text())


def test_the_file_is_at_most_4_megabytes() -> None:
    assert demo_path().stat().st_size <= 4_000_000


def test_it_answers_at_least_18_of_20_questions(client: openai.OpenAI) -> None:
    wrong = {}
    for case in CASES["questions"]:
        answer = client.chat.completions.create(
            model="shimmy-demo",
            messages=[{"role": "user", "content": case["question"]}],
            temperature=0,
            max_tokens=96,
        )
        text = answer.choices[0].message.content or ""
        if not re.search(case["accept"], text):
            wrong[case["question"]] = text
    assert len(CASES["questions"]) == 20
    assert len(wrong) <= 2, wrong


def test_it_calls_the_right_tool_in_at_least_9_of_10_cases(client: openai.OpenAI) -> None:
    wrong = {}
    for case in CASES["tools"]:
        tools = [
            {"type": "function", "function": CASES["offered"][name]} for name in case["offered"]
        ]
        answer = client.chat.completions.create(
            model="shimmy-demo",
            messages=[{"role": "user", "content": case["question"]}],
            tools=tools,
            temperature=0,
            max_tokens=96,
        )
        calls = [
            (call.function.name, json.loads(call.function.arguments))
            for call in answer.choices[0].message.tool_calls or []
        ]
        if calls != [(case["name"], case["arguments"])]:
            wrong[case["question"]] = calls or answer.choices[0].message.content
    assert len(CASES["tools"]) == 10
    assert len(wrong) <= 1, wrong
