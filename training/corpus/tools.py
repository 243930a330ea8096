"""Conversations with tools: the right call, the sentence after its result, and when not to call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from training.corpus import arithmetic, facts, shimmy_facts, smalltalk
from training.corpus.document import Chat, assistant, tool_call, tool_result, user
from training.corpus.phrase import capital, expand
from training.corpus.toolbox import KINDS, fill, offer, respond

if TYPE_CHECKING:
    import random

    from training.corpus.document import Message, Pair
    from training.corpus.lexicon import Lexicon
    from training.corpus.toolbox import Kind, Offer

# the tools that most people try first come first and often
_WEIGHTS = [7, 5, 6, 5, 5, 2, 3, 2, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1]
NO_TOOL = "I have no tool for that. I am only a small demo model."


def _request(rng: random.Random, lexicon: Lexicon, kind: Kind) -> tuple[str, list[Any]]:
    """Return what the user says and the arguments that it means."""
    text = capital(expand(rng, rng.choice(kind.asks)).replace(" i ", " I "))
    if rng.random() < 0.15:
        text = text[0].lower() + text[1:]
    if text.endswith("?") and rng.random() < 0.2:
        text = text[:-1]
    arguments = []
    for number, slot in enumerate(kind.slots, 1):
        said, argument = fill(rng, lexicon, slot)
        if (
            isinstance(argument, str)
            and slot in ("city", "person", "topic", "name")
            and rng.random() < 0.06
        ):
            said = argument = argument.lower()
        text = text.replace(f"<{number}>", said)
        arguments.append(argument)
    if rng.random() < 0.1:
        text = rng.choice(["Hi! ", "Hello, ", "Please ", "Hey, ", "OK. "]) + text
    return text, arguments


def _offers(rng: random.Random, wanted: list[Kind]) -> list[Offer]:
    """Return offers of the wanted kinds among up to two others, in any order."""
    others = [kind for kind in KINDS if kind not in wanted]
    extra = rng.choice([0, 1, 1, 2, 2]) if wanted else rng.choice([1, 1, 2, 3])
    kinds = [*wanted, *rng.sample(others, extra)]
    rng.shuffle(kinds)
    return [offer(rng, kind) for kind in kinds]


def _pick(rng: random.Random) -> Kind:
    return rng.choices(KINDS, _WEIGHTS)[0]


def _use(rng: random.Random, lexicon: Lexicon, offered: Offer) -> list[Message]:
    """Return a request, the call, and mostly the result with its sentence."""
    text, arguments = _request(rng, lexicon, offered.kind)
    call = tool_call(offered.name, dict(zip(offered.parameters, arguments, strict=True)))
    messages = [user(text), call]
    if rng.random() < 0.55:
        content, sentence = respond(rng, offered.kind, arguments)
        messages += [tool_result(content), assistant(sentence)]
    return messages


def _talk(rng: random.Random, lexicon: Lexicon, offered: list[Offer]) -> Pair:
    """Return a remark that needs no tool."""
    names = {part.kind.reply for part in offered}
    sources = [lambda: smalltalk.pair(rng), lambda: shimmy_facts.pair(rng)]
    if "capital" not in names:
        sources.append(lambda: facts.pair(rng))
    if "calculate" not in names:
        sources.append(lambda: arithmetic.pair(rng, lexicon))
    return rng.choice(sources)()


def single(rng: random.Random, lexicon: Lexicon) -> Chat:
    """Return a conversation with one tool, which is called."""
    offered = offer(rng, _pick(rng))
    return Chat(_use(rng, lexicon, offered), [offered.tool])


def chat(rng: random.Random, lexicon: Lexicon) -> Chat:
    """Return a conversation in which tools are offered."""
    roll = rng.random()
    if roll < 0.76:
        kind = _pick(rng)
        offered = _offers(rng, [kind])
        chosen = next(part for part in offered if part.kind is kind)
        messages = _use(rng, lexicon, chosen)
        if messages[-1]["content"] and rng.random() < 0.45:
            if rng.random() < 0.5:
                messages += _use(rng, lexicon, rng.choice(offered))
            else:
                question, answer = _talk(rng, lexicon, offered)
                messages += [user(question), assistant(answer)]
    elif roll < 0.94:
        offered = _offers(rng, [])
        question, answer = _talk(rng, lexicon, offered)
        messages = [user(question), assistant(answer)]
        if rng.random() < 0.6:
            messages += _use(rng, lexicon, rng.choice(offered))
    else:
        kind = rng.choice(KINDS[:9])
        offered = [
            offer(
                rng,
                rng.choice(
                    [
                        other
                        for other in KINDS[:12]
                        if other is not kind and other.reply not in ("message", "email")
                    ]
                ),
            )
        ]
        text, _ = _request(rng, lexicon, kind)
        if kind.reply in ("message", "email", "calculate"):
            kind = KINDS[0]
            text, _ = _request(rng, lexicon, kind)
            offered = [offer(rng, rng.choice(KINDS[6:12]))]
        messages = [user(text), assistant(NO_TOOL)]
    return Chat(messages, [part.tool for part in offered])
