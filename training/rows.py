"""Training rows: documents as tokens, packed to one length, with a weight for every target."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from training.corpus.document import Chat, render

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from training.corpus.document import Document

# what the model only reads still teaches it a little, above all to copy
READ_WEIGHT = 0.15
_BATCH = 512


def _weights(ids: NDArray[np.int64], opening: list[int], closing: int) -> NDArray[np.float32]:
    """Weigh a chat's tokens: 1 for what the model says, its closing mark included."""
    weights = np.full(len(ids), READ_WEIGHT, np.float32)
    at = np.flatnonzero(ids[:-2] == opening[0])
    for start in at[(ids[at + 1] == opening[1]) & (ids[at + 2] == opening[2])]:
        end = start + 3 + int(np.argmax(ids[start + 3 :] == closing))
        weights[start + 3 : end + 1] = 1.0
    return weights


def pieces(
    tokenizer: Tokenizer, source: Iterator[Document]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Yield every document's tokens and their weights."""
    opening = tokenizer.encode("<|im_start|>assistant\n").ids
    closing: int = tokenizer.encode("<|im_end|>").ids[0]
    while batch := list(itertools.islice(source, _BATCH)):
        encodings = tokenizer.encode_batch([render(document) for document in batch])
        for document, encoding in zip(batch, encodings, strict=True):
            ids = np.array(encoding.ids)
            whole = np.ones(len(ids), np.float32)
            yield ids, _weights(ids, opening, closing) if isinstance(document, Chat) else whole


def pack(
    tokenizer: Tokenizer, source: Iterator[Document], count: int, length: int
) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """Return `count` rows of `length + 1` tokens, and their weights.

    Each row starts with a document's start, as prompts do; its last document is cut.
    """
    tokens = np.zeros((count, length + 1), np.uint16)
    weights = np.zeros((count, length + 1), np.float32)
    row = filled = 0
    for ids, weight in pieces(tokenizer, source):
        room = min(len(ids), length + 1 - filled)
        tokens[row, filled : filled + room] = ids[:room]
        weights[row, filled : filled + room] = weight[:room]
        filled += room
        if filled == length + 1:
            row, filled = row + 1, 0
            if row == count:
                break
    return tokens, weights
