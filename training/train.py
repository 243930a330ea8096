"""Trains the demo model on the generated corpus, one run of the plan at a time, on two CPU cores."""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
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
from training.plan import PLANS, Plan

INVENTED = 0.35
_REPORT_EVERY = 20
_SAVE_EVERY = 50


class Trainer:
    """The model under training and its optimisers, in one of the processes."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.step = 0
        self.model = Llama(Shape())
        named = list(self.model.named_parameters())
        matrices = [w for name, w in named if w.dim() > 1 and name.startswith("blk")]
        others = [w for name, w in named if w.dim() == 1 or not name.startswith("blk")]
        adam = torch.optim.AdamW(others, plan.other_rate, betas=(0.9, 0.98), weight_decay=0.0)
        self._optimisers = [Muon(matrices, plan.matrix_rate, weight_decay=0.02), adam]
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
                group["lr"] = group["full"] * self.plan.rate(self.step)
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


def work(rank: int, out: Path, plan: Plan, meeting: Path) -> None:
    """Train in one process; the first reports, and writes the weights and a record of the run."""
    parallel.join(rank, meeting)
    torch.manual_seed(plan.seed)
    vocabulary = tokenizer.load(out / "tokenizer.json")
    trainer = Trainer(plan)
    if plan.start:
        trainer.model.load_state_dict(torch.load(out / f"{plan.start}.pt", weights_only=True))
    seen, loss, started = 0, 0.0, time.time()
    for phase in plan.phases:
        # each process has documents of its own
        rng = random.Random(f"{plan.seed} {rank} {phase.length}")
        source = documents(rng, INVENTED, phase.long_share, phase.drill_share, phase.sums_share)
        tokens, weights = rows.pack(vocabulary, source, phase.steps * phase.batch, phase.length)
        for at in range(0, len(tokens), phase.batch):
            here = slice(at, at + phase.batch)
            batch = torch.from_numpy(tokens[here].astype(np.int64))
            loss += trainer.learn(batch, torch.from_numpy(weights[here]))
            seen += phase.batch * phase.length * parallel.PROCESSES
            if rank == 0 and trainer.step % _REPORT_EVERY == 0:
                took = time.time() - started
                mean, loss = loss / _REPORT_EVERY, 0.0
                print(f"step {trainer.step}/{plan.steps} loss {mean:.4f} {took:.0f} s", flush=True)
            if rank == 0 and trainer.step % _SAVE_EVERY == 0:
                torch.save(trainer.model.state_dict(), out / f"{plan.name}.pt")
    if rank == 0:
        torch.save(trainer.model.state_dict(), out / f"{plan.name}.pt")
    times = torch.tensor([time.process_time()])
    parallel.add_up([times])
    if rank == 0:
        record = {
            "seed": plan.seed, "steps": plan.steps, "tokens": seen, "torch": torch.__version__,
            "wall_seconds": round(time.time() - started), "cpu_seconds": round(times.item()),
        }  # fmt: skip
        (out / f"{plan.name}.json").write_text(
            json.dumps(record, indent=1) + "\n", encoding="utf-8"
        )
        print(record)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for weights, vocabulary and record")
    parser.add_argument("plan", choices=PLANS, help="which run of the plan")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    plan = PLANS[options.plan]
    if plan.start is None:
        tokenizer.train(options.out / "tokenizer.json")
    # set before the children start: their encoders would otherwise warn, and fight for the cores
    os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    with tempfile.TemporaryDirectory() as folder:
        arguments = (options.out, plan, Path(folder) / "meeting")
        spawn(work, arguments, nprocs=parallel.PROCESSES)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
