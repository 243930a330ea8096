"""The prompt of a gap to be filled: llama-server's layout of its /infill, by the model's FIM tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shimmy.errors import InvalidRequestError

if TYPE_CHECKING:
    from shimmy.engine.types.prompt import InfillPrompt
    from shimmy.llama.vocab import Vocab

_NEEDED = ("pre", "suf", "mid")

# What parts files where the vocabulary has no token for it, and names where none is given.
_SNIPPET = "\n\n--- snippet ---\n\n"
_PROJECT = "myproject\n"
_FILE = "filename\n"


def has_fim(vocab: Vocab) -> bool:
    """Whether the vocabulary can mark a gap."""
    fim = vocab.fim
    return all(name in fim for name in _NEEDED)


def infill_tokens(vocab: Vocab, prompt: InfillPrompt, *, n_window: int, n_room: int) -> list[int]:
    """Return the tokens of a gap with what is around it.

    The `n_window` tokens nearest to the gap are kept, three of the prefix for one of the suffix;
    other files fill what is left of `n_room`, the last ones first.

    Raises:
        InvalidRequestError: the vocabulary has no FIM tokens.
    """
    if not has_fim(vocab):
        raise InvalidRequestError(
            "this model has no fill-in-the-middle tokens: suffix and infill need one that has",
            param="suffix",
        )
    fim = vocab.fim
    prefix = _tokens(vocab, prompt.prefix)
    suffix = _tokens(vocab, prompt.suffix)
    prefix = prefix[max(len(prefix) - 3 * (n_window // 4), 0) :]
    suffix = suffix[: max(n_window // 4 - 2, 0)]
    gap = [fim["pre"], *prefix, fim["suf"], *suffix, fim["mid"]]
    start = [vocab.bos] if vocab.add_bos and vocab.bos is not None else []
    around = _files(vocab, prompt, fim)
    n_around = max(n_room - len(gap) - len(start), 0)
    return [*start, *around[max(len(around) - n_around, 0) :], *gap]


def _files(vocab: Vocab, prompt: InfillPrompt, fim: dict[str, int]) -> list[int]:
    """Return the other files, each behind its name, and the name of the one with the gap."""
    out = [fim["rep"], *_tokens(vocab, _PROJECT)] if "rep" in fim else []
    for name, text in prompt.extra:
        if "sep" in fim:
            out += [fim["sep"], *_tokens(vocab, f"{name}\n")]
        else:
            out += _tokens(vocab, _SNIPPET)
        out += _tokens(vocab, text)
    if "sep" in fim:
        out += [fim["sep"], *_tokens(vocab, _FILE)]
    return out


def _tokens(vocab: Vocab, text: str) -> list[int]:
    return list(vocab.tokenize(text, add_special=False, parse_special=False))
