"""Short stories, as plain text and as the answer to a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.corpus.phrase import article, capital, expand, roughen

if TYPE_CHECKING:
    import random

    from training.corpus.document import Pair
    from training.corpus.lexicon import Lexicon

_HEROES = (
    "cat dog bird mouse fox bear rabbit llama owl frog horse duck fish lion hedgehog robot".split()
)
_TRAITS = "little small brave kind clever happy shy old young lazy curious friendly".split()
_PLACES = [
    "a green forest",
    "a small village",
    "a big city",
    "an old house",
    "a quiet valley",
    "a house by the sea",
    "a barn on a hill",
    "a garden full of flowers",
    "a tall tower",
]
_LOST = [
    "ball",
    "hat",
    "key",
    "red kite",
    "blue boat",
    "shiny stone",
    "book",
    "golden bell",
    "map",
    "lamp",
]
_WHERE = [
    "under a tree",
    "behind the house",
    "near the river",
    "in the tall grass",
    "under the bed",
    "on the roof",
    "in an old box",
    "by the lake",
]
_WEATHER = [
    "the sun was shining",
    "it was raining",
    "the wind was strong",
    "the sky was blue",
    "it was snowing",
    "the morning was cold",
]
_MORALS = [
    "From that day on they were best friends.", "And they all lived happily ever after.", "It was the best day of all.",
    "Friends help each other, and that is what counts.", "Then everybody went home and slept well.", "And that is how it ended.",
]  # fmt: skip


def _lost(hero: str, name: str, friend: str, rng: random.Random) -> list[str]:
    thing, where = rng.choice(_LOST), rng.choice(_WHERE)
    return [
        f"{name} had {article(thing)} and loved it very much.",
        f"But one day the {thing} was gone. {name} was sad and looked everywhere.",
        f'Then {friend} came by. "Why are you sad?" asked {friend}. "I have lost my {thing}," said {name}.',
        f'"I will help you," said {friend}. They looked and looked, and at last they found the {thing} {where}.',
        f'"Thank you!" said the {hero}. "You are a good friend."',
    ]


def _feast(hero: str, name: str, friend: str, rng: random.Random) -> list[str]:
    food = rng.choice(["cake", "soup", "bread", "pie", "honey"])
    return [
        f"{name} was hungry, but there was nothing to eat in the house.",
        f"So the {hero} went out to look for food, and on the way {name} met {friend}.",
        f'"I have some {food}," said {friend}. "Do you want to share it?"',
        f'"Yes, please!" said {name}. They sat down and ate the {food} together.',
        f'"Tomorrow I will cook for you," said the {hero}.',
    ]


def _storm(hero: str, name: str, friend: str, rng: random.Random) -> list[str]:
    noise = rng.choice(["a loud noise", "a strange song", "a knock at the door", "somebody crying"])
    return [
        f"One night there was a big storm, and {name} heard {noise}.",
        f"The {hero} was afraid, but went to look. It was {friend}, cold and wet.",
        f'"Come in," said {name}. "Here it is warm and dry."',
        f"They made a fire and told each other stories until the storm was over.",  # noqa: F541
        f'In the morning {friend} said, "Now I know that you are brave."',
    ]


def _race(hero: str, name: str, friend: str, rng: random.Random) -> list[str]:
    prize = rng.choice(["a gold star", "a big cake", "a new hat", "a red apple"])
    return [
        f'{friend} said, "I am faster than you." "Let us see," said {name}.',
        f"They ran to the river and back. The prize was {prize}.",
        f"Near the river {friend} fell down, and the {hero} stopped to help.",
        f"So they came home together, side by side, and nobody was the first.",  # noqa: F541
        f"They shared {prize.replace('a ', 'the ', 1)} and laughed.",
    ]


def story(rng: random.Random, lexicon: Lexicon, hero: str | None = None) -> str:
    """Return a story of one paragraph."""
    hero = hero or rng.choice(_HEROES)
    name, friend = lexicon.person(), lexicon.person()
    while friend == name:
        friend = lexicon.person()
    trait = rng.choice(_TRAITS)
    opening = rng.choice(["Once upon a time", "Once upon a time", "Long ago", "One day"])
    lines = [
        f"{opening} there was {article(trait)} {hero} named {name}.",
        f"{name} lived in {rng.choice(_PLACES)}.",
    ]
    if rng.random() < 0.5:
        lines.append(f"On that day {rng.choice(_WEATHER)}.")
    lines += rng.choice([_lost, _feast, _storm, _race])(hero, name, friend, rng)
    lines.append(rng.choice(_MORALS))
    return " ".join(lines)


def pair(rng: random.Random, lexicon: Lexicon) -> Pair:
    """Return a request for a story, and the story."""
    hero = rng.choice(_HEROES)
    about = rng.choice(
        [
            "",
            "",
            f" about {article(hero)}",
            f" about {article(hero)}",
            f" about {article(rng.choice(_TRAITS))} {hero}",
        ]
    )
    question = expand(
        rng,
        rng.choice(
            [
                "{tell|write} {me |}{a|a short|another} story",
                "{can you|please} tell {me |}a story",
                "i want {to hear |}a story",
                "a {short |}story",
            ]
        ),
    )
    told = story(rng, lexicon, hero if about else None)
    return roughen(rng, capital(question) + about + "."), told
