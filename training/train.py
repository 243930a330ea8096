"""Trains the demo model on the generated corpus, from a seed, on two CPU cores."""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.multiprocessing.spawn import spawn
from torch.nn import functional

from training import parallel, rows, tokenizer
from training.corpus.mixture import documents
from training.model import Llama, Shape
from training.muon import Muon

STEPS, SEED = 1000, 11435
INVENTED = 0.35
WARMUP, DECAY_FROM = 40, 0.35
MATRIX_RATE, OTHER_RATE = 0.02, 3e-3
_REPORT_EVERY = 20
_SAVE_EVERY = 50


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the training with one row length; `batch` counts one process's rows."""

    steps: int
    batch: int
    length: int
    long_share: float


def phases(steps: int) -> list[Phase]:
    """Return the plan: short rows, then a tenth of the steps over the whole context length."""
    long = steps // 10
    return [Phase(steps - long, 6, 512, 0.0), Phase(long, 2, 2048, 0.05)]


def rate(step: int, steps: int) -> float:
    """Return the share of the full learning rate: warm up, hold, then fall to nothing."""
    if step < WARMUP:
        return (step + 1) / WARMUP
    return min(1.0, (steps - step) / (steps * (1 - DECAY_FROM)))


class Trainer:
    """The model under training and its optimisers, in one of the processes."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.step = 0
        self.model = Llama(Shape())
        named = list(self.model.named_parameters())
        matrices = [w for name, w in named if w.dim() > 1 and name.startswith("blk")]
        others = [w for name, w in named if w.dim() == 1 or not name.startswith("blk")]
        adam = torch.optim.AdamW(others, OTHER_RATE, betas=(0.9, 0.98), weight_decay=0.0)
        self._optimisers = [Muon(matrices, MATRIX_RATE, weight_decay=0.02), adam]
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["full"] = group["lr"]
        self._loss = torch.compile(_loss, dynamic=False)

    def learn(self, tokens: Tensor, weights: Tensor) -> float:
        """Take one step on this process's rows together with the others'; return the mean loss."""
        with torch.autocast("cpu", torch.bfloat16):
            loss = self._loss(self.model, tokens, weights) / parallel.PROCESSES
        loss.backward()  # type: ignore[no-untyped-call]
        total = loss.detach()
        parallel.add_up([total, *(w.grad for w in self.model.parameters() if w.grad is not None)])
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["full"] * rate(self.step, self.steps)
            optimiser.step()
            optimiser.zero_grad()
        self.step += 1
        return total.item()


def _loss(model: Llama, tokens: Tensor, weights: Tensor) -> Tensor:
    """Return the mean weighted loss of a batch."""
    logits = model(tokens[:, :-1]).float().flatten(0, 1)
    losses = functional.cross_entropy(logits, tokens[:, 1:].flatten(), reduction="none")
    weight = weights[:, 1:].flatten()
    return (losses * weight).sum() / weight.sum()


def work(rank: int, out: Path, steps: int, seed: int, meeting: Path) -> None:
    """Train in one process; the first reports, and writes the weights and a record of the run."""
    parallel.join(rank, meeting)
    torch.manual_seed(seed)
    vocabulary = tokenizer.load(out / "tokenizer.json")
    trainer = Trainer(steps)
    seen, loss, started = 0, 0.0, time.time()
    for phase in phases(steps):
        # each process has documents of its own
        source = documents(
            random.Random(f"{seed} {rank} {phase.length}"), INVENTED, phase.long_share
        )
        tokens, weights = rows.pack(vocabulary, source, phase.steps * phase.batch, phase.length)
        for at in range(0, len(tokens), phase.batch):
            here = slice(at, at + phase.batch)
            batch = torch.from_numpy(tokens[here].astype(np.int64))
            loss += trainer.learn(batch, torch.from_numpy(weights[here]))
            seen += phase.batch * phase.length * parallel.PROCESSES
            if rank == 0 and trainer.step % _REPORT_EVERY == 0:
                took = time.time() - started
                mean, loss = loss / _REPORT_EVERY, 0.0
                print(f"step {trainer.step}/{steps} loss {mean:.4f} {took:.0f} s", flush=True)
            if rank == 0 and trainer.step % _SAVE_EVERY == 0:
                torch.save(trainer.model.state_dict(), out / "model.pt")
    if rank == 0:
        torch.save(trainer.model.state_dict(), out / "model.pt")
    times = torch.tensor([time.process_time()])
    parallel.add_up([times])
    if rank == 0:
        record = {
            "seed": seed, "steps": steps, "tokens": seen, "torch": torch.__version__,
            "wall_seconds": round(time.time() - started), "cpu_seconds": round(times.item()),
        }  # fmt: skip
        (out / "run.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(record)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for weights, vocabulary and record")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    tokenizer.train(options.out / "tokenizer.json")
    # set before the children start: their encoders would otherwise warn, and fight for the cores
    os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    with tempfile.TemporaryDirectory() as folder:
        arguments = (options.out, options.steps, options.seed, Path(folder) / "meeting")
        spawn(work, arguments, nprocs=parallel.PROCESSES)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
