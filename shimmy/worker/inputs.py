"""From texts to embed or to rank to tokens. Thread: any; the model is immutable after the load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shimmy.errors import ContextLengthError, InvalidRequestError
from shimmy.worker.prompt import read_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shimmy.engine.types.info import ModelKind
    from shimmy.engine.types.prompt import TextPrompt, TokenPrompt
    from shimmy.llama.model import Model
    from shimmy.llama.vocab import Vocab


class InputReader:
    """Reads what a model of `kind` is to embed; `n_ctx` is the most tokens of one input."""

    def __init__(self, model: Model, kind: ModelKind, *, n_ctx: int) -> None:
        """Keep the reranker's template, if the model has one."""
        self._vocab: Vocab = model.vocab
        self._kind = kind
        self._n_ctx = n_ctx
        self._template = model.chat_template("rerank") if kind == "reranker" else None

    def embed(self, inputs: Sequence[TextPrompt | TokenPrompt]) -> list[list[int]]:
        """Return the tokens of each input.

        Raises:
            ContextLengthError: an input is longer than the model takes.
            InvalidRequestError: an input is empty, or the model is a reranker.
        """
        if self._kind == "reranker":
            raise InvalidRequestError(
                "this model is a reranker: it scores documents and makes no embeddings",
                param="model",
            )
        return [self._checked(read_tokens(self._vocab, one, "input"), "input") for one in inputs]

    def rank(self, query: str, documents: Sequence[str]) -> list[list[int]]:
        """Return the tokens of the query with each document.

        Raises:
            ContextLengthError: a pair is longer than the model takes.
            InvalidRequestError: the model is no reranker.
        """
        if self._kind != "reranker":
            raise InvalidRequestError(
                "this model is no reranker: load one whose GGUF has pooling type rank",
                param="model",
            )
        return [self._checked(self._pair(query, one), "documents") for one in documents]

    def _pair(self, query: str, document: str) -> list[int]:
        """Join the two as llama-server does: by the model's template, else by its end tokens."""
        vocab = self._vocab
        if self._template is not None:
            # split before anything is put in: a query may hold the other placeholder
            parts = [
                part.replace("{document}", document) for part in self._template.split("{query}")
            ]
            return vocab.tokenize(query.join(parts), add_special=False, parse_special=True)
        end = vocab.eos if vocab.eos is not None else vocab.sep
        ends = [end] if vocab.add_eos and end is not None else []
        parted = [vocab.sep] if vocab.add_sep and vocab.sep is not None else []
        first = [vocab.bos] if vocab.add_bos and vocab.bos is not None else []
        left = vocab.tokenize(query, add_special=False)
        right = vocab.tokenize(document, add_special=False)
        return [*first, *left, *ends, *parted, *right, *ends]

    def _checked(self, tokens: list[int], param: str) -> list[int]:
        if not tokens:
            raise InvalidRequestError(f"{param} must not hold an empty text", param=param)
        if len(tokens) > self._n_ctx:
            raise ContextLengthError(len(tokens), self._n_ctx, param=param)
        return tokens
