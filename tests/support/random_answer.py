"""Answers of a model that knows nothing: random tokens, within what the grammar allows."""

from __future__ import annotations

import msgspec
import numpy as np

from shimmy.llama import Model
from shimmy.llama._ffi import ffi, lib
from shimmy.llama.chat import Rendered
from shimmy.llama.row_sampler import RowSampler

_CLOSING = '"}]>\n'
# begun now and then: chance alone does not find them
_MARKERS = (b"\n</parameter>\n", b"</tool_call>", b"</think>")


def random_answer(model: Model, rendered: Rendered, seed: int, *, most: int = 600) -> str | None:
    """Return a whole answer, or None if it did not end within `most` tokens.

    What closes strings, objects and tags is likelier, so that answers stay short.
    """
    rng = np.random.default_rng(seed)
    vocab = model.vocab
    pieces = [vocab.token_to_piece(token, special=True) for token in range(vocab.n_tokens)]
    lift = np.array([3.0 if piece.decode("latin-1")[-1:] in _CLOSING else 0.0 for piece in pieces])
    lift += np.array([0.0 if piece.isascii() else -60.0 for piece in pieces])
    single = {piece: token for token, piece in enumerate(pieces) if len(piece) == 1}
    out, marker = b"", b""
    fields = {"seed": seed, "temperature": 1.0, "top_k": 0, "min_p": 0.0, "top_p": 1.0}
    encoded = msgspec.json.encode(fields | rendered.sampler)
    with RowSampler(model, encoded, n_ctx=4096, grammar=rendered.format.grammar) as sampler:
        for _ in range(most):
            logits = (rng.normal(size=len(pieces)) + lift).astype(np.float32)
            if not marker and rng.random() < 0.05:
                marker = _MARKERS[rng.integers(len(_MARKERS))]
            if marker:
                logits[single[marker[:1]]] += 50
            buffer = ffi.from_buffer("float[]", logits)
            token = lib.shm_sampler_draw(sampler.ptr, buffer)
            assert token >= 0, ffi.string(lib.shm_last_error())
            if vocab.is_eog(token):
                return out.decode("utf-8", "replace")
            out += pieces[token]
            marker = marker[1:] if pieces[token] == marker[:1] else b""
    return None
