"""bench/parity: at temperature 0 shimmy says what llama-server says, prompt by prompt; where it does not, how near the tie was.

Both sides run the same model with the same flags and get one prompt at a time, uncached, so that both compute the same batches.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import models
import reference
from server import LLAMA, SHIMMY, Server, start

# the reference has our patches, so that what differs is not of llama.cpp
SIDES = (LLAMA, SHIMMY)
MODELS = ("tiny-Q8_0", "qwen3-0.6b-Q8_0")
N_PROMPTS = 20
# words of the prompts: shorter and longer than a tile of 16 rows, a batch of 64, a page of 256 cells
LENGTHS = (1, 5, 12, 17, 40, 63, 64, 65, 130, 300)
# cells for all prompts and answers, so that none lies in pieces: its sums would be taken in another order
N_CTX = 8192
# of the likeliest token's logarithm and the next one's: closer than this, rounding decides
NEAR_TIE = 0.15
ALLOWED = 1

Body = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A token that was chosen, and how far (in logits) it was ahead of the next likeliest."""

    token: str
    lead: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Parting:
    """Where two texts of the same prompt part. `leads`: of each side's token there, by side."""

    prompt: int
    at: int
    tokens: dict[str, str]
    leads: dict[str, float]

    @property
    def near(self) -> bool:
        """Whether both sides had a tie there but for rounding."""
        return max(self.leads.values()) < NEAR_TIE


def main() -> int:
    """Run the command; 1 if a model has more than one text that differs, or one that differs without a tie."""
    arguments = parse()
    built = reference.existing(arguments.reference) if arguments.reference else reference.build()
    print(f"reference: {built.source}")
    print("| model | prompts | equal | parted at | lead of llama-server's token | of shimmy's |")
    print("| --- | --- | --- | --- | --- | --- |")
    failed = False
    for name in arguments.model or MODELS:
        partings = compare(models.model(name, arguments.models, built), built, arguments.n_tokens)
        failed |= len(partings) > ALLOWED or not all(parting.near for parting in partings)
        print(row(name, partings), flush=True)
        for parting in partings:
            print(
                json.dumps({"model": name, "prompt": parting.prompt, **parting.tokens}),
                file=sys.stderr,
            )
    return 1 if failed else 0


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="bench/parity", description=__doc__)
    parser.add_argument(
        "--model",
        metavar="NAME",
        action="append",
        help=f"may be repeated; default {' '.join(MODELS)}",
    )
    parser.add_argument(
        "--n-tokens", metavar="N", type=int, default=64, help="of each answer; default 64"
    )
    parser.add_argument(
        "--reference", metavar="DIR", type=Path, help="programs built before, in DIR/bin"
    )
    parser.add_argument(
        "--models", metavar="DIR", type=Path, help="models made before, such as tiny-Q8_0.gguf"
    )
    return parser.parse_args()


def compare(model: Path, built: reference.Reference, n_tokens: int) -> list[Parting]:
    """Ask both sides all prompts; return where they differ."""
    prompts = [models.text(LENGTHS[i % len(LENGTHS)], seed=i) for i in range(N_PROMPTS)]
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        for side in SIDES:
            log = reference.BUILD / f"{side}.log"
            server = start(side, built, model, n_parallel=1, n_ctx=N_CTX, log=log)
            servers[side] = stack.enter_context(server)
        for server in servers.values():
            server.wait_ready()
        found = []
        for i, prompt in enumerate(prompts):
            said = {side: ASK[side](servers[side], prompt, n_tokens) for side in SIDES}
            if parting := part(i, said, n_tokens):
                found.append(parting)
    return found


def ask_llama(server: Server, prompt: str, n_tokens: int) -> list[Step]:
    """Ask llama-server's own endpoint."""
    body = common(prompt) | {"n_predict": n_tokens, "n_probs": 2, "cache_prompt": False}
    return [
        step(one["token"], [top["logprob"] for top in one["top_logprobs"]])
        for one in server.post("/completion", body)["completion_probabilities"]
    ]


def ask_shimmy(server: Server, prompt: str, n_tokens: int) -> list[Step]:
    """Ask shimmy's OpenAI endpoint."""
    body = common(prompt) | {
        "model": "m",
        "max_tokens": n_tokens,
        "logprobs": 2,
        "cache_prompt": False,
    }
    seen = server.post("/v1/completions", body)["choices"][0]["logprobs"]
    return [
        step(token, list(top.values()))
        for token, top in zip(seen["tokens"], seen["top_logprobs"], strict=True)
    ]


ASK: dict[str, Callable[[Server, str, int], list[Step]]] = {LLAMA: ask_llama, SHIMMY: ask_shimmy}


def common(prompt: str) -> Body:
    """Return what both understand."""
    return {"prompt": prompt, "temperature": 0, "ignore_eos": True}


def step(token: str, logprobs: Sequence[float]) -> Step:
    """Return a token and its lead."""
    best, second = sorted(logprobs, reverse=True)[:2]
    return Step(token=token, lead=best - second)


def part(prompt: int, said: dict[str, list[Step]], n_tokens: int) -> Parting | None:
    """Return where two answers part, None if they do not."""
    for side in SIDES:
        if len(said[side]) != n_tokens:
            raise RuntimeError(
                f"prompt {prompt}: {side} gave {len(said[side])} tokens, not {n_tokens}"
            )
    for at, both in enumerate(zip(*(said[side] for side in SIDES), strict=True)):
        if both[0].token != both[1].token:
            return Parting(
                prompt=prompt,
                at=at,
                tokens={side: one.token for side, one in zip(SIDES, both, strict=True)},
                leads={side: one.lead for side, one in zip(SIDES, both, strict=True)},
            )
    return None


def row(name: str, partings: Sequence[Parting]) -> str:
    """Return a model's line of the table."""
    where = ", ".join(f"prompt {p.prompt}, token {p.at}" for p in partings)
    leads = [", ".join(f"{p.leads[side]:.4f}" for p in partings) for side in SIDES]
    cells = [name, str(N_PROMPTS), str(N_PROMPTS - len(partings)), where, *leads]
    return f"| {' | '.join(cell or '-' for cell in cells)} |"


if __name__ == "__main__":
    sys.exit(main())
