"""From a prompt of any kind to the tokens that the model reads.

Thread: any; everything used here is immutable after the load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shimmy.engine.types.prompt import ChatPrompt, InfillPrompt, TextPrompt, TokenPrompt
from shimmy.errors import ContextLengthError, InvalidRequestError
from shimmy.worker.infill import infill_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shimmy.engine.types.request import GenerateRequest
    from shimmy.llama.chat import Rendered
    from shimmy.llama.vocab import Vocab
    from shimmy.worker.chat import ChatRenderer


class PromptReader:
    """Reads prompts for one model."""

    def __init__(self, vocab: Vocab, chat: ChatRenderer, *, n_ctx: int, n_batch: int) -> None:
        """`n_ctx` is the most tokens one row may hold, `n_batch` the window around a gap."""
        self._vocab = vocab
        self._chat = chat
        self._n_ctx = n_ctx
        self._n_batch = n_batch

    def read(self, request: GenerateRequest) -> tuple[list[int], Rendered | None]:
        """Return a request's prompt, and how the answer is to be read if it is a conversation.

        Raises:
            ContextLengthError: the prompt leaves no room for a single token.
            InvalidRequestError: the prompt cannot be.
        """
        rendered: Rendered | None = None
        match request.prompt:
            case ChatPrompt():
                rendered, tokens = self._chat.render(request.prompt, request.sampling)
            case TextPrompt() | TokenPrompt():
                tokens = read_tokens(self._vocab, request.prompt, "prompt")
            case InfillPrompt():
                tokens = self._infill(request.prompt, request.max_tokens)
        tokens = tokens or self._empty()
        if len(tokens) >= self._n_ctx:
            raise ContextLengthError(len(tokens), self._n_ctx, param="prompt")
        return tokens, rendered

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
