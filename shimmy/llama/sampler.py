"""llama.cpp's samplers, one by one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from shimmy.errors import InvalidRequestError
from shimmy.llama import _checks
from shimmy.llama._ffi import CData, check, ffi, lib, log_mark, raise_fault, text
from shimmy.llama.handle import Handle

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from shimmy.llama.context import Context
    from shimmy.llama.model import Model

# windows of penalties and DRY are allocated up front
_MAX_LAST_N = 1 << 20
_DRY_BREAKERS = ("\n", ":", '"', "*")


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a sampler left of the vocabulary, in its order; `selected` is an index, if it chose."""

    ids: NDArray[np.int32]
    logits: NDArray[np.float32]
    probs: NDArray[np.float32]
    selected: int | None

    @property
    def token(self) -> int | None:
        """The chosen token."""
        return None if self.selected is None else int(self.ids[self.selected])


class Sampler(Handle):
    """One llama.cpp sampler, made by one of its class methods. Thread: one at a time.

    Added to a chain it belongs to the chain, and this handle is closed. A seed of None is random.
    """

    def __init__(self, ptr: CData, *parents: Handle) -> None:
        """Take over a native sampler; use the class methods."""
        super().__init__(ptr, lib.llama_sampler_free, *parents)

    @classmethod
    def greedy(cls) -> Self:
        """Choose the most likely token."""
        return cls(lib.llama_sampler_init_greedy())

    @classmethod
    def dist(cls, seed: int | None = None) -> Self:
        """Choose by probability."""
        return cls(lib.llama_sampler_init_dist(_checks.seed(seed)))

    @classmethod
    def top_k(cls, k: int) -> Self:
        """Keep the `k` most likely tokens; 0 keeps all."""
        return cls(lib.llama_sampler_init_top_k(_checks.integer("k", k, 0, _checks.INT32_MAX)))

    @classmethod
    def top_p(cls, p: float, min_keep: int = 1) -> Self:
        """Keep the most likely tokens that together have probability `p`."""
        return cls(lib.llama_sampler_init_top_p(_probability("p", p), _keep(min_keep)))

    @classmethod
    def min_p(cls, p: float, min_keep: int = 1) -> Self:
        """Keep tokens that are at least `p` times as likely as the most likely one."""
        return cls(lib.llama_sampler_init_min_p(_probability("p", p), _keep(min_keep)))

    @classmethod
    def typical(cls, p: float, min_keep: int = 1) -> Self:
        """Keep the most typical tokens that together have probability `p`."""
        return cls(lib.llama_sampler_init_typical(_probability("p", p), _keep(min_keep)))

    @classmethod
    def temp(cls, temperature: float) -> Self:
        """Divide the logits; 0 leaves only the most likely token."""
        return cls(lib.llama_sampler_init_temp(_checks.real("temperature", temperature, 0.0)))

    @classmethod
    def temp_ext(cls, temperature: float, delta: float, exponent: float) -> Self:
        """Divide the logits by a temperature that follows the entropy, within +-`delta`."""
        return cls(
            lib.llama_sampler_init_temp_ext(
                _checks.real("temperature", temperature, 0.0),
                _checks.real("delta", delta, 0.0),
                _checks.real("exponent", exponent),
            )
        )

    @classmethod
    def xtc(
        cls, probability: float, threshold: float, min_keep: int = 1, seed: int | None = None
    ) -> Self:
        """Sometimes remove the most likely tokens (exclude top choices)."""
        return cls(
            lib.llama_sampler_init_xtc(
                _probability("probability", probability),
                _probability("threshold", threshold),
                _keep(min_keep),
                _checks.seed(seed),
            )
        )

    @classmethod
    def top_n_sigma(cls, n: float) -> Self:
        """Keep logits within `n` standard deviations of the largest; 0 or less keeps all."""
        return cls(lib.llama_sampler_init_top_n_sigma(_checks.real("n", n)))

    @classmethod
    def mirostat(
        cls,
        n_vocab: int,
        *,
        tau: float = 5.0,
        eta: float = 0.1,
        m: int = 100,
        seed: int | None = None,
    ) -> Self:
        """Choose so that the surprise stays near `tau` (Mirostat 1)."""
        return cls(
            lib.llama_sampler_init_mirostat(
                _checks.integer("n_vocab", n_vocab, 1, _checks.INT32_MAX),
                _checks.seed(seed),
                _checks.real("tau", tau, 0.0),
                _checks.real("eta", eta, 0.0),
                _checks.integer("m", m, 1, _checks.INT32_MAX),
            )
        )

    @classmethod
    def mirostat_v2(cls, *, tau: float = 5.0, eta: float = 0.1, seed: int | None = None) -> Self:
        """Choose so that the surprise stays near `tau` (Mirostat 2)."""
        return cls(
            lib.llama_sampler_init_mirostat_v2(
                _checks.seed(seed), _checks.real("tau", tau, 0.0), _checks.real("eta", eta, 0.0)
            )
        )

    @classmethod
    def penalties(
        cls,
        n_vocab: int,
        *,
        last_n: int = 64,
        repeat: float = 1.0,
        frequency: float = 0.0,
        presence: float = 0.0,
    ) -> Self:
        """Make tokens of the last `last_n` less likely."""
        return cls(
            lib.llama_sampler_init_penalties(
                _checks.integer("n_vocab", n_vocab, 1, _checks.INT32_MAX),
                _checks.integer("last_n", last_n, 0, _MAX_LAST_N),
                _checks.real("repeat", repeat, 0.0, open_low=True),
                _checks.real("frequency", frequency),
                _checks.real("presence", presence),
            )
        )

    @classmethod
    def dry(
        cls,
        model: Model,
        multiplier: float,
        *,
        base: float = 1.75,
        allowed_length: int = 2,
        last_n: int = 1024,
        breakers: Sequence[str] = _DRY_BREAKERS,
    ) -> Self:
        """Make the continuation of repeated sequences less likely (don't repeat yourself)."""
        strings = [ffi.new("char[]", _checks.nul_free("breakers", breaker)) for breaker in breakers]
        ptr = lib.shm_smpl_dry(
            model.vocab.ptr,
            _checks.real("multiplier", multiplier, 0.0),
            _checks.real("base", base, 0.0),
            _checks.integer("allowed_length", allowed_length, 0, _checks.INT32_MAX),
            _checks.integer("last_n", last_n, 0, _MAX_LAST_N),
            ffi.new("char *[]", strings),
            len(strings),
        )
        return cls._made(ptr, "dry", model)

    @classmethod
    def adaptive_p(cls, target: float, decay: float = 0.9, seed: int | None = None) -> Self:
        """Choose tokens whose probability is near `target`, on average; ends a chain."""
        return cls(
            lib.llama_sampler_init_adaptive_p(
                _probability("target", target),
                _checks.real("decay", decay, 0.0, 0.99),
                _checks.seed(seed),
            )
        )

    @classmethod
    def logit_bias(cls, n_vocab: int, bias: Mapping[int, float]) -> Self:
        """Add to the logits of single tokens; -inf forbids one."""
        _checks.integer("n_vocab", n_vocab, 1, _checks.INT32_MAX)
        entries = []
        for token, value in bias.items():
            _checks.integer("logit_bias token", token, 0, n_vocab - 1)
            forbids = value == -math.inf
            entries.append((token, value if forbids else _checks.real("logit_bias", value)))
        array = ffi.new("llama_logit_bias[]", entries)
        return cls(lib.llama_sampler_init_logit_bias(n_vocab, len(entries), array))

    @classmethod
    def infill(cls, model: Model) -> Self:
        """Choose for fill-in-the-middle; after top_k and top_p."""
        return cls(lib.llama_sampler_init_infill(model.vocab.ptr), model)

    @classmethod
    def grammar(cls, model: Model, gbnf: str, root: str = "root") -> Self:
        """Forbid tokens that the grammar does not allow next."""
        c_gbnf, c_root = _checks.nul_free("grammar", gbnf), _checks.nul_free("root", root)
        mark = log_mark()
        ptr = lib.shm_smpl_grammar(model.vocab.ptr, c_gbnf, c_root)
        return cls._made(ptr, "grammar", model, mark=mark)

    @classmethod
    def grammar_lazy(
        cls,
        model: Model,
        gbnf: str,
        root: str = "root",
        *,
        patterns: Sequence[str] = (),
        tokens: Sequence[int] = (),
    ) -> Self:
        """As `grammar`, from the first match of a pattern or the first of the tokens on."""
        c_gbnf, c_root = _checks.nul_free("grammar", gbnf), _checks.nul_free("root", root)
        c_patterns = [ffi.new("char[]", _checks.nul_free("patterns", one)) for one in patterns]
        checked = [model.vocab.token(token) for token in tokens]
        mark = log_mark()
        ptr = lib.shm_smpl_grammar_lazy(
            model.vocab.ptr,
            c_gbnf,
            c_root,
            ffi.new("char *[]", c_patterns),
            len(c_patterns),
            ffi.new("llama_token[]", checked),
            len(checked),
        )
        return cls._made(ptr, "grammar", model, mark=mark)

    @property
    def name(self) -> str:
        """llama.cpp's name; one that begins with "?" is switched off by its parameters."""
        return text(lib.llama_sampler_name(self.ptr))

    @property
    def seed(self) -> int | None:
        """The seed in use, None for samplers without one."""
        seed = int(lib.llama_sampler_get_seed(self.ptr))
        return None if seed == lib.LLAMA_DEFAULT_SEED else seed

    def sample(self, context: Context, index: int = -1) -> int:
        """Choose from the logits at a batch index and accept the token."""
        _checks.integer("index", index, -_checks.INT32_MAX, _checks.INT32_MAX)
        token = lib.shm_smpl_sample(self.ptr, context.ptr, index)
        return check(token, "could not sample")

    def apply(self, logits: NDArray[np.float32]) -> Candidates:
        """Run over logits whose index is the token, without accepting."""
        import numpy as np

        row = np.ascontiguousarray(logits, np.float32)
        if row.ndim != 1 or row.size == 0:
            raise InvalidRequestError("logits must be one row of numbers", param="logits")
        out, selected = ffi.new("llama_token_data[]", row.size), ffi.new("int64_t *")
        source = ffi.from_buffer("float[]", row)
        n = check(lib.shm_smpl_apply(self.ptr, source, row.size, out, selected), "could not sample")
        kind = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
        left = np.frombuffer(ffi.buffer(out), kind)[:n]
        return Candidates(
            ids=left["id"].copy(),
            logits=left["logit"].copy(),
            probs=left["p"].copy(),
            selected=int(selected[0]) if 0 <= selected[0] < n else None,
        )

    def accept(self, token: int) -> None:
        """Count a token as generated; a grammar raises `LlamaError` for one it does not allow."""
        _checks.integer("token", token, 0, _checks.INT32_MAX)
        check(lib.shm_smpl_accept(self.ptr, token), f"token {token} was not accepted")

    def reset(self) -> None:
        """Forget accepted tokens; seeded samplers start over."""
        check(lib.shm_smpl_reset(self.ptr), "could not reset")

    def clone(self) -> Self:
        """Return an independent copy with the same state."""
        return self._made(lib.shm_smpl_clone(self.ptr), "clone", *self._native.parents)

    @classmethod
    def _made(cls, ptr: CData, what: str, *parents: Handle, mark: int | None = None) -> Self:
        if ptr == ffi.NULL:
            raise_fault(what, mark=mark)
        return cls(ptr, *parents)


def _probability(param: str, value: float) -> float:
    return _checks.real(param, value, 0.0, 1.0)


def _keep(value: int) -> int:
    return _checks.integer("min_keep", value, 0, _checks.INT32_MAX)
