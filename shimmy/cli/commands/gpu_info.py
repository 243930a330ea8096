"""`shimmy gpu-info`."""

from __future__ import annotations

import click

from shimmy.cli.flags import GlobalFlags, global_flags
from shimmy.config import GPU_BACKEND
from shimmy.engine.types.info import BackendInfo, SystemInfo
from shimmy.engine.types.needs import needs


@click.command(name="gpu-info")
@global_flags("gpu_backend")
@click.option(
    "--retry-backends", is_flag=True, help="Try backends again that failed their first use here."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(ctx: click.Context, flags: GlobalFlags, *, retry_backends: bool, as_json: bool) -> None:
    """Show the backends and devices that ggml reports.

    With --gpu-backend, exit with 1 and say what is missing if that backend cannot be used.
    """
    import asyncio

    from shimmy.cli.console import print_json
    from shimmy.engine import describe_system

    flag = flags.gpu_backend or GPU_BACKEND.get()
    info = asyncio.run(describe_system(retry_backends=retry_backends))
    if as_json:
        print_json(info)
    else:
        _show(info)
    if problem := missing(info, flag):
        click.echo(f"error: {problem}", err=True)
        ctx.exit(1)


def missing(info: SystemInfo, flag: str) -> str | None:
    """Return why the backend of --gpu-backend `flag` cannot be used, None if it can."""
    for choice in info.choices:
        if choice.backend == flag and choice.problem is not None:
            hint = needs(flag)
            built = "this build has no" not in choice.problem
            return choice.problem + (f"; it needs {hint}" if hint and built else "")
    return None


def _show(info: SystemInfo) -> None:
    from shimmy.cli.console import print_table, sized

    print(f"llama.cpp {info.llama_cpp}\n")
    print_table(
        ("BACKEND", "STATE", "FEATURES"),
        [(one.name, _state(one), _features(one)) for one in info.backends],
    )
    print()
    print_table(
        ("DEVICE", "KIND", "BACKEND", ">FREE", ">TOTAL", "DRIVER", "DESCRIPTION"),
        [
            (
                device.name,
                device.kind,
                device.backend,
                sized(device.memory_free) if device.memory_total else "-",
                sized(device.memory_total) if device.memory_total else "-",
                device.driver or "-",
                device.description + (f" (not used: {device.problem})" if device.problem else ""),
            )
            for device in info.devices
        ],
    )
    print()
    print_table(
        ("--gpu-backend", "WOULD USE"),
        [
            (choice.backend, choice.problem or ", ".join(choice.devices) or "CPU")
            for choice in info.choices
            if choice.problem is None or "this build has no" not in choice.problem
        ],
    )


def _state(one: BackendInfo) -> str:
    if not one.loaded:
        return f"not loaded: {one.problem}"
    if one.note:
        return f"loaded, no device: {one.note}"
    return "loaded" + (f"; flash attention is not used: {one.flash_attn}" if one.flash_attn else "")


def _features(one: BackendInfo) -> str:
    return " ".join(
        key if value == "1" else f"{key}={value}" for key, value in one.features.items()
    )
