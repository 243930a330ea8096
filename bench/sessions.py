"""How long a session that is saved or restored holds up a request that runs beside it.

usage: .venv/bin/python bench/sessions.py [--json]      (a minute; a tiny model with hundreds of MB of cells)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from shimmy.engine import Engine
from shimmy.engine.types.event import Delta
from shimmy.engine.types.options import EngineOptions
from shimmy.engine.types.prompt import TokenPrompt
from shimmy.engine.types.request import GenerateRequest
from shimmy.engine.types.sampling import SamplingParams
from tests.support.tiny_gguf import write_model

N_LAYER = 240
N_TOKENS = 4096
ROUNDS = 5


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    as_json = parser.parse_args().json
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(Path(folder)))
    if as_json:
        print(json.dumps(found, indent=1))
        return
    for name, value in found.items():
        print(f"{name:<34}{value:8.1f}")


async def measure(folder: Path) -> dict[str, float]:
    """Return medians over the rounds: gaps between two tokens of the other request, and times."""
    model = write_model(folder / "deep.gguf", n_layer=N_LAYER, n_ctx=2 * N_TOKENS)
    options = EngineOptions(
        model_path=str(model),
        n_ctx=4 * N_TOKENS,
        n_parallel=2,
        n_threads=1,
        cache_ram=0,
        slot_save_path=str(folder),
    )
    rounds: list[dict[str, float]] = []
    async with Engine.child(options) as engine:
        gaps: list[float] = []
        other = asyncio.create_task(last(engine, [7], 2 * N_TOKENS - 2, gaps))
        await asyncio.sleep(1)
        await last(engine, [5 + i % 200 for i in range(N_TOKENS)], 1)
        for _ in range(ROUNDS):
            seen: dict[str, float] = {}
            for verb in ("save", "restore"):
                await asyncio.sleep(0.5)
                gaps.clear()
                await asyncio.sleep(0.5)
                seen["longest gap without, ms"] = max(gaps)
                gaps.clear()
                done = await engine.slot_action(1, verb, "talk.bin")
                seen[f"longest gap during {verb}, ms"] = max(gaps, default=0.0)
                seen[f"{verb}, ms"] = done.ms
            seen["size, MB"] = done.n_bytes / 1e6
            rounds.append(seen)
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


async def last(
    engine: Engine, prompt: list[int], n_tokens: int, gaps: list[float] | None = None
) -> None:
    """Ask, and note the milliseconds between two tokens."""
    request = GenerateRequest(
        prompt=TokenPrompt(prompt),
        sampling=SamplingParams(temperature=0.0, ignore_eos=True),
        max_tokens=n_tokens,
        logprobs=0,  # one event for each token, though it shows no text yet
    )
    before = time.monotonic()
    async with engine.generate(request) as generation:
        async for event in generation:
            now = time.monotonic()
            if isinstance(event, Delta) and gaps is not None:
                gaps.append(1e3 * (now - before))
            before = now


if __name__ == "__main__":
    main()
