"""What is chosen when memory is short: real sizes on the CPU, invented ones for GPUs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shimmy.engine.types.options import EngineOptions
from shimmy.errors import ConfigError, DoesNotFitError, LoadCancelledError, ModelLoadError
from shimmy.llama import backend
from shimmy.worker import search
from shimmy.worker.loading import LoadTicket, load
from shimmy.worker.measure import Measure, Part, measure
from shimmy.worker.placement import Placement
from shimmy.worker.planning import fitted, plan
from shimmy.worker.room import Room
from tests.support.tiny_gguf import write_model

CPU = Placement(backend="cpu", devices=())
GPU = Placement(backend="cuda", devices=("CUDA0",))
GIB = 1 << 30


@pytest.fixture(scope="module", autouse=True)
def _backends():
    backend.init()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("m") / "m.gguf", n_ctx=131_072)


def options(path: Path, **more) -> EngineOptions:
    given = {"n_threads": 1, "gpu_backend": "cpu", "n_parallel": 1} | more
    return EngineOptions(model_path=str(path), **given)


def host(free: int, **more) -> Room:
    return Room(free={"CPU": free}, total={"CPU": 1 << 40}, **more)


@pytest.mark.parametrize("more", [{}, {"cache_type_k": "q8_0", "cache_type_v": "q8_0"}])
def test_the_sizes_are_those_of_the_model_when_it_is_loaded(tiny, more):
    asked = options(tiny, n_ctx=2048, **more)
    part = measure(asked, CPU).devices["CPU"]
    with load(asked, LoadTicket(), lambda _: None) as loaded:
        [real] = loaded.info.placement
    assert (part.weights, part.kv, part.compute) == (real.weights, real.kv, real.compute)


def test_a_long_context_is_computed_along_the_line_and_not_allocated(tiny):
    short, long = (measure(options(tiny, n_ctx=n), CPU) for n in (32_768, 10**9))
    per_cell = short.devices["CPU"].kv / 32_768
    assert long.devices["CPU"].kv == pytest.approx(per_cell * 10**9, rel=0.01)
    assert long.n_ctx == 10**9


@pytest.fixture(scope="module")
def swa(tmp_path_factory) -> Path:
    """Half of the layers see 48 tokens."""
    return write_model(tmp_path_factory.mktemp("m") / "s.gguf", arch="gemma3", n_ctx=131_072)


def test_layers_with_a_window_take_what_they_keep(swa):
    whole = measure(options(swa, n_ctx=16_384, swa_full=True), CPU)
    window = measure(options(swa, n_ctx=16_384, swa_full=False), CPU)
    assert (whole.swa_full, window.swa_full, whole.n_swa) == (True, False, 48)
    half = whole.devices["CPU"].kv // 2
    # a window of 48 and a pass of 512, in steps of 256 cells
    assert window.devices["CPU"].kv == half + half * 768 // 16_384
    assert measure(options(swa, n_ctx=131_072, swa_full=False), CPU).devices["CPU"].kv == (
        pytest.approx(half * 8 + half * 768 // 16_384, rel=0.001)
    )


@pytest.mark.parametrize(("n_ctx", "full"), [(512, True), (1024, True), (1280, False)])
def test_they_keep_all_where_that_takes_less_than_twice_the_cells(swa, n_ctx, full):
    chosen, planned = plan(options(swa, n_ctx=n_ctx), CPU, host(64 * GIB))
    assert (chosen.swa_full, planned.swa_full, planned.n_swa) == (full, full, 48)
    with load(options(swa, n_ctx=n_ctx), LoadTicket(), lambda _: None) as loaded:
        [real] = loaded.info.placement
    [planned_device] = planned.devices
    assert planned_device.kv == real.kv


def test_a_context_that_shrinks_keeps_no_more_than_was_measured(swa):
    """With all kept at the smaller size it would not fit after all."""
    asked = options(swa, n_parallel=74)
    assert measure(asked, CPU).swa_full is False
    need = measure(asked, CPU).devices["CPU"].need
    chosen, planned = plan(asked, CPU, host(need - 1))
    assert planned.problem is None
    assert chosen.n_ctx is not None
    assert chosen.n_ctx < 8192
    assert chosen.swa_full is False


@pytest.mark.parametrize("arch", ["mamba", "bert", "qwen2vl", "gemma3"])
def test_models_of_every_memory_are_measured(tmp_path, arch):
    path = write_model(tmp_path / f"{arch}.gguf", arch=arch)
    assert measure(options(path), CPU).devices["CPU"].weights > 0


def test_with_room_everything_is_as_it_was_asked_for(tiny):
    asked = options(tiny)
    chosen, planned = plan(asked, CPU, host(64 * GIB))
    assert chosen == asked
    assert (planned.n_ctx, planned.changes, planned.problem) == (8192, [], None)
    assert planned.n_ctx_max == planned.n_ctx_train == 131_072


def test_issue_182_the_context_is_8192_or_the_headers_and_a_given_one_is_kept(tiny, tmp_path):
    small = write_model(tmp_path / "small.gguf", n_ctx=2048)
    assert plan(options(tiny), CPU, host(64 * GIB))[1].n_ctx == 8192
    assert plan(options(small), CPU, host(64 * GIB))[1].n_ctx == 2048
    for n_ctx in (4096, 65_536):
        assert plan(options(tiny, n_ctx=n_ctx), CPU, host(64 * GIB))[1].n_ctx == n_ctx


def test_the_context_shrinks_to_what_main_memory_has(tiny):
    whole = measure(options(tiny), CPU).devices["CPU"].need
    half = measure(options(tiny, n_ctx=4096), CPU).devices["CPU"].need
    chosen, changes = fitted(options(tiny), CPU, there=host((whole + half) // 2))
    assert chosen.n_ctx is not None
    assert 4096 <= chosen.n_ctx < 8192
    assert measure(chosen, CPU).devices["CPU"].need <= (whole + half) // 2
    assert changes == [
        f"the context is {chosen.n_ctx} tokens, so that it fits: -c/--ctx-size sets it"
    ]


def test_a_context_that_was_given_is_not_touched_but_refused_with_the_numbers(tiny):
    with pytest.raises(DoesNotFitError) as caught:
        fitted(options(tiny, n_ctx=8192), CPU, there=host(4_000_000))
    said = caught.value.message
    assert said.startswith("the model does not fit: CPU has 0.00 GB free, and this takes")
    assert "the weights take" in said
    assert "-c 4096: half of the context frees" in said
    assert "-ctk q8_0" in said
    assert "may stay in the file" in said
    _, planned = plan(options(tiny, n_ctx=8192), CPU, host(4_000_000))
    assert (planned.changes, planned.problem) == ([], said), "nothing is slow that is not loaded"


def test_weights_larger_than_memory_stay_in_the_mapped_file_and_the_price_is_said(tiny):
    part = measure(options(tiny), CPU).devices["CPU"]
    free = part.kv + part.compute + part.weights // 2
    chosen, changes = fitted(options(tiny, n_ctx=8192), CPU, there=host(free))
    assert (chosen.load_mode, chosen.repack, chosen.n_ctx) == ("mmap", False, 8192)
    [note] = changes
    assert note.startswith(f"main memory has {free / 1e9:.2f} GB free, and this takes")
    assert "are read from the file again and again, which is slow" in note
    with load(chosen, LoadTicket(), lambda _: None) as loaded:
        [real] = loaded.info.placement
    assert (real.weights, real.copied) == (part.weights, 0)


def test_only_what_must_lie_in_memory_is_refused(tiny):
    part = measure(options(tiny, n_ctx=4096), CPU).devices["CPU"]
    asked = options(tiny, n_ctx=4096)
    needed = part.kv + part.compute
    assert plan(asked, CPU, host(needed))[1].problem is None
    problem = plan(asked, CPU, host(needed - 1))[1].problem
    assert problem is not None
    assert "beside the weights, which may stay in the file" in problem


def test_what_is_not_mapped_must_fit_and_the_flag_is_named(tiny):
    part = measure(options(tiny, n_ctx=4096), CPU).devices["CPU"]
    for mode in ("none", "mlock", "mmap+mlock", "dio"):
        asked = options(tiny, n_ctx=4096, load_mode=mode)
        assert plan(asked, CPU, host(part.need))[1].problem is None
        problem = plan(asked, CPU, host(part.need - 1))[1].problem
        assert problem is not None
        assert "--load-mode mmap: the weights are read from the file" in problem


def test_what_would_be_swapped_out_is_said(tiny):
    part = measure(options(tiny, n_ctx=4096), CPU).devices["CPU"]
    asked = options(tiny, n_ctx=4096)
    free = host((part.kv + part.compute) // 2, swap=part.need)
    _, planned = plan(asked, CPU, free)
    assert planned.problem is None
    assert "more are swapped out: a smaller -c/--ctx-size helps" in planned.changes[1]
    assert planned.devices[0].free == free.free["CPU"]


def test_what_was_mapped_outright_keeps_its_context(tiny):
    part = measure(options(tiny), CPU).devices["CPU"]
    free = host(part.need - 1)
    assert plan(options(tiny), CPU, free)[1].n_ctx < 8192
    assert plan(options(tiny, load_mode="mmap"), CPU, free)[1].n_ctx == 8192


def test_a_small_model_is_loaded_without_asking_twice(tiny, monkeypatch):
    monkeypatch.setattr(search, "measure", lambda *_: pytest.fail("asked"))
    assert fitted(options(tiny), CPU, there=host(64 * GIB)) == (options(tiny), [])


def test_a_load_that_was_given_up_is_not_planned_on(tiny):
    with pytest.raises(LoadCancelledError):
        fitted(options(tiny), CPU, lambda: True, there=host(1))


def test_a_file_that_cannot_be_read_is_a_load_error(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelLoadError):
        plan(options(tmp_path / "m.gguf"), CPU, host(64 * GIB))


def test_an_option_that_cannot_be_names_its_flag(tiny):
    with pytest.raises(ConfigError) as caught:
        plan(options(tiny, cache_type_k="q9"), CPU, host(64 * GIB))
    assert caught.value.param == "--cache-type-k"


# a model of ten layers and an output, a GiB each, half of it experts; a MiB of cache a token
N_LAYER = 10


def invented(asked: EngineOptions, _: Placement) -> Measure:
    n_expert = 8 if "moe" in asked.model_path else 0
    n_ctx = asked.n_ctx or 8192
    on_gpu = N_LAYER + 1 if asked.n_gpu_layers is None else min(asked.n_gpu_layers, N_LAYER + 1)
    off = N_LAYER if asked.cpu_moe else asked.n_cpu_moe or 0
    experts = min(off, on_gpu) * GIB // 2 if n_expert else 0
    kv = n_ctx * (1 << 20)

    def part(weights: int, share: float, experts: int = 0) -> Part:
        return Part(
            weights=weights, expert_weights=experts, kv=int(kv * share), compute=GIB // 8,
            kv_per_cell=(1 << 20) * share, compute_per_cell=0.0,
        )  # fmt: skip

    share = on_gpu / (N_LAYER + 1)
    return Measure(
        n_layer=N_LAYER,
        n_expert=n_expert,
        n_expert_used=n_expert // 4,
        n_ctx=n_ctx,
        n_ctx_train=131_072,
        n_gpu_layers=on_gpu,
        devices={
            "CUDA0": part(on_gpu * GIB - experts, share),
            "CPU": part((N_LAYER + 1 - on_gpu) * GIB + experts, 1 - share, experts),
        },
    )


def machine(gpu: float, ram: float = 64) -> Room:
    free = {"CUDA0": int(gpu * GIB), "CPU": int(ram * GIB)}
    return Room(free=free, total=free)


@pytest.fixture
def no_llama(monkeypatch):
    monkeypatch.setattr(search, "measure", invented)


def asked(name: str = "dense", **more) -> EngineOptions:
    return EngineOptions(model_path=f"/{name}.gguf", n_parallel=1, **more)


def test_all_layers_go_to_a_gpu_that_has_room(no_llama):
    _, planned = plan(asked(), GPU, machine(24))
    assert (planned.n_gpu_layers, planned.n_ctx, planned.changes) == (11, 8192, [])


def test_first_the_context_shrinks(no_llama):
    chosen, planned = plan(asked(), GPU, machine(18))
    assert (chosen.n_gpu_layers, planned.n_gpu_layers) == (None, 11)
    assert 4096 <= planned.n_ctx < 8192
    assert planned.devices[0].need <= 17 * GIB


def test_then_the_experts_of_as_few_layers_as_needed_stay_in_main_memory(no_llama):
    chosen, planned = plan(asked("moe", n_ctx=8192), GPU, machine(18))
    # 11 + 8 + 1/8 GiB on 17: five halves are too much
    assert (chosen.n_cpu_moe, chosen.n_gpu_layers) == (5, None)
    assert planned.n_gpu_layers == 11
    # five times half a GiB, of which two experts in eight are used
    [note] = planned.changes
    assert note == (
        "the experts of 5 layers are in host memory: --n-cpu-moe sets it; that saves 2.68 GB on the "
        "GPU, and a token reads 0.67 GB of them there: about 13.4 ms more for each where main memory "
        "gives 50 GB/s"
    )


def test_a_dense_model_leaves_layers_in_main_memory(no_llama):
    chosen, planned = plan(asked(n_ctx=8192), GPU, machine(12))
    # 11 GiB hold six layers of 1 + 8/11 GiB
    assert chosen.n_gpu_layers == planned.n_gpu_layers == 6
    assert planned.problem is None
    assert "6 of 11 layers are on a GPU: -ngl sets it" in planned.changes


@pytest.mark.parametrize(
    "given", [{"n_gpu_layers": 11}, {"n_gpu_layers": 8, "n_ctx": 8192}, {"tensor_split": [1.0]}]
)
def test_flags_that_were_given_stay(no_llama, given):
    chosen, planned = plan(asked(**given), GPU, machine(4))
    assert {name: getattr(chosen, name) for name in given} == given
    assert planned.problem is not None
    assert "CUDA0 has 4.29 GB free" in planned.problem


def test_given_experts_stay_and_layers_go(no_llama):
    chosen, _ = plan(asked("moe", n_ctx=8192, n_cpu_moe=1), GPU, machine(12))
    assert chosen.n_cpu_moe == 1
    assert chosen.n_gpu_layers is not None


def test_where_the_experts_are_not_enough_layers_follow(no_llama):
    chosen, planned = plan(asked("moe", n_ctx=8192), GPU, machine(9))
    assert chosen.n_cpu_moe == N_LAYER
    assert 0 < planned.n_gpu_layers < 11
    assert planned.problem is None


def test_what_fits_nowhere_is_refused(no_llama):
    chosen, planned = plan(asked(n_ctx=8192), GPU, machine(4, ram=4))
    assert planned.problem is not None
    assert "CPU has 4.29 GB free" in planned.problem
    assert chosen.n_gpu_layers is not None


def test_weights_that_are_repacked_take_memory_mapped_or_not(no_llama, monkeypatch):
    def repacking(asked: EngineOptions, chosen: Placement) -> Measure:
        measured = invented(asked, chosen)
        if asked.repack is False:
            return measured
        cpu = replace(measured.devices["CPU"], copied=measured.devices["CPU"].weights)
        return replace(measured, devices=measured.devices | {"CPU": cpu})

    monkeypatch.setattr(search, "measure", repacking)
    small = Room(free={"CPU": 10 * GIB}, total={"CPU": 10 * GIB})
    on_cpu = {"n_gpu_layers": 0, "n_ctx": 4096}
    chosen, planned = plan(asked(**on_cpu), CPU, small)
    assert (planned.problem, chosen.repack, chosen.load_mode) == (None, False, "mmap")
    assert "which is slow" in planned.changes[0]
    assert plan(asked(**on_cpu, load_mode="mmap"), CPU, small)[1].problem is None
    assert plan(asked(**on_cpu, repack=True), CPU, small)[1].problem is not None
    roomy = Room(free={"CPU": 20 * GIB}, total={"CPU": 20 * GIB})
    chosen, planned = plan(asked(**on_cpu), CPU, roomy)
    assert (planned.changes, chosen.repack) == ([], None)


def test_what_a_gpu_leaves_over_may_stay_in_the_file(no_llama):
    chosen, planned = plan(asked(n_ctx=8192), GPU, machine(4, ram=10))
    # 2 of 11 layers are on the GPU; 9 GiB of weights and 6.5 of cache are not
    assert planned.problem is None
    assert planned.n_gpu_layers > 0
    assert chosen.load_mode == "mmap"
    assert any("read from the file again and again" in change for change in planned.changes)


def test_a_gpu_that_says_nothing_of_its_memory_limits_nothing(no_llama):
    silent = Room(free={"CPU": 64 * GIB}, total={"CPU": 64 * GIB})
    _, planned = plan(asked(), GPU, silent)
    assert planned.n_gpu_layers == 11
    assert planned.devices[0].free is None


@pytest.fixture
def eyes(tmp_path) -> Path:
    """A projector of three GiB, all of it holes."""
    path = tmp_path / "mmproj.gguf"
    with path.open("wb") as file:
        file.truncate(3 * GIB)
    return path


def test_a_projector_takes_room_on_the_models_gpu(no_llama, eyes):
    _, planned = plan(asked(mmproj=str(eyes)), GPU, machine(24))
    gpu, cpu = planned.devices
    assert (gpu.projector, cpu.projector, planned.mmproj) == (3 * GIB, 0, str(eyes))
    assert gpu.need == gpu.weights + gpu.kv + gpu.compute + 3 * GIB
    assert planned.changes == []


def test_the_context_shrinks_for_the_projectors_sake(no_llama, eyes):
    _, planned = plan(asked(mmproj=str(eyes)), GPU, machine(21))
    assert 4096 <= planned.n_ctx < 8192
    assert plan(asked(), GPU, machine(21))[1].n_ctx == 8192


def test_without_offload_it_takes_room_on_the_host(no_llama, eyes):
    given = asked(mmproj=str(eyes), mmproj_offload=False)
    _, planned = plan(given, GPU, machine(24))
    gpu, cpu = planned.devices
    assert (gpu.projector, cpu.projector) == (0, 3 * GIB)
    assert plan(given, CPU, machine(0, ram=64))[1].devices[1].projector == 3 * GIB


def test_layers_leave_the_gpu_before_the_projector_does(no_llama, eyes):
    chosen, planned = plan(asked(n_ctx=8192, mmproj=str(eyes)), GPU, machine(12))
    assert (chosen.mmproj_offload, planned.n_gpu_layers) == (True, 4)


def test_a_gpu_that_is_too_small_for_the_projector_has_layers_in_its_place(no_llama, eyes):
    chosen, planned = plan(asked(n_ctx=8192, mmproj=str(eyes)), GPU, machine(3))
    assert (chosen.mmproj_offload, planned.problem) == (False, None)
    assert planned.n_gpu_layers > 0
    assert (
        "the projector is in host memory (--no-mmproj-offload): images take longer"
        in planned.changes
    )


def test_what_fits_nowhere_is_refused_with_the_projectors_size(no_llama, eyes):
    _, planned = plan(asked(n_ctx=8192, mmproj=str(eyes)), GPU, machine(1, ram=4))
    assert planned.problem is not None
    assert (
        "--no-mmproj: without the projector, 3.22 GB, the model sees no images" in planned.problem
    )


def test_a_small_model_with_a_large_projector_is_measured(tiny, eyes):
    given = options(tiny, mmproj=str(eyes))
    _, changes = fitted(given, CPU, there=host(4 * GIB))
    assert changes == []
    with pytest.raises(DoesNotFitError, match="--no-mmproj"):
        fitted(given, CPU, there=host(GIB))


def test_a_projector_that_is_not_there_is_the_loads_to_refuse(no_llama):
    assert plan(asked(mmproj="/gone.gguf"), GPU, machine(24))[1].problem is None
