"""`shimmy gpu-info`."""

from __future__ import annotations

import click

from shimmy.cli.flags import GlobalFlags, global_flags
from shimmy.engine.types.info import SystemInfo

# flag: the names that ggml gives the backend, in lower case
_GGML_NAMES = {
    "cuda": {"cuda"},
    "vulkan": {"vulkan"},
    "opencl": {"opencl"},
    "metal": {"metal", "mtl"},
    "hip": {"hip", "rocm"},
}
_NEEDS = {
    "cuda": "NVIDIA's driver (`nvidia-smi` shows the GPU) and the CUDA run-time libraries",
    "vulkan": "a Vulkan driver and libvulkan1 (`vulkaninfo --summary` lists the devices)",
    "opencl": "an OpenCL driver and its loader (`clinfo -l` lists the devices)",
    "metal": "an Apple GPU with macOS",
    "hip": "AMD's ROCm run-time (`rocminfo` lists the devices)",
}


@click.command(name="gpu-info")
@global_flags("gpu_backend")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(ctx: click.Context, flags: GlobalFlags, *, as_json: bool) -> None:
    """Show the backends and devices that ggml reports.

    With --gpu-backend, exit with 1 and say what is missing if that backend cannot be used.
    """
    import asyncio

    from shimmy.cli.console import print_json
    from shimmy.engine import describe_system

    info = asyncio.run(describe_system())
    if as_json:
        print_json(info)
    else:
        _show(info)
    if problem := missing(info, flags.gpu_backend or "auto"):
        click.echo(f"error: {problem}", err=True)
        ctx.exit(1)


def missing(info: SystemInfo, flag: str) -> str | None:
    """Return why the backend of --gpu-backend `flag` cannot be used, None if it can."""
    names = _GGML_NAMES.get(flag)
    if names is None:
        return None  # auto and cpu are always there
    built = [backend for backend in info.backends if backend.name.lower() in names]
    if not built:
        return (
            f"this build has no {flag} backend; build it with: "
            f"pip install . -C cmake.define.GGML_{flag.upper()}=ON"
        )
    if not any(backend.loaded for backend in built):
        reason = built[0].problem or "no reason given"
        return f"the {flag} backend did not load ({reason}); install {_NEEDS[flag]}"
    if not any(device.backend.lower() in names for device in info.devices):
        return f"the {flag} backend found no device; it needs {_NEEDS[flag]}"
    return None


def _show(info: SystemInfo) -> None:
    from shimmy.cli.console import print_table, sized

    print(f"llama.cpp {info.llama_cpp}\n")
    print_table(
        ("BACKEND", "STATE", "FEATURES"),
        [
            (
                backend.name,
                "loaded" if backend.loaded else f"not loaded: {backend.problem}",
                " ".join(
                    key if value == "1" else f"{key}={value}"
                    for key, value in backend.features.items()
                ),
            )
            for backend in info.backends
        ],
    )
    print()
    print_table(
        ("DEVICE", "KIND", "BACKEND", ">FREE", ">TOTAL", "DESCRIPTION"),
        [
            (
                device.name,
                device.kind,
                device.backend,
                sized(device.memory_free) if device.memory_total else "-",
                sized(device.memory_total) if device.memory_total else "-",
                device.description,
            )
            for device in info.devices
        ],
    )
