"""Asks a running OpenAI-compatible server the fixed cases at temperature 0 and counts the right answers."""

from __future__ import annotations

import argparse
import json
import re
import sys
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CASES = Path(__file__).parent / "cases.json"
QUESTIONS_NEEDED, TOOLS_NEEDED = 18, 9
_TIMEOUT = 120


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the model made of one case."""

    kind: str
    question: str
    answer: str
    right: bool


def ask(
    url: str, model: str, messages: list[dict[str, Any]], tools: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the server's message for a chat request at temperature 0."""
    body: dict[str, Any] = {
        "model": model,
        "messages": messages,
        "temperature": 0,
        "max_tokens": 160,
    }
    if tools:
        body["tools"] = tools
    request = urllib.request.Request(
        f"{url.rstrip('/')}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
        message: dict[str, Any] = json.load(response)["choices"][0]["message"]
    return message


def run_question(url: str, model: str, case: dict[str, Any], system: str | None) -> Outcome:
    """Ask one question; right if the accepted pattern is found in the answer."""
    messages = [{"role": "user", "content": case["question"]}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    answer = ask(url, model, messages, [])["content"] or ""
    return Outcome("question", case["question"], answer, bool(re.search(case["accept"], answer)))


def run_tool(
    url: str, model: str, case: dict[str, Any], offered: dict[str, Any], system: str | None
) -> Outcome:
    """Ask for one tool call; right if it is the only call, with exactly the expected arguments."""
    tools = [{"type": "function", "function": offered[name]} for name in case["offered"]]
    messages = [{"role": "user", "content": case["question"]}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    message = ask(url, model, messages, tools)
    calls = [
        (call["function"]["name"], _arguments(call)) for call in message.get("tool_calls") or []
    ]
    said = ", ".join(f"{name}({json.dumps(arguments)})" for name, arguments in calls)
    right = calls == [(case["name"], case["arguments"])]
    return Outcome("tool", case["question"], said or str(message.get("content")), right)


def _arguments(call: dict[str, Any]) -> object:
    try:
        return json.loads(call["function"]["arguments"])
    except ValueError:
        return call["function"]["arguments"]


def main() -> int:
    """Read the command line, run the cases, print a table; 0 if enough were right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:11435")
    parser.add_argument("--model", default="shimmy-demo")
    parser.add_argument("--system", help="a system message before every question")
    parser.add_argument("--cases", type=Path, default=CASES)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    cases = json.loads(options.cases.read_text(encoding="utf-8"))
    url, model, system = options.url, options.model, options.system
    outcomes = [run_question(url, model, case, system) for case in cases["questions"]]
    outcomes += [run_tool(url, model, case, cases["offered"], system) for case in cases["tools"]]
    right = {
        kind: sum(o.right for o in outcomes if o.kind == kind) for kind in ("question", "tool")
    }
    if options.json:
        print(
            json.dumps(
                {"right": right, "cases": [asdict(outcome) for outcome in outcomes]}, indent=1
            )
        )
    else:
        for outcome in outcomes:
            print(f"{'ok ' if outcome.right else 'BAD'} {outcome.question:<48} {outcome.answer}")
        print(
            f"questions {right['question']}/{len(cases['questions'])}, tool calls {right['tool']}/{len(cases['tools'])}"
        )
    return 0 if right["question"] >= QUESTIONS_NEEDED and right["tool"] >= TOOLS_NEEDED else 1


if __name__ == "__main__":
    sys.exit(main())
