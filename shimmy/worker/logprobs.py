"""Log-probabilities on their way to the reader: ids from the stepper, with the bytes they stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shimmy.engine.types.event import Candidate, PromptScored, TokenLogprob

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shimmy.llama.stepper import Logprobs
    from shimmy.llama.vocab import Vocab


class TokenBytes:
    """The bytes of a vocabulary's tokens, control tokens too; each is asked for once. Thread: any."""

    def __init__(self, vocab: Vocab) -> None:
        """Ask `vocab`."""
        self._vocab = vocab
        self._known: dict[int, bytes] = {}

    def __getitem__(self, token: int) -> bytes:
        """Return a token's bytes, which may be part of a character."""
        known = self._known.get(token)
        if known is None:
            known = self._known[token] = self._vocab.token_to_piece(token, special=True)
        return known

    def logprob(self, entries: Logprobs) -> TokenLogprob:
        """Return a token's own entry with the likeliest ones."""
        token, logprob = entries[0]
        top = [Candidate(other, self[other], value) for other, value in entries[1:]]
        return TokenLogprob(token, self[token], logprob, top)

    def prompt(self, tokens: Sequence[int], scores: Sequence[Logprobs]) -> PromptScored:
        """Return the scores of a prompt, whose first token nothing predicts."""
        first = TokenLogprob(tokens[0], self[tokens[0]], None)
        return PromptScored([first, *map(self.logprob, scores)])
