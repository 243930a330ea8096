"""`shimmy pull`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from shimmy.models.entry import ModelEntry
    from shimmy.models.hub.remote import Pull
    from shimmy.models.hub.spec import RepoSpec, UrlSpec


@click.command(name="pull")
@click.argument("spec", metavar="SPEC")
@click.option("--no-mmproj", is_flag=True, help="Leave out a multimodal model's projector.")
@click.option("--force", is_flag=True, help="Fetch what is larger than all memory here, too.")
@click.option("--dry-run", is_flag=True, help="Say what would be fetched, and fetch nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(spec: str, *, no_mmproj: bool, force: bool, dry_run: bool, as_json: bool) -> None:
    """Fetch a model from a Hugging Face hub or a URL.

    SPEC is hf:org/repo[:quantisation] (or org/repo), the URL of a .gguf file, or a name that
    `shimmy recommend` shows. What was interrupted goes on where it stopped.
    """
    import asyncio

    from shimmy.cli.console import sized
    from shimmy.models.hub.locate import locate
    from shimmy.models.hub.place import pull_root

    wanted = _meant(spec)
    pull = asyncio.run(locate(wanted, pull_root(), mmproj=not no_mmproj))
    if not force:
        _check_memory(pull)
    pull.check_space()
    if not as_json:
        for file in pull.files:
            click.echo(f"{file.name}  {sized(file.size)}")
        click.echo(f"to fetch: {sized(pull.to_fetch)} of {sized(pull.size)}, into {pull.folder}")
        if pull.mmproj is not None:
            click.echo(f"with its projector, {pull.mmproj}; --no-mmproj leaves it out")
    if not dry_run:
        _fetch(pull, spec)
    entry = None if dry_run else _entry(pull)
    if as_json:
        _print_json(pull, entry)
    elif entry is not None:
        click.echo(f"done: {entry.name}" + (", which sees images" if entry.sees else ""))
        click.echo(f"serve it with: shimmy serve --model-path {pull.main}")


def _meant(text: str) -> RepoSpec | UrlSpec:
    from shimmy.models.catalogue import catalogue
    from shimmy.models.hub.spec import CatalogueSpec, RepoSpec, parse

    spec = parse(text)
    if isinstance(spec, CatalogueSpec):
        model = catalogue().find(spec.name)
        return RepoSpec(repo=model.repo, quant=spec.quant or model.quant)
    return spec


def _check_memory(pull: Pull) -> None:
    """Refuse what no memory of this machine could hold, before it is fetched.

    Raises:
        PullError: main memory and the GPUs' together are smaller than the files.
    """
    import asyncio

    from shimmy.cli.console import sized
    from shimmy.engine.system import describe_system
    from shimmy.errors import BackendError, PullError
    from shimmy.machine.memory import main_memory

    memory = main_memory().total
    if pull.size <= memory:
        return
    try:
        devices = asyncio.run(describe_system()).devices
        memory += sum(d.memory_total for d in devices if d.kind == "gpu" and d.problem is None)
    except BackendError:
        pass  # no GPU that could be used
    if pull.size > memory:
        raise PullError(
            f"{sized(pull.size)} are more than all memory of this machine, {sized(memory)}: take a "
            "smaller quantisation, or --force to fetch it all the same"
        )


def _fetch(pull: Pull, spec: str) -> None:
    import asyncio

    from shimmy.cli.pulling import shown
    from shimmy.errors import UnreachableError
    from shimmy.models.hub.download import download

    try:
        with shown(pull) as progress:
            asyncio.run(download(pull, progress))
    except KeyboardInterrupt:
        click.echo(f"\ninterrupted: `shimmy pull {spec}` goes on where it stopped", err=True)
        raise
    except UnreachableError as error:
        raise UnreachableError(
            f"{error.message}; `shimmy pull {spec}` goes on where it stopped"
        ) from error


def _entry(pull: Pull) -> ModelEntry:
    """Return the model as a server of this folder has it, or else as the file by itself."""
    from shimmy.cli.flags import GlobalFlags
    from shimmy.cli.models import registry
    from shimmy.models.registry import register

    path = str(pull.main)
    entries = registry(GlobalFlags()).entries()
    return next((entry for entry in entries if entry.path == path), None) or register(pull.main)


def _print_json(pull: Pull, entry: ModelEntry | None) -> None:
    from shimmy.cli.console import print_json

    files = [{"path": str(pull.path(file)), "size": file.size} for file in pull.files]
    body = {
        "name": entry.name if entry else None,
        "quant": pull.quant,
        "size": pull.size,
        "files": files,
        "mmproj": pull.mmproj,
        "sees": entry.sees if entry else None,
    }
    print_json(body)
