"""A model's vocabulary: text to tokens and back, special tokens."""

from __future__ import annotations

from enum import IntFlag, StrEnum
from typing import TYPE_CHECKING

from shimmy.errors import InvalidRequestError
from shimmy.llama import _checks
from shimmy.llama._ffi import CData, check, ffi, lib, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shimmy.llama.model import Model


class VocabType(StrEnum):
    """The kind of tokenizer."""

    NONE = "none"
    SPM = "spm"
    BPE = "bpe"
    WPM = "wpm"
    UGM = "ugm"
    RWKV = "rwkv"
    PLAMO2 = "plamo2"


class TokenAttr(IntFlag):
    """llama.cpp's token attributes."""

    UNKNOWN = lib.LLAMA_TOKEN_ATTR_UNKNOWN
    UNUSED = lib.LLAMA_TOKEN_ATTR_UNUSED
    NORMAL = lib.LLAMA_TOKEN_ATTR_NORMAL
    CONTROL = lib.LLAMA_TOKEN_ATTR_CONTROL
    USER_DEFINED = lib.LLAMA_TOKEN_ATTR_USER_DEFINED
    BYTE = lib.LLAMA_TOKEN_ATTR_BYTE
    NORMALIZED = lib.LLAMA_TOKEN_ATTR_NORMALIZED
    LSTRIP = lib.LLAMA_TOKEN_ATTR_LSTRIP
    RSTRIP = lib.LLAMA_TOKEN_ATTR_RSTRIP
    SINGLE_WORD = lib.LLAMA_TOKEN_ATTR_SINGLE_WORD


_TYPES = {
    lib.LLAMA_VOCAB_TYPE_NONE: VocabType.NONE,
    lib.LLAMA_VOCAB_TYPE_SPM: VocabType.SPM,
    lib.LLAMA_VOCAB_TYPE_BPE: VocabType.BPE,
    lib.LLAMA_VOCAB_TYPE_WPM: VocabType.WPM,
    lib.LLAMA_VOCAB_TYPE_UGM: VocabType.UGM,
    lib.LLAMA_VOCAB_TYPE_RWKV: VocabType.RWKV,
    lib.LLAMA_VOCAB_TYPE_PLAMO2: VocabType.PLAMO2,
}


