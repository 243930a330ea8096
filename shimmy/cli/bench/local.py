"""The local model as a target: an `Engine` with a worker process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

import msgspec

from shimmy.cli.bench.figures import Sample
from shimmy.cli.bench.load import Plan, Subject
from shimmy.cli.bench.prose import Prose
from shimmy.cli.console import sized
from shimmy.engine import Engine, describe_system
from shimmy.engine.types.event import Delta, Finished
from shimmy.engine.types.info import ModelInfo
from shimmy.engine.types.options import EngineOptions
from shimmy.engine.types.prompt import TokenPrompt
from shimmy.engine.types.request import GenerateRequest
from shimmy.engine.types.sampling import SamplingParams
from shimmy.models.entry import ModelEntry

_CAPTION = (
    "Tokens per second of all requests at once: PROMPT by the engine's own clock, "
    "GEN after the first token.\n"
    "Milliseconds as this process saw them: TTFT to the first text, ITL per token after it."
)
_FACTS = ("description", "n_params", "size", "n_ctx", "n_parallel", "n_threads", "n_gpu_layers")


class Local:
    """Asks an engine. Prompts have exactly the tokens that the plan says."""

    def __init__(self, engine: Engine, plan: Plan, subject: Subject) -> None:
        """`engine` is ready."""
        self.subject = subject
        self._engine = engine
        self._plan = plan
        self._prose = Prose()

    async def prompts(self, count: int) -> list[TokenPrompt]:
        """Return token prompts; the prefix they share is another one in each round."""
        n_shared, n_own = self._plan.shared_prefix, self._plan.prompt_tokens
        shared = await self._tokens(n_shared, add_special=True) if n_shared else []
        return [
            TokenPrompt([*shared, *await self._tokens(n_own, add_special=not shared)])
            for _ in range(count)
        ]

    async def _tokens(self, n: int, *, add_special: bool) -> list[int]:
        text = self._prose.text(n)  # a word is a token at least
        return (await self._engine.tokenize(text, add_special=add_special))[:n]

    async def ask(self, prompt: TokenPrompt) -> Sample:
        """Generate; the prompt's time is the engine's `queue_ms` and `prompt_ms` after sending."""
        request = GenerateRequest(
            prompt=prompt,
            sampling=SamplingParams(temperature=self._plan.temperature, ignore_eos=True),
            max_tokens=self._plan.max_tokens,
        )
        events: list[tuple[float, int]] = []
        sent = perf_counter()
        async with self._engine.generate(request) as generation:
            async for event in generation:
                if isinstance(event, Delta):
                    events.append((perf_counter(), event.n_tokens))
                elif isinstance(event, Finished):
                    return _sample(sent, events, event)
        raise AssertionError("a generation ends with Finished or an error")


def _sample(sent: float, events: list[tuple[float, int]], end: Finished) -> Sample:
    began = sent + end.timings.queue_ms / 1e3
    return Sample(
        sent=sent,
        events=tuple(events),
        ended=perf_counter(),
        prompt_began=began,
        prompt_ended=began + end.timings.prompt_ms / 1e3,
        prompt_tokens=end.usage.prompt_tokens,
        cached_tokens=end.usage.cached_tokens,
        completion_tokens=end.usage.completion_tokens,
    )


@asynccontextmanager
async def open_local(entry: ModelEntry, options: EngineOptions, plan: Plan) -> AsyncIterator[Local]:
    """Load the model for as long as the block lasts."""
    build = (await describe_system()).llama_cpp
    async with Engine.child(options) as engine:
        yield Local(engine, plan, _subject(entry, await engine.ready(), build))


def _subject(entry: ModelEntry, info: ModelInfo, build: str) -> Subject:
    devices = ", ".join(info.devices) or "CPU"
    layers = f" ({info.n_gpu_layers} layers)" if info.n_gpu_layers else ""
    threads = "thread" if info.n_threads == 1 else "threads"
    facts = {name: value for name, value in msgspec.structs.asdict(info).items() if name in _FACTS}
    return Subject(
        line=(
            f"{entry.title}: {info.description}, {sized(info.size)}, on {devices}{layers}, "
            f"{info.n_threads} {threads}, llama.cpp {build}"
        ),
        caption=_CAPTION,
        facts={
            "kind": "local",
            "model": entry.name,
            "path": entry.path,
            **facts,
            "devices": info.devices or ["CPU"],
            "llama_cpp": build,
        },
    )
