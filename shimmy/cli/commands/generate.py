"""`shimmy generate`."""

from __future__ import annotations

import io
import sys

import click

from shimmy.cli.engine_flags import engine_flags, engine_options
from shimmy.cli.flags import GlobalFlags, global_flags
from shimmy.cli.image_flag import Shown, image_flag
from shimmy.cli.numbers import Real, Whole
from shimmy.cli.sections import SectionedCommand
from shimmy.engine.types.event import Delta, Finished
from shimmy.engine.types.options import EngineOptions
from shimmy.engine.types.prompt import ChatPrompt, Message, Prompt, TextPrompt
from shimmy.engine.types.request import GenerateRequest
from shimmy.engine.types.sampling import SamplingParams
from shimmy.errors import ImageError

_MAX_TOKENS = 256
_NO_PROMPT = "give a prompt: --prompt TEXT, or text on standard input"


@click.command(name="generate", cls=SectionedCommand)
@global_flags("model_dirs", "gpu_backend", "moe")
@click.argument("name", metavar="[NAME|PATH]", required=False)
@click.option("--prompt", metavar="TEXT", help="The prompt; '-' or none reads standard input.")
@click.option("--system", metavar="TEXT", help="A system message to put in front.")
@image_flag
@click.option("--raw", is_flag=True, help="Give the prompt as it is, without the chat template.")
@click.option(
    "-n",
    "--max-tokens",
    type=Whole(min=0),
    show_default=f"{_MAX_TOKENS}, or what the model's store says",
    metavar="N",
    help="Most tokens to generate.",
)
@click.option("--temperature", type=Real(), metavar="T", help="0 takes the most likely token.")
@click.option("--top-p", type=Real(), metavar="P", help="Nucleus sampling.")
@click.option("--top-k", type=Whole(), metavar="K", help="Sample from the K most likely tokens.")
@click.option("--min-p", type=Real(), metavar="P", help="Least probability, relative to the best.")
@click.option("--seed", type=Whole(), metavar="N", help="The same seed gives the same text.")
@click.option("--stop", multiple=True, metavar="TEXT", help="Stop before this; may be repeated.")
@engine_flags
@click.option("--no-stream", is_flag=True, help="Print the text when it is complete.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document at the end.")
def command(
    flags: GlobalFlags,
    *,
    name: str | None,
    prompt: str | None,
    system: str | None,
    shown: Shown,
    raw: bool,
    max_tokens: int | None,
    stop: tuple[str, ...],
    engine: dict[str, object],
    no_stream: bool,
    as_json: bool,
    **sampling: float | None,
) -> None:
    """Generate text to standard output."""
    import asyncio

    import msgspec

    from shimmy.cli.console import print_json
    from shimmy.cli.models import find
    from shimmy.models.defaults import with_defaults

    for flag, given in (("--system", system is not None), ("--image", bool(shown.names))):
        if raw and given:
            raise click.UsageError(f"--raw cannot be used with {flag}")
    request = GenerateRequest(
        prompt=_prompt(_read(prompt), system, shown, raw=raw),
        sampling=msgspec.convert(
            {key: value for key, value in sampling.items() if value is not None}, SamplingParams
        ),
        max_tokens=_MAX_TOKENS if max_tokens is None else max_tokens,
        stop=list(stop),
    )
    request.check()
    entry = find(flags, name)
    request = with_defaults(request, entry.parameters, entry.system, limited=max_tokens is not None)
    if sys.stderr.isatty():
        click.echo(f"{entry.title}, {entry.path}", err=True)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without UTF-8 is no reason to stop
    options = entry.options(engine_options(flags, engine, n_parallel=1, log_level="error"))
    if shown.names:
        options = shown.must_be_seen(options, entry)
    stream = not (no_stream or as_json)
    try:
        text, end = asyncio.run(_generate(options, request, stream=stream))
    except ImageError as error:
        raise shown.named(error) from error
    if as_json:
        print_json(
            {
                "model": entry.name,
                "text": text,
                "finish_reason": end.reason,
                "stop": end.stop,
                "usage": msgspec.structs.asdict(end.usage),
                "timings": msgspec.structs.asdict(end.timings),
            }
        )
    else:
        _write("" if stream else text)
        _write("" if text.endswith("\n") else "\n")


def _read(prompt: str | None) -> str:
    if prompt is not None and prompt != "-":
        return prompt
    if prompt is None and sys.stdin.isatty():
        raise click.UsageError(_NO_PROMPT)
    text = sys.stdin.buffer.read().decode("utf-8", "replace").removesuffix("\n")
    if not text:
        raise click.UsageError(_NO_PROMPT)
    return text


def _prompt(text: str, system: str | None, shown: Shown, *, raw: bool) -> Prompt:
    if raw:
        return TextPrompt(text)
    messages = [Message(role="user", content=shown.marks + text)]
    if system is not None:
        messages.insert(0, Message(role="system", content=system))
    return ChatPrompt(messages=messages, images=shown.images.files, image_mark=shown.images.mark)


async def _generate(
    options: EngineOptions, request: GenerateRequest, *, stream: bool
) -> tuple[str, Finished]:
    """Run the request in a worker of its own; return the whole text and how it ended."""
    from shimmy.engine import Engine

    pieces: list[str] = []
    async with Engine.child(options) as engine:
        await engine.ready()
        async with engine.generate(request) as generation:
            async for event in generation:
                if isinstance(event, Delta):
                    pieces.append(event.text)
                    if stream:
                        _write(event.text)
                elif isinstance(event, Finished):
                    return "".join(pieces), event
    raise AssertionError("a generation ends with Finished or an error")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
