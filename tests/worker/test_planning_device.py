"""A plan for a device that is not the CPU: llama.cpp's RPC backend, whose server is another process here."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.llama.test_rpc import endpoint, server
from tests.support.tiny_gguf import write_model

__all__ = ["endpoint", "server"]

CLIENT = """
import json, sys
from shimmy.engine.types.options import EngineOptions
from shimmy.llama import backend
from shimmy.llama.context import Context
from shimmy.llama.model import Model
from shimmy.worker.context_options import make_context
from shimmy.worker.measure import measure
from shimmy.worker.model_options import model_params
from shimmy.worker.placed import offloaded, placements
from shimmy.worker.placement import Placement
from shimmy.worker.planning import plan
from shimmy.worker.room import Room

endpoint, path, *more = sys.argv[1:]
[device] = backend.add_rpc_server(endpoint)
chosen = Placement(backend="rpc", devices=(device.name,))
asked = EngineOptions(model_path=path, n_ctx=512, n_parallel=1, n_threads=1, load_mode="none")
whole = measure(asked, chosen).devices[device.name].need
free = {"CPU": 1 << 34, device.name: int(whole * float(more[0]))}
options, planned = plan(asked, chosen, Room(free=free, total=free))
with Model.load(path, model_params(options, chosen)) as model:
    with make_context(model, options) as context:
        real = placements(model, context)
print(json.dumps({
    "problem": planned.problem, "n_gpu_layers": planned.n_gpu_layers, "n_cpu_moe": planned.n_cpu_moe,
    "planned": {one.device: [one.weights, one.kv, one.compute] for one in planned.devices},
    "real": {one.device: [one.weights, one.kv, one.compute] for one in real},
    "offloaded": offloaded(real), "free": free[device.name], "device": device.name,
}), flush=True)
import os
os._exit(0)
"""


def ask(endpoint: str, path: object, part: float) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, endpoint, str(path), str(part)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_a_dense_model_is_split_as_planned_and_what_was_planned_is_what_is_taken(
    endpoint, tmp_path
):
    path = write_model(tmp_path / "m.gguf", n_layer=12)
    got = ask(endpoint, path, 0.8)
    assert got["problem"] is None
    assert 0 < got["n_gpu_layers"] < 13
    assert got["n_gpu_layers"] == got["offloaded"]
    assert got["planned"] == got["real"]
    assert sum(got["real"][got["device"]]) <= got["free"] * 7 / 8


def test_experts_go_first(endpoint, tmp_path):
    path = write_model(tmp_path / "m.gguf", n_layer=12, n_expert=8)
    got = ask(endpoint, path, 0.9)
    assert got["problem"] is None
    assert 0 < got["n_cpu_moe"] <= 12
    assert got["n_gpu_layers"] == got["offloaded"] == 13
    assert got["planned"] == got["real"]
