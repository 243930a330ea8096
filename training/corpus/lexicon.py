"""Words that fill the slots: people, cities, things. Invented ones too, so that copying is learnt."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

PEOPLE = (
    "Tom Anna Ben Lily Max Mia Sam Lucy Jack Emma Leo Nora Tim Sara Paul Rose Adam Eva Finn Ida Hugo Clara Oscar "
    "Julia Felix Alice Bob Carol David Grace Henry Irene Karl Laura Mark Nina Peter Ruth Simon Vera Maria John Kate "
    "Lena Omar Aisha Chen Yuki Ravi Priya Diego Elena Ivan Olga Pierre Marie Hans Greta Luca Sofia Noah Zoe Amir Lina"
).split()

CITIES = [
    *(
        "Paris London Berlin Rome Madrid Lisbon Vienna Prague Warsaw Athens Dublin Oslo Stockholm Helsinki Copenhagen "
        "Amsterdam Brussels Bern Budapest Moscow Tokyo Kyoto Osaka Beijing Shanghai Seoul Delhi Mumbai Bangkok Hanoi "
        "Jakarta Manila Singapore Sydney Melbourne Cairo Lagos Nairobi Tunis Dakar Toronto Montreal Vancouver Ottawa "
        "Chicago Boston Seattle Denver Austin Dallas Houston Miami Atlanta Portland Lima Bogota Quito Santiago Havana "
        "Munich Hamburg Cologne Zurich Geneva Milan Venice Naples Turin Florence Barcelona Seville Porto Lyon "
        "Marseille Nice Krakow Istanbul Ankara Dubai Tehran Baghdad Riyadh Reykjavik Tallinn Riga Vilnius Bergen"
    ).split(),
    "New York", "San Francisco", "Los Angeles", "Buenos Aires", "Mexico City", "Cape Town", "Hong Kong",
    "Rio de Janeiro", "New Delhi", "Tel Aviv", "Las Vegas", "San Diego", "Kuala Lumpur", "St. Petersburg",
]  # fmt: skip

THINGS = (
    "apple ball book box boat bike cake car card chair clock coat coin cup desk door drum egg fish flag flower fork "
    "game hat key kite lamp leaf letter map nut orange pan pear pen pencil phone pie plate pot ring rock rope seed "
    "shell shoe shirt spoon star stick stone toy train tree"
).split()

TOPICS = [
    "cats", "dogs", "trains", "old maps", "the moon", "good bread", "garden birds", "python lists", "solar power",
    "jazz music", "green tea", "chess rules", "black holes", "knitting", "the roman empire", "bicycle repair",
    "cheap flights", "vegan soup", "llama.cpp", "gguf files", "local models", "open source licences", "rust and c",
    "football results", "deep sea fish", "mountain hikes", "history of paper", "electric cars", "space travel",
    "healthy breakfast", "best pizza recipe", "learning french", "wild horses", "ancient greece", "how bees fly",
]  # fmt: skip

_ONSETS = "b c d f g h j k l m n p r s t v w z br ch cr dr fl gr kl pl pr sh sk sl st th tr".split()
_VOWELS = "a e i o u a e i o ai ea ee ou y".split()
_CODAS = ["", "", "", "n", "r", "l", "s", "m", "t", "nd", "rk", "x", "ck", "d"]


class Lexicon:
    """Picks slot words; `invented` is the share of made-up ones."""

    def __init__(self, rng: random.Random, invented: float) -> None:
        self._rng = rng
        self._invented = invented

    def invent(self) -> str:
        """Return a made-up word of one to three syllables."""
        rng = self._rng
        count = rng.choice([1, 2, 2, 2, 3])
        return "".join(
            rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(count)
        )

    def _pick(self, known: list[str]) -> str:
        if self._rng.random() < self._invented:
            return self.invent().capitalize()
        return self._rng.choice(known)

    def person(self) -> str:
        """Return a first name."""
        return self._pick(PEOPLE)

    def city(self) -> str:
        """Return a city's name."""
        return self._pick(CITIES)

    def thing(self) -> str:
        """Return a small thing that can be counted, in the singular."""
        return self._rng.choice(THINGS)

    def topic(self) -> str:
        """Return something one may search for."""
        if self._rng.random() < self._invented:
            return " ".join(self.invent() for _ in range(self._rng.choice([1, 2, 2])))
        return self._rng.choice(TOPICS)


def plural(noun: str) -> str:
    """Return a noun's regular plural."""
    if noun.endswith(("s", "x", "sh", "ch")):
        return noun + "es"
    if noun == "leaf":
        return "leaves"
    return noun if noun == "fish" else noun + "s"
