"""`shimmy doctor`."""

from __future__ import annotations

import click

from shimmy.cli.flags import GlobalFlags, global_flags
from shimmy.engine.diagnosis import Finding
from shimmy.engine.types.info import SystemInfo


@click.command(name="doctor")
@global_flags("model_dirs")
@click.argument("name", metavar="[NAME|PATH]", required=False)
@click.option(
    "--retry-backends", is_flag=True, help="Try backends again that failed their first use here."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(
    ctx: click.Context, flags: GlobalFlags, *, name: str | None, retry_backends: bool, as_json: bool
) -> None:
    """Say why a GPU is not used and what would change it; a report for bug tickets.

    With a model, say whether its weights fit. The exit code is 1 if there is a problem.
    """
    import asyncio
    import platform

    from shimmy import __version__
    from shimmy.cli.console import print_json
    from shimmy.cli.models import find
    from shimmy.engine import describe_system
    from shimmy.engine.diagnosis import diagnose
    from shimmy.engine.machine import look
    from shimmy.errors import BackendError

    size = None if name is None else find(flags, name).size
    machine = look()
    system = SystemInfo(llama_cpp="?", backends=[], devices=[])
    findings: list[Finding] = []
    try:
        system = asyncio.run(describe_system(retry_backends=retry_backends))
    except BackendError as error:
        findings.append(
            Finding(level="problem", subject="backends", text=error.message, fix="reinstall shimmy")
        )
    else:
        findings = diagnose(machine, system, model_bytes=size)
    about = {
        "shimmy": __version__,
        "llama_cpp": system.llama_cpp,
        "system": platform.platform(),
        "python": platform.python_version(),
        "nvidia_driver": machine.nvidia_driver,
    }
    if as_json:
        print_json({"about": about, "findings": findings, "machine": machine, "system": system})
    else:
        _show(about, findings, system)
    ctx.exit(int(any(finding.level == "problem" for finding in findings)))


def _show(about: dict[str, str | None], findings: list[Finding], system: SystemInfo) -> None:
    for label, value in about.items():
        if value is not None:
            print(f"{label}: {value}")
    devices = ", ".join(f"{one.name} ({one.description})" for one in system.devices)
    print(f"devices: {devices or 'none'}\n")
    marks = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}
    for finding in findings:
        print(f"{marks[finding.level]}  {finding.subject}: {finding.text}")
        if finding.fix is not None:
            print(f"{'':9}→ {finding.fix}")
