"""From a prompt of any kind to the tokens that the model reads.

Thread: any; everything used here is immutable after the load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shimmy.engine.types.prompt import ChatPrompt, InfillPrompt, TextPrompt, TokenPrompt
from shimmy.errors import ContextLengthError, InvalidRequestError
from shimmy.worker.infill import infill_tokens
from shimmy.worker.medium import Medium, Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shimmy.engine.types.request import GenerateRequest
    from shimmy.engine.types.sampling import SamplingParams
    from shimmy.llama.chat import Rendered
    from shimmy.llama.vocab import Vocab
    from shimmy.worker.chat import ChatRenderer
    from shimmy.worker.pictures import Pictures


class PromptReader:
    """Reads prompts for one model."""

    def __init__(
        self,
        vocab: Vocab,
        chat: ChatRenderer,
        pictures: Pictures | None,
        *,
        n_ctx: int,
        n_batch: int,
    ) -> None:
        """`n_ctx` is the most tokens one row may hold, `n_batch` the window around a gap.

        Without `pictures` the model sees no images.
        """
        self._vocab = vocab
        self._chat = chat
        self._pictures = pictures
        self._n_ctx = n_ctx
        self._n_batch = n_batch

    def read(
        self, request: GenerateRequest, wanted: Callable[[], bool]
    ) -> tuple[Reading, Rendered | None]:
        """Return a request's prompt, and how the answer is to be read if it is a conversation.

        Images are read only as long as the prompt is `wanted`, and computed only for one that can be.

        Raises:
            ContextLengthError: the prompt leaves no room for a single token.
            InvalidRequestError: the prompt cannot be, or is not wanted any more.

        `wanted` may raise what is said of a prompt that comes too late.
        """
        rendered: Rendered | None = None
        match request.prompt:
            case ChatPrompt():
                reading, rendered = self.chat(request.prompt, request.sampling, wanted)
            case TextPrompt() | TokenPrompt():
                reading = Reading(read_tokens(self._vocab, request.prompt, "prompt"))
            case InfillPrompt():
                reading = Reading(self._infill(request.prompt, request.max_tokens))
        if not reading.tokens:
            reading = Reading(self._empty())
        if len(reading.tokens) >= self._n_ctx:
            raise ContextLengthError(len(reading.tokens), self._n_ctx, param="prompt")
        if reading.tokens[-1] < 0:
            raise InvalidRequestError(
                "messages: the chat template ends with an image, and there is no token to go on from",
                param="messages",
            )
        self._compute(reading, wanted)
        return reading, rendered

    def chat(
        self, prompt: ChatPrompt, sampling: SamplingParams, wanted: Callable[[], bool]
    ) -> tuple[Reading, Rendered]:
        """Return a conversation's tokens with its images among them, and how its answer is to be read.

        The images are not computed yet; those that do not fit into the context are only counted.
        Raises `InvalidRequestError` where the template, or an image, cannot be.
        """
        if prompt.images and self._pictures is None:
            raise InvalidRequestError(
                "messages: this model sees no images; use one with a projector (--mmproj)",
                param="messages",
            )
        rendered, texts = self._chat.render(prompt, sampling)
        reading = Reading(texts[0])
        for i, text in enumerate(texts[1:]):
            _check_wanted(wanted)
            self._add_image(prompt.images[i], f"messages: image {i + 1}", reading)
            reading.tokens.extend(text)
        return reading, rendered

    def _add_image(self, data: bytes, name: str, reading: Reading) -> None:
        if self._pictures is None:
            return
        seen = self._pictures.see(data, name)
        # pictures hold their pixels until they are computed: no more of them than the context has room for
        fits = len(reading.tokens) + sum(map(len, seen.tokens)) < self._n_ctx
        if fits:
            reading.seen.append(seen)
        for i, tokens in enumerate(seen.tokens):
            start = len(reading.tokens)
            reading.tokens.extend(tokens)
            if fits and seen.picture.pieces[i].is_medium:
                reading.media.append(Medium(start, len(reading.tokens), seen.picture, i))

    def _compute(self, reading: Reading, wanted: Callable[[], bool]) -> None:
        if self._pictures is None or not reading.seen:
            return
        self._pictures.await_room(wanted)
        for seen in reading.seen:
            _check_wanted(wanted)
            self._pictures.compute(seen)

    def _infill(self, prompt: InfillPrompt, max_tokens: int | None) -> list[int]:
        """Leave room for the answer: a quarter of the context, if nothing else is said."""
        most = self._n_ctx // 4
        n_room = self._n_ctx - 1 - min(most if max_tokens is None else max_tokens, most)
        # three marks and BOS go around the window
        window = max(min(self._n_batch, n_room - 4), 0)
        return infill_tokens(self._vocab, prompt, n_window=window, n_room=n_room)

    def _empty(self) -> list[int]:
        """What stands for no prompt at all: the token that begins a text."""
        for token in (self._vocab.bos, self._vocab.eos):
            if token is not None:
                return [token]
        raise InvalidRequestError("the prompt is empty, and the model has no token to begin with")


def _check_wanted(wanted: Callable[[], bool]) -> None:
    if not wanted():
        raise InvalidRequestError("nobody waits for this request any more")


def read_tokens(vocab: Vocab, prompt: TextPrompt | TokenPrompt, param: str) -> list[int]:
    """Return the tokens of `prompt`, which `param` is called in errors."""
    if isinstance(prompt, TokenPrompt):
        check_tokens(vocab, prompt.tokens, param)
        return prompt.tokens
    return list(
        vocab.tokenize(
            prompt.text, add_special=prompt.add_special, parse_special=prompt.parse_special
        )
    )


def check_tokens(vocab: Vocab, tokens: Sequence[int], param: str) -> None:
    """Raise `InvalidRequestError` naming `param` for a token that the vocabulary lacks."""
    for token in tokens:
        if not 0 <= token < vocab.n_tokens:
            raise InvalidRequestError(
                f"{param}: token {token} is not in the vocabulary of {vocab.n_tokens} tokens",
                param=param,
            )
