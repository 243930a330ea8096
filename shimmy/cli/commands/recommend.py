"""`shimmy recommend`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from shimmy.cli.flags import GlobalFlags, global_flags
from shimmy.cli.numbers import Whole
from shimmy.cli.units import SIZE, memory_size

if TYPE_CHECKING:
    from shimmy.models.catalogue import Recommendation

_FITS = {"gpu": "on the GPU", "ram": "by the CPU", "no": "no"}


@click.command(name="recommend")
@global_flags("config", "model_dirs")
@click.option(
    "--vram",
    type=SIZE,
    callback=memory_size,
    metavar="SIZE",
    help="GPU memory, such as 8GB, in place of what is free.",
)
@click.option(
    "--ram",
    type=SIZE,
    callback=memory_size,
    metavar="SIZE",
    help="Main memory, such as 32GB, in place of what is free.",
)
@click.option(
    "--use",
    type=click.Choice(("chat", "code", "tools", "embedding")),
    help="What the model is for.",
)
@click.option(
    "-c",
    "--ctx-size",
    "n_ctx",
    type=Whole(min=1),
    default=8192,
    show_default=True,
    metavar="N",
    help="Tokens of context to leave room for.",
)
@click.option("--all", "everything", is_flag=True, help="Show what does not fit too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    flags: GlobalFlags,
    *,
    vram: float | None,
    ram: float | None,
    use: Any,
    n_ctx: int,
    everything: bool,
    as_json: bool,
) -> None:
    """Name the models that fit this machine, the best first."""
    from shimmy.cli.console import print_json, sized
    from shimmy.cli.models import registry
    from shimmy.models.budget import host_memory
    from shimmy.models.catalogue import Machine, catalogue, recommend

    machine = Machine(
        vram=_free_vram() if vram is None else int(vram),
        ram=host_memory() if ram is None else int(ram),
    )
    entries = registry(flags).entries()
    found = recommend(
        catalogue(), machine, use=use, n_ctx=n_ctx, entries=entries, everything=everything
    )
    if as_json:
        print_json({"machine": machine, "models": [_data(one) for one in found]})
        return
    click.echo(f"for {sized(machine.vram)} of GPU memory and {sized(machine.ram)} of main memory:")
    if not found:
        click.echo("nothing of the catalogue fits: `shimmy recommend --all` shows what there is")
        return
    _table(found)
    click.echo("\nfetch one with: shimmy pull NAME")


def _free_vram() -> int:
    """Return the free memory of the GPUs that ggml sees and can use."""
    import asyncio

    from shimmy.engine.system import describe_system
    from shimmy.errors import BackendError
    from shimmy.models.budget import gpu_memory

    try:
        return gpu_memory(asyncio.run(describe_system()))
    except BackendError as error:
        click.echo(f"GPUs are not counted: {error.message}", err=True)
        return 0


def _data(one: Recommendation) -> dict[str, Any]:
    import msgspec

    return msgspec.structs.asdict(one) | {"need": one.need, "pull": one.spec}


def _table(found: list[Recommendation]) -> None:
    from shimmy.cli.console import print_table, sized
    from shimmy.cli.listing import counted

    columns = ("NAME", ">PARAMS", ">ACTIVE", ">TAKES", ">CONTEXT", "FITS", "FOR", "ON DISK")
    rows = [
        (
            one.spec,
            counted(one.model.n_params),
            counted(one.model.n_params_active or one.model.n_params),
            sized(one.need),
            str(one.n_ctx),
            _FITS[one.fit],
            ", ".join(one.model.uses),
            ", ".join(one.on_disk),
        )
        for one in found
    ]
    print_table(columns, rows)
