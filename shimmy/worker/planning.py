"""How a model is loaded so that it fits; what cannot fit is said with its sizes, and not tried."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from shimmy.engine.types.plan import LoadPlan, PlannedDevice
from shimmy.errors import DoesNotFitError
from shimmy.llama import backend
from shimmy.worker import projector
from shimmy.worker.advice import flags_that_help
from shimmy.worker.context_options import DEFAULT_N_CTX, DEFAULT_N_PARALLEL
from shimmy.worker.logs import forward_logs
from shimmy.worker.model_options import model_params
from shimmy.worker.placement import choose, possible
from shimmy.worker.room import HOST, Room, room
from shimmy.worker.search import Choice, Search

if TYPE_CHECKING:
    from collections.abc import Callable

    from shimmy.engine.types.options import EngineOptions
    from shimmy.worker.measure import Measure
    from shimmy.worker.placement import Placement

_GIB = 1 << 30
# load modes in which weights of main memory are the file itself
_MAPPED = (None, "auto", "mmap")

# bytes per second of main memory for an expectation: two channels of DDR4-3200
_BANDWIDTH = 50e9


def plan(
    options: EngineOptions,
    chosen: Placement,
    there: Room | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> tuple[EngineOptions, LoadPlan]:
    """Return the options of a load that fits, and what it takes; `there` is for tests.

    Raises:
        ModelLoadError, LlamaError: llama.cpp refuses the file.
        LoadCancelledError: `cancelled` says so between two tries.
        ConfigError: an option cannot be; it names the flag.
    """
    free = there or room(chosen.devices)
    there, best = _best(options, chosen, free, cancelled)
    search = Search(chosen, there, cancelled)
    lacking = there.lacking(best.measured)
    slow = [] if lacking else _slowness(best.measured, free)
    n_parallel = options.n_parallel or DEFAULT_N_PARALLEL
    train = best.measured.n_ctx_train * n_parallel
    n_ctx_max = min(search.n_ctx_max(best.measured, margin=False), train)
    # what was measured, whatever size the context gets
    chosen_options = msgspec.structs.replace(best.options, swa_full=best.measured.swa_full)
    return chosen_options, LoadPlan(
        n_layer=best.measured.n_layer,
        n_expert=best.measured.n_expert,
        n_gpu_layers=best.measured.n_gpu_layers,
        n_cpu_moe=best.measured.n_layer if options.cpu_moe else best.options.n_cpu_moe,
        n_ctx=best.measured.n_ctx,
        n_ctx_max=n_ctx_max,
        n_ctx_train=best.measured.n_ctx_train,
        n_parallel=n_parallel,
        cache_type_k=options.cache_type_k or "f16",
        cache_type_v=options.cache_type_v or "f16",
        n_swa=best.measured.n_swa,
        swa_full=best.measured.swa_full,
        mmproj=options.mmproj,
        devices=_devices(best.measured, free),
        changes=[*slow, *_changes(options, best)],
        problem=_problem(best, chosen, there, n_ctx_max) if lacking else None,
    )


def _best(
    options: EngineOptions, chosen: Placement, there: Room, cancelled: Callable[[], bool]
) -> tuple[Room, Choice]:
    """Return the choice that fits, and the room that it fits in; else the last try.

    Where main memory cannot hold the weights, they stay in the mapped file, and are read from there
    as they are needed: that is slow, but works. Then they cannot be repacked, for that copies them.
    """
    if options.load_mode == "mmap":
        there = there.stretched()
    best = Search(chosen, there, cancelled).best(options)
    if HOST not in there.lacking(best.measured) or options.load_mode not in _MAPPED:
        return there, best
    repack = bool(options.repack)
    options = msgspec.structs.replace(options, load_mode="mmap", repack=repack)
    there = there if there.mapped else there.stretched()
    return there, Search(chosen, there, cancelled).best(options)


def plan_load(options: EngineOptions, cancelled: Callable[[], bool]) -> LoadPlan:
    """Return how a load of `options` would go, in a process that has loaded nothing.

    Raises:
        ModelLoadError, LlamaError: llama.cpp refuses the file.
        ConfigError: an option cannot be; it names the flag.
    """
    with forward_logs(options.log_level):
        backend.init(retry=options.retry_backends)
        chosen = choose(options)
        options, notes = possible(options, chosen)
        _, planned = plan(options, chosen, cancelled=cancelled)
    return msgspec.structs.replace(planned, changes=[*notes, *planned.changes])


def fitted(
    options: EngineOptions,
    chosen: Placement,
    cancelled: Callable[[], bool] = lambda: False,
    there: Room | None = None,
) -> tuple[EngineOptions, list[str]]:
    """Return the options of a load that fits, and what was changed for it.

    Where there is plainly room, llama.cpp is not asked: that would read the vocabulary twice.

    Raises:
        DoesNotFitError: nothing fits; says what it takes, and which flags would help.
    """
    there = there or room(chosen.devices)
    if _is_plain(options, chosen, there):
        return options, []
    options, planned = plan(options, chosen, there, cancelled)
    if planned.problem is not None:
        raise DoesNotFitError(planned.problem)
    return options, planned.changes


def _is_plain(options: EngineOptions, chosen: Placement, there: Room) -> bool:
    """Whether a model is so small that its tensors need not be counted.

    At 8192 tokens no architecture's cache is larger than its weights; a GiB is for computing.
    """
    path = Path(options.model_path)
    if len(chosen.devices) > 1 or "-of-" in path.name:
        return False
    try:
        size = path.stat().st_size
    except OSError:
        return True  # the load says what is wrong
    n_ctx = max(options.n_ctx or DEFAULT_N_CTX, DEFAULT_N_CTX)
    # n_ubatch rows of a mask, and the cells' own books
    bound = size * (1 + n_ctx / DEFAULT_N_CTX) + 2 * _GIB + n_ctx * 16_384
    bound += projector.file_size(options)
    return all(bound < free for name, free in there.free.items())


def _devices(measured: Measure, there: Room) -> list[PlannedDevice]:
    return [
        PlannedDevice(
            device=name,
            weights=part.weights,
            expert_weights=part.expert_weights,
            kv=part.kv,
            compute=part.compute,
            projector=part.projector,
            free=there.free.get(name),
            total=there.total.get(name),
        )
        for name, part in measured.devices.items()
    ]


def _changes(asked: EngineOptions, best: Choice) -> list[str]:
    """Say what was chosen because memory is short, and what that costs."""
    got, notes = best.options, list[str]()
    if got.n_ctx != asked.n_ctx:
        notes.append(f"the context is {got.n_ctx} tokens, so that it fits: -c/--ctx-size sets it")
    if got.n_cpu_moe != asked.n_cpu_moe:
        notes.append(
            f"the experts of {got.n_cpu_moe} layers are in host memory: --n-cpu-moe sets it; "
            + _price(best.measured)
        )
    if got.n_gpu_layers != asked.n_gpu_layers:
        notes.append(
            f"{best.measured.n_gpu_layers} of {best.measured.n_layer + 1} layers are on a GPU: "
            "-ngl sets it"
        )
    if got.mmproj_offload != asked.mmproj_offload:
        notes.append("the projector is in host memory (--no-mmproj-offload): images take longer")
    return notes


def _price(measured: Measure) -> str:
    """Say what experts in host memory save, and what they make each token read there."""
    saved = measured.devices[HOST].expert_weights
    read = saved * measured.n_expert_used / max(measured.n_expert, 1)
    ms = 1e3 * read / _BANDWIDTH
    return (
        f"that saves {_gb(saved)} on the GPU, and a token reads {_gb(read)} of them there: "
        f"about {ms:.1f} ms more for each where main memory gives 50 GB/s"
    )


def _slowness(measured: Measure, free: Room) -> list[str]:
    """Say what is read from the disk again and again where main memory is too small."""
    host = measured.devices.get(HOST)
    if host is None or host.need <= free.free[HOST]:
        return []
    there, short = free.free[HOST], host.need - free.free[HOST]
    on_disk = min(short, host.mappable)
    notes = []
    if on_disk:
        notes.append(
            f"main memory has {_gb(there)} free, and this takes {_gb(host.need)} of it: at least "
            f"{_gb(on_disk)} of the weights are read from the file again and again, which is slow; "
            "a smaller quantisation would not be"
        )
    if short > on_disk:
        notes.append(f"{_gb(short - on_disk)} more are swapped out: a smaller -c/--ctx-size helps")
    return notes


def _problem(best: Choice, chosen: Placement, there: Room, n_ctx_max: int) -> str:
    """Say what is missing where, and which flags would help."""
    lines = [
        f"{name} has {_gb(there.free[name])} free, and this takes {_gb(missing)} more"
        + (" beside the weights, which may stay in the file" if _in_file(name, there) else "")
        for name, missing in there.lacking(best.measured).items()
    ]
    parts = list(best.measured.devices.values())
    help_ = flags_that_help(
        best.options,
        model_params(best.options, chosen),
        weights=sum(part.weights for part in parts),
        experts=sum(part.expert_weights for part in parts),
        n_layer=best.measured.n_layer,
        n_ctx=best.measured.n_ctx,
        kv=sum(part.kv for part in parts),
    )
    if eyes := sum(part.projector for part in parts):
        help_.append(f"--no-mmproj: without the projector, {_gb(eyes)}, the model sees no images")
    if HOST in there.lacking(best.measured) and not there.mapped:
        help_.append(
            "--load-mode mmap: the weights are read from the file as they are needed, which is slow"
        )
    if n_ctx_max:
        help_.append(f"-c {n_ctx_max}: the most that fits as the model lies")
    return "\n  ".join([f"the model does not fit: {'; '.join(lines)}", *help_])


def _in_file(name: str, there: Room) -> bool:
    return name == HOST and there.mapped


def _gb(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.2f} GB"