class Vocab:
    """A view of a model's vocabulary; raises `ClosedError` once the model is closed. Thread: any."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._vocab = lib.llama_model_get_vocab(model.ptr)
        self.n_tokens = int(lib.llama_vocab_n_tokens(self._vocab))
        self.type = _TYPES[lib.llama_vocab_type(self._vocab)]

    @property
    def ptr(self) -> CData:
        """The native vocabulary, for this package only."""
        _ = self._model.ptr  # raises when the model is closed
        return self._vocab

    def tokenize(
        self, text: str | bytes, *, add_special: bool = True, parse_special: bool = False
    ) -> list[int]:
        """Return the tokens of `text`.

        `add_special` adds BOS and EOS where the model wants them; `parse_special` reads
        `<|im_end|>` and the like as control tokens, which is not for users' text.
        """
        self._need_tokenizer()
        raw = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
        _checks.integer("text", len(raw), 0, _checks.INT32_MAX)
        # a token has at least one byte; specials come on top
        capacity = min(len(raw) + 16, _checks.INT32_MAX)
        while True:
            tokens = ffi.new("llama_token[]", capacity)
            n = check(
                lib.shm_tokenize(
                    self.ptr, raw, len(raw), tokens, capacity, add_special, parse_special
                ),
                "could not tokenize the text",
            )
            if n >= 0:
                return list(ffi.unpack(tokens, n)) if n else []
            if n == -_checks.INT32_MAX - 1:
                raise InvalidRequestError("the text has too many tokens", param="text")
            capacity = -n

    def detokenize(
        self,
        tokens: Sequence[int],
        *,
        remove_special: bool = False,
        unparse_special: bool = False,
    ) -> str:
        """Return the text of `tokens`, with U+FFFD for what is no whole UTF-8."""
        checked = [self.token(token) for token in tokens]
        source, capacity = ffi.new("llama_token[]", checked), 16 + 8 * len(checked)
        while True:
            buffer = ffi.new("char[]", capacity)
            n = check(
                lib.shm_detokenize(
                    self.ptr,
                    source,
                    len(checked),
                    buffer,
                    capacity,
                    remove_special,
                    unparse_special,
                ),
                "could not detokenize",
            )
            if n >= 0:
                return bytes(ffi.buffer(buffer, n)).decode("utf-8", "replace")
            capacity = -n

    def token_to_piece(self, token: int, *, lstrip: int = 0, special: bool = False) -> bytes:
        """Return a token's bytes, which may be part of a character; control ones if `special`."""
        token, capacity = self.token(token), 64
        while True:
            buffer = ffi.new("char[]", capacity)
            n = check(
                lib.shm_token_to_piece(self.ptr, token, buffer, capacity, lstrip, special),
                f"could not decode token {token}",
            )
            if n >= 0:
                return bytes(ffi.buffer(buffer, n))
            capacity = -n

    def token(self, token: int) -> int:
        """Return `token` if the vocabulary has it, else raise `InvalidRequestError`."""
        self._need_tokenizer()
        if not 0 <= token < self.n_tokens:
            raise InvalidRequestError(
                f"token {token} is outside the vocabulary of {self.n_tokens}", param="token"
            )
        return int(token)

    def text(self, token: int) -> str:
        """Return a token as the tokenizer's table spells it."""
        return text(lib.llama_vocab_get_text(self.ptr, self.token(token)))

    def score(self, token: int) -> float:
        """Return a token's score in the tokenizer's table."""
        return float(lib.llama_vocab_get_score(self.ptr, self.token(token)))

    def attr(self, token: int) -> TokenAttr:
        """Return a token's attributes."""
        code = lib.shm_token_attr(self.ptr, self.token(token))
        return TokenAttr(check(code, f"token {token}"))

    def is_eog(self, token: int) -> bool:
        """Whether a token ends generation."""
        return bool(lib.llama_vocab_is_eog(self.ptr, self.token(token)))

    def is_control(self, token: int) -> bool:
        """Whether a token is a control token, which has no text of its own."""
        return TokenAttr.CONTROL in self.attr(token)

    @property
    def eog_tokens(self) -> frozenset[int]:
        """All tokens that end generation."""
        return frozenset(end_tokens(self.ptr))

    @property
    def suppress_tokens(self) -> tuple[int, ...]:
        """The tokens that the model's author wants never sampled."""
        n = ffi.new("int32_t *")
        tokens = lib.llama_vocab_get_suppress_tokens(self.ptr, n)
        return tuple(ffi.unpack(tokens, n[0])) if n[0] > 0 else ()

    @property
    def add_bos(self) -> bool:
        """Whether the tokenizer puts BOS first."""
        return bool(lib.llama_vocab_get_add_bos(self.ptr))

    @property
    def add_eos(self) -> bool:
        """Whether the tokenizer puts EOS last."""
        return bool(lib.llama_vocab_get_add_eos(self.ptr))

    @property
    def add_sep(self) -> bool:
        """Whether the tokenizer puts a separator between two texts."""
        return bool(lib.llama_vocab_get_add_sep(self.ptr))

    @property
    def bos(self) -> int | None:
        """The beginning-of-sequence token."""
        return _token(lib.llama_vocab_bos(self.ptr))

    @property
    def eos(self) -> int | None:
        """The end-of-sequence token."""
        return _token(lib.llama_vocab_eos(self.ptr))

    @property
    def eot(self) -> int | None:
        """The end-of-turn token."""
        return _token(lib.llama_vocab_eot(self.ptr))

    @property
    def sep(self) -> int | None:
        """The separator token."""
        return _token(lib.llama_vocab_sep(self.ptr))

    @property
    def nl(self) -> int | None:
        """The newline token."""
        return _token(lib.llama_vocab_nl(self.ptr))

    @property
    def pad(self) -> int | None:
        """The padding token."""
        return _token(lib.llama_vocab_pad(self.ptr))

    @property
    def mask(self) -> int | None:
        """The mask token."""
        return _token(lib.llama_vocab_mask(self.ptr))

    @property
    def fim(self) -> dict[str, int]:
        """The fill-in-the-middle tokens that there are: pre, suf, mid, pad, rep, sep."""
        ptr = self.ptr
        tokens = {
            "pre": lib.llama_vocab_fim_pre(ptr),
            "suf": lib.llama_vocab_fim_suf(ptr),
            "mid": lib.llama_vocab_fim_mid(ptr),
            "pad": lib.llama_vocab_fim_pad(ptr),
            "rep": lib.llama_vocab_fim_rep(ptr),
            "sep": lib.llama_vocab_fim_sep(ptr),
        }
        return {name: token for name, token in tokens.items() if token != lib.LLAMA_TOKEN_NULL}

    def _need_tokenizer(self) -> None:
        if self.type is VocabType.NONE:
            raise InvalidRequestError("this model has no tokenizer", param="model")


def _token(token: int) -> int | None:
    return None if token == lib.LLAMA_TOKEN_NULL else int(token)


def end_tokens(ptr: CData) -> tuple[int, ...]:
    """Return the end tokens of a native vocabulary, in order: a pass over all of it."""
    n = lib.shm_vocab_ends(ptr, ffi.NULL, 0)
    found = ffi.new("llama_token[]", n)
    lib.shm_vocab_ends(ptr, found, n)
    return tuple(ffi.unpack(found, n)) if n else ()
