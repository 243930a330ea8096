"""What `shimmy serve` says of itself: only what is there."""

from __future__ import annotations

import asyncio

import click

from shimmy.cli.console import is_lively, sized, stdout, styled
from shimmy.engine import Engine
from shimmy.engine.types.info import ModelInfo
from shimmy.models.entry import ModelEntry

_LABEL_WIDTH = 11
# Seconds of a load until its progress is shown, and between two looks at it.
_PATIENCE = 0.5
_TICK = 0.1


def url_of(address: tuple[str, int]) -> str:
    """Return an address as a URL that a browser on this machine can open."""
    host, port = address
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - nothing is bound here
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Banner:
    """Prints the start of a server: first what is known at once, then what the worker reports."""

    def __init__(self, address: tuple[str, int]) -> None:
        """Write to standard output; the server listens on `address`."""
        self._address = address

    def opening(self, version: str, entry: ModelEntry, n_models: int) -> None:
        """Say what is known before anything is loaded."""
        host, port = self._address
        click.echo(styled(f"shimmy {version}", bold=True))
        self._line("listening", f"{host}:{port}")
        self._line("model", f"{entry.title}, {sized(entry.size)}, {entry.path}")
        if n_models > 1:
            self._line("models", f"{n_models} to choose from (`shimmy list`); loaded on request")

    async def loading(self, engine: Engine) -> ModelInfo:
        """Show the progress of the first load until it is done; return what was loaded.

        Raises:
            ShimmyError: the load failed.
        """
        ready = asyncio.ensure_future(engine.ready())
        try:
            await asyncio.wait({ready}, timeout=_PATIENCE if is_lively() else None)
            if not ready.done():
                await _follow(engine, ready)
            return ready.result()
        finally:
            ready.cancel()

    def ready(self, info: ModelInfo) -> None:
        """Say what runs where, and where to send requests."""
        layers = f", {info.n_gpu_layers} layers on a GPU" if info.n_gpu_layers else ""
        self._line("devices", (", ".join(info.devices) or "CPU") + layers)
        self._line("threads", str(info.n_threads))
        limit = f", each up to {info.n_ctx_train}" if info.n_ctx_train < info.n_ctx else ""
        self._line("context", f"{info.n_ctx} tokens for {info.n_parallel} slots{limit}")
        url = url_of(self._address)
        self._line("OpenAI", f"{url}/v1")
        self._line("Anthropic", url)
        self._line("native", f"{url}/api/generate")
        self._line("health", f"{url}/health")
        took = f" after {info.load_ms / 1000:.2f} s of loading; Ctrl-C ends"
        click.echo(styled("ready", bold=True, fg="green") + took)

    def _line(self, label: str, text: str) -> None:
        click.echo(styled(f"{label:<{_LABEL_WIDTH}}", dim=True) + text)


async def _follow(engine: Engine, ready: asyncio.Future[ModelInfo]) -> None:
    """Draw a bar until `ready` is done."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    bar = Progress(
        TextColumn("loading".ljust(_LABEL_WIDTH - 1)),
        BarColumn(),
        TaskProgressColumn(),
        console=stdout(),
        transient=True,
    )
    with bar:
        task = bar.add_task("load", total=1.0)
        while not ready.done():
            await asyncio.wait({ready}, timeout=_TICK)
            bar.update(task, completed=engine.progress)
