"""Sums with small numbers, comparing, counting. Every answer is computed, none is written down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.corpus.lexicon import plural
from training.corpus.phrase import expand, roughen

if TYPE_CHECKING:
    import random

    from training.corpus.document import Pair
    from training.corpus.lexicon import Lexicon

_ASK = "{what is|what is|what is|what's|how much is|calculate|compute|tell me|}"
_WORDS = {
    "+": ["plus", "plus", "and", "+", "+"],
    "-": ["minus", "minus", "take away", "-", "-"],
    "*": ["times", "times", "multiplied by", "*", "x"],
}
NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
).split()


def operands(rng: random.Random, sign: str) -> tuple[int, int]:
    """Return two numbers for a sum that the model can be expected to learn."""
    if sign == "*":
        return rng.randint(0, 10), rng.randint(0, 10)
    limit = rng.choice([10, 10, 20, 20, 50, 99])
    a, b = rng.randint(0, limit), rng.randint(0, limit)
    return (max(a, b), min(a, b)) if sign == "-" else (a, b)


def result(a: int, sign: str, b: int) -> int:
    """Return what the sum comes to."""
    return {"+": a + b, "-": a - b, "*": a * b}[sign]


def _sum(rng: random.Random, _: Lexicon) -> Pair:
    sign = rng.choice("++--*")
    a, b = operands(rng, sign)
    word = rng.choice(_WORDS[sign])
    left, right = str(a), str(b)
    if rng.random() < 0.08 and max(a, b) <= 20 and word.isalpha():
        left, right = NUMBER_WORDS[a], NUMBER_WORDS[b]
    middle = (
        f"{left}{word}{right}"
        if not word[0].isalpha() and rng.random() < 0.2
        else f"{left} {word} {right}"
    )
    asked = f"{expand(rng, _ASK)} {middle}".strip()
    tail = rng.choice([" =", "=", " = ?", "?", "?"]) if asked[0].isdigit() else "?"
    question = roughen(rng, asked[:1].upper() + asked[1:] + tail)
    return question, f"{a} {sign} {b} = {result(a, sign, b)}"


def _story_sum(rng: random.Random, lexicon: Lexicon) -> Pair:
    who, things = lexicon.person(), plural(lexicon.thing())
    if rng.random() < 0.5:
        a, b = rng.randint(1, 12), rng.randint(1, 12)
        verb = rng.choice(["gets", "finds", "buys"])
        question = f"{who} has {a} {things} and {verb} {b} more. How many {things} does {who} have?"
        return question, f"{who} has {a} + {b} = {a + b} {things}."
    a, b = sorted((rng.randint(1, 15), rng.randint(1, 15)), reverse=True)
    verb = rng.choice(["loses", "eats", "sells", "gives away"])
    question = f"{who} has {a} {things} and {verb} {b}. How many {things} are left?"
    return question, f"{who} has {a} - {b} = {a - b} {things} left."


def _compare(rng: random.Random, _: Lexicon) -> Pair:
    a, b = rng.sample(range(rng.choice([11, 21, 101])), 2)
    if rng.random() < 0.6:
        big = rng.random() < 0.6
        word = expand(rng, "{bigger|larger|greater}" if big else "{smaller|less}")
        answer = max(a, b) if big else min(a, b)
        question = (
            expand(rng, "{which|which number|what} is ")
            + f"{word}{rng.choice([',', ':'])} {a} or {b}?"
        )
        return roughen(rng, question.capitalize()), f"{answer} is {word}."
    word, right = rng.choice(
        [
            ("bigger", a > b),
            ("greater", a > b),
            ("larger", a > b),
            ("smaller", a < b),
            ("less", a < b),
        ]
    )
    truth = f"{a} is {word} than {b}." if right else f"{a} is not {word} than {b}."
    return roughen(rng, f"Is {a} {word} than {b}?"), f"{'Yes' if right else 'No'}, {truth}"


def _count(rng: random.Random, _: Lexicon) -> Pair:
    if rng.random() < 0.3:
        top = rng.randint(2, 12)
        numbers, question = range(1, top + 1), f"count {{up |}}to {top}{{.|}}"
    elif rng.random() < 0.6:
        first = rng.randint(0, 20)
        last = first + rng.randint(2, 9)
        numbers, question = range(first, last + 1), f"count from {first} to {last}{{.|}}"
    else:
        first = rng.randint(3, 12)
        numbers, question = range(first, 0, -1), f"count {{down|backwards}} from {first}{{.|}}"
    text = expand(rng, rng.choice(["", "", "please ", "can you "]) + question).capitalize()
    return roughen(rng, text), ", ".join(map(str, numbers)) + "."


def _single(rng: random.Random, _: Lexicon) -> Pair:
    n = rng.randint(0, rng.choice([20, 99]))
    kind = rng.randrange(6)
    if kind == 0:
        odd = "odd" if n % 2 else "even"
        asked = rng.choice(["even", "odd"])
        question = rng.choice(
            [f"Is {n} {asked}?", f"Is {n} an {asked} number?", f"Is {n} even or odd?"]
        )
        if " or " in question:
            return roughen(rng, question), f"{n} is {odd}."
        return roughen(rng, question), f"{'Yes' if odd == asked else 'No'}, {n} is {odd}."
    if kind == 1:
        question = f"{{what|which}} number {{comes|is}} after {n}?"
        return roughen(rng, expand(rng, question).capitalize()), f"{n + 1} comes after {n}."
    if kind == 2:
        question = f"{{what|which}} number {{comes|is}} before {n + 1}?"
        return roughen(rng, expand(rng, question).capitalize()), f"{n} comes before {n + 1}."
    if kind == 3:
        n = rng.randint(1, 50)
        return roughen(
            rng, expand(rng, f"What is {{the double of|double|twice}} {n}?")
        ), f"Double {n} is {2 * n}."
    if kind == 4:
        n = 2 * rng.randint(1, 50)
        return roughen(
            rng, expand(rng, f"What is {{half of|half|the half of}} {n}?")
        ), f"Half of {n} is {n // 2}."
    n = rng.randint(0, 20)
    if rng.random() < 0.5:
        return roughen(
            rng, f"Write {n} {rng.choice(['as a word', 'in words'])}."
        ), f"{n} is {NUMBER_WORDS[n]}."
    return roughen(
        rng, f"Write {NUMBER_WORDS[n]} as a number."
    ), f"{NUMBER_WORDS[n].capitalize()} is {n}."


def _order(rng: random.Random, _: Lexicon) -> Pair:
    numbers = rng.sample(range(rng.choice([10, 21])), rng.choice([3, 3, 4]))
    given = ", ".join(map(str, numbers))
    if rng.random() < 0.5:
        best = rng.choice(["largest", "smallest", "biggest"])
        chosen = min(numbers) if best == "smallest" else max(numbers)
        return roughen(rng, f"Which is the {best}: {given}?"), f"{chosen} is the {best}."
    ordered = ", ".join(map(str, sorted(numbers)))
    return roughen(rng, f"{rng.choice(['Sort', 'Order'])} these numbers: {given}."), f"{ordered}."


_KINDS = [(_sum, 10), (_story_sum, 3), (_compare, 3), (_count, 3), (_single, 3), (_order, 1)]


def sums(rng: random.Random, lexicon: Lexicon) -> list[Pair]:
    """Return some sums, one after the other."""
    return [_sum(rng, lexicon) for _ in range(rng.randint(1, 8))]


def pair(rng: random.Random, lexicon: Lexicon) -> Pair:
    """Return a question about numbers and its answer."""
    kind = rng.choices([kind for kind, _ in _KINDS], [weight for _, weight in _KINDS])[0]
    return kind(rng, lexicon)
