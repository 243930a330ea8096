"""The samplers of requests, and the grammars that they had last.

Thread: any; what is kept locks.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import msgspec

from shimmy.engine.types.prompt import ChatPrompt
from shimmy.engine.types.sampling import MAX_SEED, SamplingParams
from shimmy.errors import InvalidRequestError, LlamaError
from shimmy.llama.grammar import Grammar
from shimmy.llama.row_sampler import RowSampler
from shimmy.worker.lru import Lru
from shimmy.worker.schema import answer_schema, schema_field

if TYPE_CHECKING:
    from shimmy.engine.types.request import GenerateRequest
    from shimmy.llama.chat import Rendered
    from shimmy.llama.model import Model

# each may take a megabyte more, compiled
_MAX_GRAMMARS = 64
_MAX_BYTES = 16 << 20
_GBNF, _SCHEMA = b"g", b"s"


class Samplers:
    """Makes the samplers of one model's rows."""

    def __init__(self, model: Model, *, n_ctx: int) -> None:
        """`n_ctx` is the most tokens one row may hold."""
        self._model = model
        self._n_ctx = n_ctx
        self._grammars: Lru[Grammar] = Lru(_MAX_GRAMMARS, _MAX_BYTES)
        self._seeds = random.Random()  # noqa: S311  it keeps no secret

    def make(self, request: GenerateRequest, rendered: Rendered | None, choice: int) -> RowSampler:
        """Make the sampler of a request's choice; `rendered` is its conversation, if it is one.

        Raises:
            InvalidRequestError: it cannot be; names the field that a grammar is from.
        """
        sampling = self._seeded(request.sampling, choice)
        fields: dict[str, Any] = {
            name: value
            for name in SamplingParams.__struct_fields__
            if (value := getattr(sampling, name)) is not None
        }
        source, schema = fields.pop("grammar", None), fields.pop("json_schema", None)
        grammar = None
        if rendered is None:
            schema = answer_schema(request.prompt, sampling)
        else:
            # the template's output has it, as a grammar
            schema, grammar = None, rendered.format.grammar
            fields |= {name: value for name, value in rendered.sampler.items() if value != b"null"}
        key = b""
        if grammar is None:
            key = _key(source, schema)
            grammar = self._grammar(key)
        try:
            encoded = msgspec.json.encode(fields)
            sampler = RowSampler(self._model, encoded, n_ctx=self._n_ctx, grammar=grammar)
        except (LlamaError, InvalidRequestError) as error:
            param = grammar_field(request) if _is_about_grammar(error.message) else None
            raise InvalidRequestError(error.message, param=param) from error
        if grammar is not None and key:
            self._grammars.keep(key, grammar)
        return sampler

    def _seeded(self, sampling: SamplingParams, choice: int) -> SamplingParams:
        """Give a choice a seed of its own: any, or the request's, the next one, and so on."""
        seed = sampling.seed
        if seed is None or seed == MAX_SEED:
            # llama.cpp would ask the system for each step of a chain, some 10 µs every time
            seed = self._seeds.randrange(MAX_SEED)
        # the last one stands for a random seed to llama.cpp
        return msgspec.structs.replace(sampling, seed=(seed + choice) % MAX_SEED)

    def _grammar(self, key: bytes) -> Grammar | None:
        if not key:
            return None
        found = self._grammars.find(key)
        return found or Grammar.of(key[1:], is_schema=key[:1] == _SCHEMA)


def grammar_field(request: GenerateRequest) -> str:
    """Return the field that a request's grammar is from."""
    schema = schema_field(request.prompt, request.sampling)
    if schema is not None:
        return schema
    is_raw = not isinstance(request.prompt, ChatPrompt)
    return "grammar" if is_raw or request.sampling.grammar is not None else "tools"


def _key(source: str | None, schema: dict[str, Any] | None) -> bytes:
    """Return what a grammar is known by; nothing if there is none."""
    if source:
        return _GBNF + source.encode()
    return b"" if schema is None else _SCHEMA + msgspec.json.encode(schema)


def _is_about_grammar(message: str) -> bool:
    return "grammar" in message or "schema" in message
