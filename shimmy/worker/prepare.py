"""From a request to a task: render, tokenise, build the sampler and the parser.

Thread: a small pool beside the engine's thread; what is used here is immutable after the load, or locks.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from shimmy.engine.types.prompt import ChatPrompt, TextPrompt
from shimmy.engine.types.sampling import SamplingParams
from shimmy.errors import InvalidRequestError
from shimmy.llama.chat import ChatTemplate, OutputParser, Rendered
from shimmy.worker.chat import ChatRenderer
from shimmy.worker.job import Job
from shimmy.worker.logprobs import TokenBytes
from shimmy.worker.prompt import PromptReader, check_tokens, read_tokens
from shimmy.worker.samplers import Samplers, grammar_field
from shimmy.worker.task import Choices, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shimmy.engine.types.request import GenerateRequest
    from shimmy.llama.model import Model
    from shimmy.llama.vocab import Vocab
    from shimmy.worker.adapters import Adapters
    from shimmy.worker.medium import Reading
    from shimmy.worker.pictures import Pictures


MAX_SCORES = 1_000_000
"""Log-probabilities of a prompt in one answer."""


class Preparer:
    """Turns requests into tasks for one model."""

    def __init__(
        self,
        model: Model,
        template: ChatTemplate,
        adapters: Adapters,
        *,
        n_ctx: int,
        n_slots: int,
        n_batch: int,
        pictures: Pictures | None = None,
    ) -> None:
        """`n_ctx` is the most tokens one row may hold, prompt and answer together."""
        self._adapters = adapters
        self._vocab: Vocab = model.vocab
        chat = ChatRenderer(model.vocab, template)
        self._prompts = PromptReader(self._vocab, chat, pictures, n_ctx=n_ctx, n_batch=n_batch)
        self._token_bytes = TokenBytes(self._vocab)
        self._samplers = Samplers(model, n_ctx=n_ctx)
        self._n_slots = n_slots
        # Jobs have numbers of their own, in the order in which they were prepared.
        self._job_ids = itertools.count(1)

    def prepare(
        self, request_id: int, request: GenerateRequest, wanted: Callable[[], bool]
    ) -> list[Task]:
        """Return a task for each choice, ready to run; images are read and computed only while it is `wanted`.

        Raises:
            ContextLengthError: the prompt leaves no room for a single token.
            InvalidRequestError: whatever else in the request cannot be.
        """
        request.check()
        if request.n > self._n_slots:
            raise InvalidRequestError(
                f"n: {request.n} choices are more than the {self._n_slots} slots; "
                "ask for fewer, or start the server with a larger -np",
                param="n",
            )
        check_tokens(self._vocab, request.stop_token_ids, "stop_token_ids")
        check_tokens(self._vocab, list(request.sampling.logit_bias), "logit_bias")
        loras = self._adapters.chosen(request.lora)
        reading, rendered = self._prompts.read(request, wanted)
        self._check_scores(request, reading)
        choices = Choices(request_id, request.n, loras)
        tasks: list[Task] = []
        try:
            tasks.extend(
                self._task(request, reading, rendered, choices, choice)
                for choice in range(request.n)
            )
        except BaseException:
            for task in tasks:
                task.close()
            raise
        return tasks

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Return the tokens of `text`."""
        prompt = TextPrompt(text, add_special=add_special, parse_special=parse_special)
        return read_tokens(self._vocab, prompt, "text")

    def detokenize(self, tokens: Sequence[int]) -> list[bytes]:
        """Return the bytes of each token."""
        check_tokens(self._vocab, tokens, "tokens")
        return [self._token_bytes[token] for token in tokens]

    def render(self, prompt: ChatPrompt, wanted: Callable[[], bool]) -> tuple[str, int]:
        """Return the text of a conversation as the model reads it, and its length in tokens."""
        reading, rendered = self._prompts.chat(prompt, SamplingParams(), wanted)
        return rendered.prompt, len(reading.tokens)

    def _check_scores(self, request: GenerateRequest, reading: Reading) -> None:
        if request.prompt_logprobs is None:
            return
        if reading.media:
            raise InvalidRequestError(
                "prompt_logprobs: a prompt with images has none", param="prompt_logprobs"
            )
        n_prompt = len(reading.tokens)
        n_scores = n_prompt * (1 + request.prompt_logprobs)
        if n_scores > MAX_SCORES:
            raise InvalidRequestError(
                f"prompt_logprobs: {n_prompt} tokens with {request.prompt_logprobs} others each "
                f"are more than {MAX_SCORES} log-probabilities: ask for fewer",
                param="prompt_logprobs",
            )

    def _task(
        self,
        request: GenerateRequest,
        reading: Reading,
        rendered: Rendered | None,
        choices: Choices,
        choice: int,
    ) -> Task:
        first = choice == 0
        scores = request.prompt_logprobs if first else None
        sampler = self._samplers.make(request, rendered, choice)
        try:
            parser = _parser(rendered)
        except BaseException:
            sampler.close()
            raise
        return Task(
            job=Job(
                next(self._job_ids),
                list(reading.tokens),
                media=reading.media,
                # the other choices share what the first takes in
                fresh=first and (scores is not None or not request.cache_prompt),
                scored=scores is not None,
                loras=choices.loras,
            ),
            choices=choices,
            n_prompt=len(reading.tokens),
            sampler=sampler,
            stops=[*request.stop, *(rendered.stop if rendered is not None else ())],
            max_tokens=request.max_tokens,
            min_tokens=request.min_tokens,
            stop_tokens=request.stop_token_ids,
            choice=choice,
            logprobs=request.logprobs,
            prompt_logprobs=scores,
            token_bytes=self._token_bytes,
            # evaluation harnesses cut one generated token off a scored prompt, whatever it is
            tells_end=request.prompt_logprobs is not None,
            parser=parser,
            n_keep=request.n_keep,
            grammar_field=grammar_field(request),
        )


def _parser(rendered: Rendered | None) -> OutputParser | None:
    if rendered is None or bytes(rendered.parser) == b"null":
        return None
    return OutputParser(bytes(rendered.parser), rendered.format)
