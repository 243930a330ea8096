"""The top of the command line: global flags, commands loaded by name, errors turned into exits."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click

from shimmy.cli.flags import GlobalFlags, global_flags
from shimmy.errors import ShimmyError

# name: (module under shimmy.cli.commands, help line). The line stands here so that `shimmy --help`
# imports no command; a test holds that it is the command's own.
COMMANDS = {
    "serve": ("serve", "Serve models over HTTP until SIGTERM or Ctrl-C."),
    "list": ("list", "List the models that can be served."),
    "discover": ("discover", "Search the model folders again and show what is there."),
    "inspect": ("inspect", "Show what a GGUF file is, from its header alone."),
    "recommend": ("recommend", "Name the models that fit this machine, the best first."),
    "pull": ("pull", "Fetch a model from a Hugging Face hub or a URL."),
    "rm": ("rm", "Remove a model that was pulled."),
    "plan": ("plan", "Say what a model would take here, and how it would be loaded."),
    "probe": ("probe", "Load a model once and report its figures."),
    "generate": ("generate", "Generate text to standard output."),
    "config": ("config", "Show every setting, its value and where it comes from."),
    "bench": ("bench", "Measure the speed of a model, here or behind a URL."),
    "gpu-info": ("gpu_info", "Show the backends and devices that ggml reports."),
    "doctor": (
        "doctor",
        "Say why a GPU is not used and what would change it; a report for bug tickets.",
    ),
}

EXIT_FAILURE = 1
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


class Shimmy(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - Click's signature
        """Return the names in the order of the help text."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"shimmy.cli.commands.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; of one that there is not, name those that are meant perhaps."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            import difflib

            alike = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f"did you mean {alike[0]!r}?" if alike else "`shimmy --help` lists them"
            ctx.fail(f"there is no command {name!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a reader that leaves (`shimmy list | head -1`) ends it quietly."""
        try:
            status = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # the interpreter's own flush at exit must not trip over it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(EXIT_BROKEN_PIPE)
        return status

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run, and end the process: errors we expect are one sentence on stderr."""
        extra["standalone_mode"] = False
        try:
            status = super().main(*args, **extra)
        except (click.Abort, KeyboardInterrupt):
            sys.exit(EXIT_INTERRUPTED)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except ShimmyError as error:
            click.echo(f"error: {error.message}", err=True)
            sys.exit(EXIT_FAILURE)
        sys.exit(status if isinstance(status, int) else 0)


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from shimmy import __version__

        click.echo(f"shimmy {__version__}")
        ctx.exit()


@click.group(
    cls=Shimmy,
    name="shimmy",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Global flags may stand before or after the command.",
)
@click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and exit.",
)
@global_flags("config", "model_dirs", "gpu_backend", "moe")
@click.pass_context
def main(ctx: click.Context, flags: GlobalFlags) -> None:
    """Local inference server and library for GGUF models, over llama.cpp."""
    ctx.obj = flags
