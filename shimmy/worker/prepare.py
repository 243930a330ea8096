"""From a request to a task: render, tokenise, build the sampler and the parser.

Thread: a small pool beside the engine's thread; everything used here is immutable after the load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from shimmy.engine.types.prompt import ChatPrompt, Message, TextPrompt, TokenPrompt
from shimmy.engine.types.sampling import SamplingParams
from shimmy.errors import ContextLengthError, InvalidRequestError, LlamaError
from shimmy.llama.chat import ChatTemplate, OutputParser, Rendered
from shimmy.llama.row_sampler import RowSampler
from shimmy.worker.scheduler import Job
from shimmy.worker.task import Task

if TYPE_CHECKING:
    from shimmy.engine.types.request import GenerateRequest
    from shimmy.llama.model import Model
    from shimmy.llama.vocab import Vocab


class Preparer:
    """Turns requests into tasks for one model."""

    def __init__(self, model: Model, template: ChatTemplate, *, n_ctx: int) -> None:
        """`n_ctx` is the most tokens one row may hold, prompt and answer together."""
        self._model = model
        self._vocab: Vocab = model.vocab
        self._template = template
        self._n_ctx = n_ctx

    def prepare(self, request_id: int, request: GenerateRequest) -> Task:
        """Return a task ready to run.

        Raises:
            ContextLengthError: the prompt leaves no room for a single token.
            InvalidRequestError: whatever else in the request cannot be.
        """
        request.check()
        rendered: Rendered | None = None
        match request.prompt:
            case ChatPrompt():
                rendered = self._render(request.prompt, request.sampling)
                tokens = self._tokenize_rendered(rendered.prompt)
            case TextPrompt(text, add_special, parse_special):
                tokens = self.tokenize(text, add_special=add_special, parse_special=parse_special)
            case TokenPrompt(tokens):
                self._check_tokens(tokens)
        tokens = tokens or self._empty_prompt()
        if len(tokens) >= self._n_ctx:
            raise ContextLengthError(len(tokens), self._n_ctx, param="prompt")
        return self._task(request_id, request, tokens, rendered)

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Return the tokens of `text`."""
        return list(
            self._vocab.tokenize(text, add_special=add_special, parse_special=parse_special)
        )

    def _task(
        self,
        request_id: int,
        request: GenerateRequest,
        tokens: list[int],
        rendered: Rendered | None,
    ) -> Task:
        sampler = self._sampler(request.sampling, rendered)
        try:
            parser = _parser(rendered)
        except BaseException:
            sampler.close()
            raise
        return Task(
            job=Job(request_id, tokens),
            n_prompt=len(tokens),
            sampler=sampler,
            stops=[*request.stop, *(rendered.stop if rendered is not None else ())],
            max_tokens=request.max_tokens,
            parser=parser,
        )

    def _render(self, prompt: ChatPrompt, sampling: SamplingParams) -> Rendered:
        if prompt.json_schema is not None and sampling.grammar is not None:
            raise InvalidRequestError(
                "grammar and response_format both constrain the answer: give one of them",
                param="grammar",
            )
        conversation = {
            "messages": [_message(message) for message in prompt.messages],
            "tools": [
                {"type": "function", "function": msgspec.to_builtins(tool)} for tool in prompt.tools
            ],
            "tool_choice": prompt.tool_choice,
            "parallel_tool_calls": prompt.parallel_tool_calls,
            "json_schema": prompt.json_schema,
            "template_kwargs": prompt.template_kwargs,
        }
        if prompt.enable_thinking is not None:
            conversation["enable_thinking"] = prompt.enable_thinking
        try:
            return self._template.render(msgspec.json.encode(conversation))
        except (LlamaError, InvalidRequestError) as error:
            # the template is the model's, but what it refuses is the conversation
            raise InvalidRequestError(error.message, param="messages") from error

    def _tokenize_rendered(self, prompt: str) -> list[int]:
        """Tokenise a rendered template: its BOS, if it has one, is not doubled."""
        tokens = self.tokenize(prompt, add_special=True, parse_special=True)
        bos = self._vocab.bos
        if len(tokens) > 1 and tokens[0] == bos and tokens[1] == bos:
            del tokens[0]
        return tokens

    def _check_tokens(self, tokens: list[int]) -> None:
        n_vocab = self._vocab.n_tokens
        for token in tokens:
            if not 0 <= token < n_vocab:
                raise InvalidRequestError(
                    f"prompt: token {token} is not in the vocabulary of {n_vocab} tokens",
                    param="prompt",
                )

    def _empty_prompt(self) -> list[int]:
        """What stands for no prompt at all: the token that begins a text."""
        for token in (self._vocab.bos, self._vocab.eos):
            if token is not None:
                return [token]
        raise InvalidRequestError("the prompt is empty, and the model has no token to begin with")

    def _sampler(self, sampling: SamplingParams, rendered: Rendered | None) -> RowSampler:
        fields: dict[str, Any] = {
            name: value
            for name in SamplingParams.__struct_fields__
            if (value := getattr(sampling, name)) is not None
        }
        if rendered is not None:
            fields |= {name: value for name, value in rendered.sampler.items() if value != b"null"}
        try:
            return RowSampler(self._model, msgspec.json.encode(fields), n_ctx=self._n_ctx)
        except (LlamaError, InvalidRequestError) as error:
            param = "grammar" if "grammar" in error.message else None
            raise InvalidRequestError(error.message, param=param) from error


def _parser(rendered: Rendered | None) -> OutputParser | None:
    if rendered is None or bytes(rendered.parser) == b"null":
        return None
    return OutputParser(bytes(rendered.parser))


def _message(message: Message) -> dict[str, Any]:
    """Return a message in OpenAI's form, which llama.cpp's chat code reads."""
    out: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning is not None:
        out["reasoning_content"] = message.reasoning
    if message.tool_calls:
        out["tool_calls"] = [
            {
                "type": "function",
                "id": call.id,
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        out["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        out["name"] = message.name
    return out
