"""llama.cpp's RPC backend against a real server of its own, each in its own process."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shimmy.llama import backend

SERVER = """
import ctypes, sys
from shimmy.llama import backend
from shimmy.llama._ffi import ffi
[module] = [one for one in backend.backends() if one.name == "RPC"]
start = ctypes.CDLL(str(module.file)).ggml_backend_rpc_start_server
cpu = (ctypes.c_void_p * 2)(int(ffi.cast("uintptr_t", backend.device_pointer("CPU"))), None)
start(sys.argv[1].encode(), None, ctypes.c_size_t(1), ctypes.c_size_t(1), cpu)
"""

CLIENT = """
import sys
from shimmy.errors import ShimmyError
from shimmy.llama import *
from shimmy.llama import backend
endpoint, path = sys.argv[1:]
[device] = backend.add_rpc_server(endpoint)
print(device.name, device.type, device.buffer_type, flush=True)
model = Model.load(path, ModelParams(devices=[device.name], load_mode=LoadMode.NONE))
print(sorted({place.buffer for place in model.tensors()}), flush=True)
context = Context(model, ContextParams(n_ctx=256))
print(context.decode(Batch.of([1, 2, 3])).name, int(context.logits().argmax()), flush=True)
sys.stdin.readline()
try:
    context.decode(Batch.of([4], pos=3))
    context.logits()
    print("decoded", flush=True)
except ShimmyError as error:
    print(type(error).__name__, flush=True)
import os
os._exit(0)  # the server is gone: freeing what lies there would abort
"""


@pytest.fixture
def server() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    if not any(one.name == "RPC" for one in backend.backends()):
        pytest.skip("this build has no RPC backend")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{probe.getsockname()[1]}"
    server = subprocess.Popen([sys.executable, "-c", SERVER, endpoint], stdout=subprocess.DEVNULL)
    try:
        host, port = endpoint.split(":")
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex((host, int(port))) == 0:
                    break
            time.sleep(0.05)
        yield endpoint, server
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def endpoint(server: tuple[str, subprocess.Popen[bytes]]) -> str:
    return server[0]


@pytest.fixture
def client(endpoint: str, tiny_gguf: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", CLIENT, endpoint, str(tiny_gguf)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process
        process.kill()


def test_a_model_runs_on_an_rpc_server(
    client: subprocess.Popen[str], endpoint: str, tiny_gguf: Path
) -> None:
    said, _ = client.communicate("\n", timeout=60)
    device, buffers, decoded, again = said.splitlines()
    assert device.startswith("RPC0")
    assert endpoint in buffers
    assert decoded.startswith("OK ")
    assert again == "decoded"
    assert client.returncode == 0


def test_a_server_that_dies_ends_the_decode_not_the_client(
    client: subprocess.Popen[str], server: tuple[str, subprocess.Popen[bytes]]
) -> None:
    assert client.stdout is not None
    for _ in range(3):
        client.stdout.readline()
    server[1].kill()
    server[1].wait()
    said, _ = client.communicate("\n", timeout=60)
    assert said.splitlines() == ["NativeAbortError"]
    assert client.returncode == 0


def test_overrides_keep_experts_off_the_device_and_the_result_is_the_same(
    endpoint: str, tiny_of
) -> None:
    """Two kinds of memory without a GPU: tensor_buft_overrides decide which one a tensor gets."""
    script = """
import sys
import numpy as np
from shimmy.llama import *
from shimmy.llama import backend
endpoint, path = sys.argv[1:]
[device] = backend.add_rpc_server(endpoint)
results = []
to_device = (TensorBuftOverride("attn_q", device.buffer_type),)
for overrides in ((), n_cpu_moe(1), cpu_moe(), to_device):
    params = ModelParams(
        devices=[device.name],
        n_gpu_layers=0 if overrides == to_device else None,
        load_mode=LoadMode.NONE,
        tensor_buft_overrides=overrides,
    )
    with Model.load(path, params) as model, Context(model, ContextParams(n_ctx=256)) as context:
        context.decode(Batch.of([1, 2, 3]))
        results.append(context.logits())
        host = sorted(p.name for p in model.tensors() if p.buffer.startswith("CPU"))
        print(*[name for name in host if "blk" in name])
assert all(np.allclose(results[0], one, atol=2e-2) for one in results)
"""
    path = tiny_of(n_expert=4)
    done = subprocess.run(
        [sys.executable, "-c", script, endpoint, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    none, first, every, inverse = [set(line.split()) for line in done.stdout.split("\n")[:4]]
    experts = [{f"blk.{i}.ffn_{x}_exps.weight" for x in ("gate", "up", "down")} for i in (0, 1)]
    assert none == set()
    assert first == experts[0]
    assert every == experts[0] | experts[1]
    assert not any("attn_q" in name for name in inverse)
    assert "blk.0.attn_k.weight" in inverse
