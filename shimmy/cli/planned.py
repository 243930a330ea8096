"""How a plan is shown."""

from __future__ import annotations

import click

from shimmy.cli.console import print_table, sized
from shimmy.engine.types.plan import LoadPlan, PlannedDevice
from shimmy.models.entry import ModelEntry


def show(entry: ModelEntry, plan: LoadPlan) -> None:
    """Print what each device gets, what was chosen, and what stands against it."""
    click.echo(f"{entry.title}  {entry.path}")
    sizes = (">WEIGHTS", ">KV CACHE", ">COMPUTE", *([">PROJECTOR"] if plan.mmproj else []))
    columns = ("DEVICE", *sizes, ">TOGETHER", ">FREE", ">OF")
    print_table(columns, [_row(one, projector=bool(plan.mmproj)) for one in plan.devices])
    click.echo()
    figures = {
        "GPU layers": f"{plan.n_gpu_layers} of {plan.n_layer + 1}",
        "experts on CPU": _experts(plan),
        "context": f"{plan.n_ctx:,} tokens (trained on {plan.n_ctx_train:,})",
        "slots": f"{plan.n_parallel}, which share the context",
        "most context": f"{plan.n_ctx_max:,} tokens fit",
        "sliding window": _window(plan),
        "KV cache types": f"{plan.cache_type_k}, {plan.cache_type_v}",
        "projector": plan.mmproj or "",
    }
    width = max(map(len, figures))
    for label, value in figures.items():
        if value:
            click.echo(f"{label:<{width}}  {value}")
    for change in plan.changes:
        click.echo(f"note: {change}")
    click.echo(plan.problem or "it fits")


def _row(one: PlannedDevice, *, projector: bool) -> tuple[str, ...]:
    eyes = (one.projector,) if projector else ()
    sizes = (one.weights, one.kv, one.compute, *eyes, one.need)
    free, total = (sized(n) if n is not None else "?" for n in (one.free, one.total))
    return (one.device, *map(sized, sizes), free, total)


def _experts(plan: LoadPlan) -> str:
    if not plan.n_expert:
        return ""
    return f"of {plan.n_cpu_moe or 0} of {plan.n_layer} layers"


def _window(plan: LoadPlan) -> str:
    if plan.swa_full is None:
        return ""
    kept = "all" if plan.swa_full else "that"
    return f"{plan.n_swa:,} tokens in some layers, which keep {kept}"
