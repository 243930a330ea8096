"""The demo model's vocabulary: byte-level BPE, cut by the same regex that llama.cpp uses for `qwen2`."""

from __future__ import annotations

import itertools
import json
import random
import re
from typing import TYPE_CHECKING

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from training.corpus.document import render
from training.corpus.mixture import documents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VOCABULARY = 2048
SEED = 11435
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MARKS = [
    "<tools>",
    "</tools>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
]

# llama.cpp's own pattern for the pre-tokeniser `qwen2` (src/llama-vocab.cpp); digits stand alone
QWEN2 = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_MARK = re.compile("|".join(re.escape(mark) for mark in CONTROL + MARKS))
_SAMPLE = 30_000


def _texts() -> Iterator[str]:
    """Yield text between marks. All slot words are invented here, so that no name becomes one token:
    names then have the same pieces after a space and after a quote, and copying them is easy.
    """
    for document in itertools.islice(documents(random.Random(SEED), invented=1.0), _SAMPLE):
        yield from filter(None, _MARK.split(render(document)))


def train(path: Path) -> Tokenizer:
    """Train the vocabulary and write it to `path`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN2), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(CONTROL) - len(MARKS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in CONTROL])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in MARKS])
    if tokenizer.get_vocab_size() != VOCABULARY:
        message = f"the vocabulary has {tokenizer.get_vocab_size()} tokens, not {VOCABULARY}"
        raise ValueError(message)
    tokenizer.save(str(path))
    return tokenizer


def load(path: Path) -> Tokenizer:
    """Read a vocabulary that `train` wrote."""
    return Tokenizer.from_file(str(path))


def tokens_and_merges(tokenizer: Tokenizer) -> tuple[list[str], list[str]]:
    """Return all tokens by id and the merges, as GGUF stores them."""
    by_id = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    joined = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    return [token for token, _ in by_id], joined
