"""What the commands for a loaded model hold, and the answers to those that need no decode."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from shimmy.engine.types.frame import (
    Detokenize,
    Embed,
    Loras,
    Pieces,
    Render,
    Rendering,
    Rerank,
    SetLoras,
    Submit,
    Tokenize,
    Tokens,
)
from shimmy.engine.types.prompt import ChatPrompt
from shimmy.worker.schema import schema_field

if TYPE_CHECKING:
    from collections.abc import Callable

    from shimmy.engine.types.frame import Answer
    from shimmy.worker.adapters import Adapters
    from shimmy.worker.prepare import Preparer

Question = Tokenize | Detokenize | Render | Embed | Rerank | Loras | SetLoras
"""Calls about the model, not about what runs."""


def answer(preparer: Preparer, command: Question, wanted: Callable[[], bool]) -> Answer:
    """Return the answer to a question that needs no decode; raises if it is not `wanted` any more."""
    match command:
        case Tokenize(call_id, text, add_special, parse_special):
            tokens = preparer.tokenize(text, add_special=add_special, parse_special=parse_special)
            return Tokens(call_id, tokens)
        case Detokenize(call_id, tokens):
            return Pieces(call_id, preparer.detokenize(tokens))
        case Render(call_id, prompt):
            return Rendering(call_id, *preparer.render(prompt, wanted))
        case _:
            raise TypeError(f"{type(command).__name__} is not a question")


def with_defaults(command: Submit, adapters: Adapters) -> Submit:
    """Settle the default adapters of a request as it comes: they may change before it is prepared."""
    if not len(adapters) or command.request.lora is not None:
        return command
    request = msgspec.structs.replace(command.request, lora=dict(adapters.defaults))
    return Submit(command.id, request)


def has_images(command: Submit | Question) -> bool:
    """Whether images are to be read for a command."""
    match command:
        case Submit(_, request):
            prompt = request.prompt
        case Render(_, prompt):
            pass
        case _:
            return False
    return isinstance(prompt, ChatPrompt) and bool(prompt.images)


def has_grammar(command: Submit | Question) -> bool:
    """Whether a grammar, or a schema that becomes one, constrains the answer."""
    if not isinstance(command, Submit):
        return False
    request = command.request
    schema = schema_field(request.prompt, request.sampling)
    return schema is not None or request.sampling.grammar is not None
