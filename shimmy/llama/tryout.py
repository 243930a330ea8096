"""What runs in a trial's process: `main`, with compute|flash_attn and the libraries to load as its arguments.

The first library is tried; the outcome of each of its devices goes to standard output as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np

from shimmy.llama import backend
from shimmy.llama._ffi import lib, take_text
from shimmy.llama.batch import Batch
from shimmy.llama.context import Context
from shimmy.llama.context_params import ContextParams, FlashAttn
from shimmy.llama.model import Model
from shimmy.llama.model_params import ModelParams

# Small kernels by themselves do not show it: Mesa's lavapipe 22.3 crashes with flash attention in a model's graph, at some
# prompt lengths only. So the demo model runs, which lies in the package.
_MODEL = Path(__file__).parents[1] / "models" / "demo" / "shimmy-demo.gguf"
_PROMPTS = (1, 2, 9, 11, 12, 40)
# of the mean square of the logits; half precision stays a hundred times below it
_MAX_ERROR = 0.02


def main() -> None:
    """Try the library. Its output and ours must not mix: fd 1 becomes stderr."""
    out = os.dup(1)
    os.dup2(2, 1)
    check, *files = sys.argv[1:]
    backend.init_only([Path(file) for file in reversed(files)])
    tried = Path(files[0]).resolve()
    found = [one for one in backend.backends() if one.file and one.file.resolve() == tried]
    outcome = []  # a library that does not load does no harm: those who ask find out why
    if found and check == "compute":
        outcome = json.loads(
            take_text(
                lib.shm_backend_trial(backend.registered(found[0].name)), "trying the devices"
            )
        )
    elif found and _MODEL.is_file():
        outcome = [{"device": name, "problem": _flash_attn(name)} for name in found[0].devices]
    os.write(out, json.dumps(outcome).encode())
    # what matters is said; drivers may crash in their static destructors, which no worker runs either
    os._exit(0)


def _flash_attn(device: str) -> str:
    """Return what is wrong with flash attention on a device, empty if nothing is."""
    expected = _logits(())
    for n, (got, reference) in enumerate(zip(_logits((device,)), expected, strict=True)):
        error = float(np.mean((got - reference) ** 2) / np.mean(reference**2))
        if not error <= _MAX_ERROR:  # a NaN is an error too
            return f"wrong by {error:.2g} of the mean square after {_PROMPTS[n]} tokens"
    return ""


def _logits(devices: tuple[str, ...]) -> list[np.ndarray]:
    """Return the demo model's logits after each prompt."""
    params = ContextParams(n_ctx=256, flash_attn_type=FlashAttn.ON)
    rows = []
    with (
        Model.load(_MODEL, ModelParams(devices=devices)) as model,
        Context(model, params) as context,
    ):
        for n in _PROMPTS:
            context.memory.clear()
            context.decode(Batch.of(list(range(300, 300 + n))))
            rows.append(np.array(context.logits(-1), np.float64))
    return rows
