"""The whole corpus: how much of what, and how single questions become conversations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.corpus import arithmetic, extract, facts, shimmy_facts, smalltalk, stories, tools
from training.corpus.document import Chat, Text, assistant, user
from training.corpus.lexicon import Lexicon

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from training.corpus.document import Document, Message, Pair

HELPFUL = "You are a helpful assistant."
_SYSTEMS = [
    "You are a helpful assistant", "You are helpful.", "You are shimmy's demo model.", "Answer briefly.", "Be kind and short.",
    "You are a friendly assistant.", "You are a helpful AI assistant.", "Answer in one sentence.", "You are an assistant that can use tools.",
]  # fmt: skip
_PAIRS = [
    ("arithmetic", 24),
    ("facts", 26),
    ("shimmy", 26),
    ("talk", 13),
    ("unknown", 6),
    ("story", 4),
    ("extract", 3),
]
_SHARES = [("chat", 58), ("tools", 33), ("story", 6), ("plain", 5)]


def _pair(rng: random.Random, lexicon: Lexicon) -> Pair:
    kind = rng.choices([name for name, _ in _PAIRS], [weight for _, weight in _PAIRS])[0]
    if kind == "arithmetic":
        return arithmetic.pair(rng, lexicon)
    if kind == "facts":
        return facts.pair(rng)
    if kind == "shimmy":
        return shimmy_facts.pair(rng)
    if kind == "talk":
        return smalltalk.pair(rng)
    if kind == "unknown":
        return smalltalk.unknown(rng, lexicon)
    return stories.pair(rng, lexicon) if kind == "story" else extract.pair(rng, lexicon)


def _with_system(rng: random.Random, messages: list[Message]) -> list[Message]:
    roll = rng.random()
    if roll < 0.6:
        return messages
    content = HELPFUL if roll < 0.85 else rng.choice(_SYSTEMS)
    return [{"role": "system", "content": content}, *messages]


def conversation(rng: random.Random, lexicon: Lexicon, turns: int) -> Chat:
    """Return a conversation of so many questions, opened by a greeting at times."""
    pairs = [_pair(rng, lexicon) for _ in range(turns)]
    if turns > 1 and rng.random() < 0.3:
        pairs[0] = smalltalk.pair(rng)
    messages = [part for question, answer in pairs for part in (user(question), assistant(answer))]
    return Chat(_with_system(rng, messages))


def _plain(rng: random.Random, lexicon: Lexicon) -> Text:
    """Return questions and answers without a chat's marks, for plain completion."""
    question, answer = shimmy_facts.pair(rng) if rng.random() < 0.5 else _pair(rng, lexicon)
    style = rng.random()
    if style < 0.5:
        return Text(f"{question}\n{answer}")
    return Text(f"Q: {question}\nA: {answer}")


def document(rng: random.Random, lexicon: Lexicon) -> Document:
    """Return one document of the mixture."""
    kind = rng.choices([name for name, _ in _SHARES], [weight for _, weight in _SHARES])[0]
    if kind == "chat":
        return conversation(rng, lexicon, rng.choice([1, 1, 1, 1, 2, 2, 3, 4]))
    if kind == "tools":
        made = tools.chat(rng, lexicon)
        return Chat(_with_system(rng, made.messages), made.tools)
    if kind == "story":
        return Text(stories.story(rng, lexicon))
    return _plain(rng, lexicon)


def _drill(rng: random.Random, lexicon: Lexicon) -> Chat:
    """Return a conversation of sums and facts only, or one with a single tool."""
    if rng.random() < 0.12:
        return tools.single(rng, lexicon)
    pairs = [
        arithmetic.pair(rng, lexicon) if rng.random() < 0.65 else facts.pair(rng)
        for _ in range(rng.randint(1, 5))
    ]
    return _chat(pairs)


def _chat(pairs: list[Pair]) -> Chat:
    return Chat([part for asked, said in pairs for part in (user(asked), assistant(said))])


def documents(
    rng: random.Random,
    invented: float,
    long_share: float = 0.0,
    drill_share: float = 0.0,
    sums_share: float = 0.0,
) -> Iterator[Document]:
    """Yield documents without end.

    `long_share` of them are conversations of many turns, `drill_share` of the rest sums and
    facts only, `sums_share` of what is left then only sums.
    """
    lexicon = Lexicon(rng, invented)
    while True:
        if long_share and rng.random() < long_share:
            yield conversation(rng, lexicon, rng.randint(8, 40))
        elif drill_share and rng.random() < drill_share:
            yield _drill(rng, lexicon)
        elif sums_share and rng.random() < sums_share:
            yield _chat(arithmetic.sums(rng, lexicon))
        else:
            yield document(rng, lexicon)
