"""Runs requests against a target at given concurrencies. Knows no model and no network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from shimmy.cli.bench.figures import Level, Round, Sample
from shimmy.errors import ShimmyError

Prompt = TypeVar("Prompt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is asked for: sizes in tokens, and how often.

    Each prompt has `prompt_tokens` of its own, after `shared_prefix` that it shares with those
    sent at the same time. Every level is run `warmup` times before the `repeats` that count.
    """

    concurrency: tuple[int, ...]
    prompt_tokens: int
    shared_prefix: int
    max_tokens: int
    temperature: float
    repeats: int
    warmup: int

    @property
    def n_rounds(self) -> int:
        """Rounds at all levels, those of the warm-up included."""
        return len(self.concurrency) * (self.warmup + self.repeats)

    @property
    def n_cells(self) -> int:
        """KV cells that the largest round fills."""
        row = self.shared_prefix + self.prompt_tokens + self.max_tokens
        return row * max(self.concurrency)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What was measured: one line for people, facts for machines, and how to read the figures."""

    line: str
    caption: str
    facts: dict[str, object] = field(default_factory=dict)


class Target(Protocol[Prompt]):
    """Something that answers prompts, in a form of its own."""

    @property
    def subject(self) -> Subject:
        """What is measured."""

    async def prompts(self, count: int) -> list[Prompt]:
        """Return prompts for one round: they share the plan's prefix, and nothing else."""

    async def ask(self, prompt: Prompt) -> Sample:
        """Send one request and read its answer to the end; raises `ShimmyError`."""


async def run(target: Target[Prompt], plan: Plan, tick: Callable[[], None]) -> list[Level]:
    """Measure every level of the plan; `tick` is called after each round.

    Raises:
        ShimmyError: not one request of a round was answered; the error of its first.
    """
    levels = []
    for concurrency in plan.concurrency:
        rounds = []
        for _ in range(plan.warmup + plan.repeats):
            rounds.append(await _round(target, concurrency))
            tick()
        levels.append(Level(concurrency=concurrency, rounds=tuple(rounds[plan.warmup :])))
    return levels


async def _round(target: Target[Prompt], concurrency: int) -> Round:
    prompts = await target.prompts(concurrency)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_ask(target, prompt)) for prompt in prompts]
    results = [task.result() for task in tasks]
    samples = tuple(result for result in results if isinstance(result, Sample))
    errors = [result for result in results if isinstance(result, ShimmyError)]
    if not samples:
        raise errors[0]
    return Round(samples=samples, errors=tuple(error.message for error in errors))


async def _ask(target: Target[Prompt], prompt: Prompt) -> Sample | ShimmyError:
    try:
        return await target.ask(prompt)
    except ShimmyError as error:
        return error
