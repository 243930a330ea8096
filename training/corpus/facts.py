"""Simple facts: the week, the year, colours, opposites, animals, letters, capitals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.corpus.phrase import article, capital, expand, roughen

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from training.corpus.document import Pair

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = (
    "January February March April May June July August September October November December".split()
)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
)

COLOURS = dict(
    line.split(":") for line in
    "the sky:blue|grass:green|snow:white|coal:black|a banana:yellow|blood:red|the sun:yellow|a lemon:yellow|milk:white|"
    "a carrot:orange|an orange:orange|a tomato:red|the sea:blue|a leaf:green|a frog:green|chocolate:brown|a strawberry:red|"
    "the night sky:black|a cucumber:green|a plum:purple|an elephant:grey|a polar bear:white|a crow:black|a flamingo:pink".split("|")
)  # fmt: skip
MIXES = {
    ("red", "blue"): "purple",
    ("red", "yellow"): "orange",
    ("blue", "yellow"): "green",
    ("black", "white"): "grey",
    ("red", "white"): "pink",
}

OPPOSITES = [
    tuple(pair.split("-")) for pair in
    "hot-cold|big-small|up-down|left-right|day-night|black-white|fast-slow|happy-sad|old-new|young-old|high-low|open-closed|"
    "good-bad|light-dark|long-short|full-empty|wet-dry|hard-soft|early-late|rich-poor|strong-weak|loud-quiet|clean-dirty|"
    "easy-difficult|near-far|in-out|on-off|yes-no|true-false|win-lose|love-hate|start-stop|push-pull|buy-sell|give-take|"
    "first-last|inside-outside|above-below|always-never|thick-thin|heavy-light|wide-narrow|sweet-sour|deep-shallow|"
    "summer-winter|north-south|east-west|begin-end|question-answer|friend-enemy|laugh-cry|sharp-blunt|tall-short|warm-cool".split("|")
]  # fmt: skip

SOUNDS = dict(
    line.split(":")
    for line in "cow:moo|dog:woof|cat:meow|sheep:baa|duck:quack|pig:oink|horse:neigh|lion:roar|bee:buzz|snake:hiss|mouse:squeak|owl:hoot|frog:ribbit|rooster:cock-a-doodle-doo|bird:tweet|wolf:howl".split(
        "|"
    )
)
BABIES = dict(
    line.split(":")
    for line in "dog:puppy|cat:kitten|cow:calf|horse:foal|sheep:lamb|pig:piglet|duck:duckling|chicken:chick|bear:cub|lion:cub|goat:kid|deer:fawn|frog:tadpole|owl:owlet|kangaroo:joey".split(
        "|"
    )
)
KINDS = dict(
    line.split(":")
    for line in "dog:mammal|cat:mammal|whale:mammal|cow:mammal|horse:mammal|bat:mammal|llama:mammal|lion:mammal|shark:fish|salmon:fish|trout:fish|eagle:bird|owl:bird|duck:bird|penguin:bird|chicken:bird|bee:insect|ant:insect|fly:insect|butterfly:insect|snake:reptile|turtle:reptile|crocodile:reptile|frog:amphibian".split(
        "|"
    )
)
LEGS = {"dog": 4, "cat": 4, "cow": 4, "horse": 4, "llama": 4, "bird": 2, "duck": 2, "spider": 8, "ant": 6, "bee": 6, "snake": 0, "fish": 0, "human": 2, "chicken": 2, "octopus": 8, "table": 4, "chair": 4}  # fmt: skip
HOMES = dict(
    line.split(":")
    for line in "fish:in water|whale:in the sea|bird:in a nest|bee:in a hive|lion:in Africa|penguin:in the cold south|polar bear:in the cold north|cow:on a farm|camel:in the desert|llama:in the mountains of South America|monkey:in the trees|mole:under the ground|shark:in the sea|spider:in a web".split(
        "|"
    )
)

CAPITALS = dict(
    line.split(":") for line in
    "France:Paris|Germany:Berlin|Italy:Rome|Spain:Madrid|Portugal:Lisbon|England:London|Austria:Vienna|Poland:Warsaw|Greece:Athens|"
    "Ireland:Dublin|Norway:Oslo|Sweden:Stockholm|Finland:Helsinki|Denmark:Copenhagen|Belgium:Brussels|Switzerland:Bern|"
    "Hungary:Budapest|Russia:Moscow|Japan:Tokyo|China:Beijing|India:New Delhi|Egypt:Cairo|Canada:Ottawa|Peru:Lima|Cuba:Havana|"
    "Turkey:Ankara|the Netherlands:Amsterdam|the United States:Washington|Mexico:Mexico City|Thailand:Bangkok".split("|")
)  # fmt: skip

LISTS = {
    "fruit": [
        "an apple",
        "a banana",
        "a pear",
        "a plum",
        "a cherry",
        "an orange",
        "a lemon",
        "a strawberry",
    ],
    "vegetable": ["a carrot", "a potato", "an onion", "a cucumber", "a bean", "a leek"],
    "animal": ["a dog", "a cat", "a cow", "a horse", "a llama", "a bird", "a fish"],
    "colour": ["red", "blue", "green", "yellow", "black", "white"],
    "tool": ["a hammer", "a saw", "a drill"],
}

FIXED: list[tuple[list[str], str]] = [
    (["how many days {are in|are there in|has|does} a week{ have|}?"], "There are 7 days in a week."),
    (["how many months {are in|are there in} a year?"], "There are 12 months in a year."),
    (["how many days {are in|are there in} a year?"], "There are 365 days in a year, and 366 in a leap year."),
    (["how many weeks {are in|are there in} a year?"], "There are 52 weeks in a year."),
    (["how many hours {are in|are there in} a day?"], "There are 24 hours in a day."),
    (["how many minutes {are in|are there in} an hour?"], "There are 60 minutes in an hour."),
    (["how many seconds {are in|are there in} a minute?"], "There are 60 seconds in a minute."),
    (["how many letters {are in|are there in|has} the {english |}alphabet?"], "There are 26 letters in the English alphabet."),
    (["how many seasons are there?", "{what|which} are the {four |}seasons?", "{name|list} the seasons."], "There are four seasons: spring, summer, autumn and winter."),
    (["{what are|name|list|tell me} the days of the week{.|}", "which days {are in|has} a week?"], "The days of the week are Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday."),
    (["{what are|name|list|tell me} the months{ of the year|}.", "{what are|name|list|tell me} the twelve months."], "The months are January, February, March, April, May, June, July, August, September, October, November and December."),
    (["{say|write|tell me|recite|list} the alphabet.", "what is the alphabet?"], "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z"),
    (["{what are|name|list} the vowels?", "which letters are vowels?"], "The vowels are A, E, I, O and U."),
    (["which days are {the weekend|on the weekend}?", "what is the weekend?"], "The weekend is Saturday and Sunday."),
    (["{what are|name} the primary colo{u|}rs?"], "The primary colours are red, yellow and blue."),
    (["{what are|name|list} the colo{u|}rs of the rainbow{.|}"], "The colours of the rainbow are red, orange, yellow, green, blue, indigo and violet."),
    (["how many {sides|corners} does a triangle have?"], "A triangle has 3 sides and 3 corners."),
    (["how many {sides|corners} does a square have?"], "A square has 4 sides and 4 corners."),
    (["how many wheels does a {car|bus} have?"], "It has 4 wheels."), (["how many wheels does a {bike|bicycle} have?"], "A bicycle has 2 wheels."),
    (["how many fingers {are on|has} {a|one} hand?", "how many fingers {do i have|are there} on {a|one} hand?"], "There are 5 fingers on one hand."),
    (["how many eyes {do i|do people|do humans|does a cat} have?"], "Two eyes."), (["what is ice{ made of|}?", "what is frozen water{ called|}?"], "Ice is frozen water."),
    (["what do bees make?", "who makes honey?", "where does honey come from?"], "Bees make honey."), (["where does milk come from?", "what do cows give?"], "Milk comes from cows."),
    (["what do {plants|trees|flowers} need{ to grow|}?"], "Plants need light, water and air."), (["what is the largest animal?", "which animal is the {largest|biggest}?"], "The blue whale is the largest animal."),
    (["which planet do we live on?", "what is our planet{ called|}?"], "We live on the planet Earth."), (["what is the sun?", "is the sun a star?"], "The sun is a star."),
    (["how many planets are there?", "{name|list|what are} the planets{.|}"], "There are eight planets: Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus and Neptune."),
    (["where does the sun rise?"], "The sun rises in the east."), (["where does the sun {set|go down}?"], "The sun sets in the west."),
    (["what is bread made of?"], "Bread is made of flour, water and salt."), (["what do we breathe?"], "We breathe air."), (["what is a llama?", "what are llamas?", "tell me about llamas."], "A llama is a woolly animal from South America."),
    (["what do {cats|lions|wolves} eat?"], "They eat meat."), (["what do {cows|horses|sheep|llamas} eat?"], "They eat grass."), (["at what temperature does water boil?", "when does water boil?"], "Water boils at 100 degrees Celsius."),
    (["at what temperature does water freeze?", "when does water freeze?"], "Water freezes at 0 degrees Celsius."), (["how many continents are there?"], "There are seven continents."),
]  # fmt: skip


def _cycle(rng: random.Random) -> Pair:
    names, unit = rng.choice([(DAYS, "day"), (DAYS, "day"), (MONTHS, "month")])
    at = rng.randrange(len(names))
    if rng.random() < 0.2:
        return (
            f"{{What|Which}} is the {ORDINALS[at]} {unit} of the {'week' if unit == 'day' else 'year'}?",
            f"The {ORDINALS[at]} {unit} is {names[at]}.",
        )
    if rng.random() < 0.25 and unit == "day":
        return expand(
            rng,
            f"{{If today is {names[at]}, what day is tomorrow?|Today is {names[at]}. What day is tomorrow?}}",
        ), f"{names[(at + 1) % 7]} comes after {names[at]}."
    step, word = rng.choice([(1, "after"), (1, "after"), (-1, "before")])
    answer = names[(at + step) % len(names)]
    return (
        f"{{What|Which}} {unit} {{comes|is|comes}} {word} {names[at]}?",
        f"{answer} comes {word} {names[at]}.",
    )


def _colour(rng: random.Random) -> Pair:
    if rng.random() < 0.25:
        (a, b), mixed = rng.choice(list(MIXES.items()))
        if rng.random() < 0.5:
            a, b = b, a
        return (
            f"What {{colo{{u|}}r |}}do {a} and {b} make?",
            f"{a.capitalize()} and {b} make {mixed}.",
        )
    thing, colour = rng.choice(list(COLOURS.items()))
    question = (
        rng.choice(["{what|which} colo{u|}r {is|has} ", "what is the colo{u|}r of "]) + thing + "?"
    )
    return question, f"{capital(thing)} is {colour}."


def _opposite(rng: random.Random) -> Pair:
    a, b = rng.choice(OPPOSITES)
    if (
        rng.random() < 0.5
        and a not in ("young", "heavy", "tall")
        and b not in ("old", "light", "short", "end")
    ):
        a, b = b, a
    if b == a:
        a, b = OPPOSITES[0]
    return (
        f"{{what is|what's|tell me|give me}} {{the|the|an}} opposite {{of|of|to}} {a}?",
        f"The opposite of {a} is {b}.",
    )


def _animal(rng: random.Random) -> Pair:
    kind = rng.randrange(5)
    if kind == 0:
        name, sound = rng.choice(list(SOUNDS.items()))
        return (
            f"{{what does {article(name)} say|what sound does {article(name)} make|what noise does {article(name)} make}}?",
            f"{capital(article(name))} says {sound}.",
        )
    if kind == 1:
        name, baby = rng.choice(list(BABIES.items()))
        return (
            f"what is a {{baby|young}} {name}{{ called|}}?",
            f"A baby {name} is called {article(baby)}.",
        )
    if kind == 2:
        name, group = rng.choice(list(KINDS.items()))
        if rng.random() < 0.4:
            return (
                f"what {{kind of animal|sort of animal}} is {article(name)}?",
                f"{capital(article(name))} is {article(group)}.",
            )
        asked = rng.choice([group, group, *KINDS.values()])
        yes = asked == group
        return (
            f"is {article(name)} {article(asked)}?",
            f"{'Yes' if yes else 'No'}, {article(name)} is {article(group)}.",
        )
    if kind == 3:
        name, count = rng.choice(list(LEGS.items()))
        return (
            f"how many legs does {article(name)} have?",
            f"{capital(article(name))} has {count or 'no'} legs.",
        )
    name, home = rng.choice(list(HOMES.items()))
    return f"where does {article(name)} live?", f"{capital(article(name))} lives {home}."


def _letter(rng: random.Random) -> Pair:
    at = rng.randrange(25)
    kind = rng.randrange(4)
    if kind == 0:
        return (
            f"{{what|which}} letter {{comes|is}} after {LETTERS[at]}?",
            f"{LETTERS[at + 1]} comes after {LETTERS[at]}.",
        )
    if kind == 1:
        return (
            f"{{what|which}} letter {{comes|is}} before {LETTERS[at + 1]}?",
            f"{LETTERS[at]} comes before {LETTERS[at + 1]}.",
        )
    if kind == 2:
        at %= 12
        return (
            f"what is the {ORDINALS[at]} letter of the alphabet?",
            f"The {ORDINALS[at]} letter is {LETTERS[at]}.",
        )
    if rng.random() < 0.3:
        return "what is the last letter of the alphabet?", "The last letter is Z."
    vowel = LETTERS[at] in "AEIOU"
    return (
        f"is {LETTERS[at]} a vowel?",
        f"{'Yes' if vowel else 'No'}, {LETTERS[at]} is a {'vowel' if vowel else 'consonant'}.",
    )


def _capital_city(rng: random.Random) -> Pair:
    country, city = rng.choice(list(CAPITALS.items()))
    if rng.random() < 0.15:
        return (
            f"{{which|what}} country is {city} the capital of?",
            f"{city} is the capital of {country}.",
        )
    return (
        f"{{what is|what's|name|which city is|tell me}} the capital{{ city|}} of {country}?",
        f"The capital of {country} is {city}.",
    )


def _member(rng: random.Random) -> Pair:
    group, members = rng.choice(list(LISTS.items()))
    plural = group + "s"
    if rng.random() < 0.4:
        return f"name {article(group)}.", f"{capital(members[0])} is {article(group)}."
    if rng.random() < 0.4:
        return (
            f"{{name|list|give me}} three {plural}.",
            f"Three {plural} are {members[0]}, {members[1]} and {members[2]}.",
        )
    other, others = rng.choice(list(LISTS.items()))
    thing = rng.choice(members if rng.random() < 0.6 else others)
    true = group if thing in members else other
    return (
        f"is {thing} {article(group)}?",
        f"{'Yes' if true == group else 'No'}, {thing} is {article(true)}.",
    )


def _fixed(rng: random.Random) -> Pair:
    patterns, answer = rng.choice(FIXED)
    return rng.choice(patterns), answer


_SOURCES: list[tuple[Callable[[random.Random], Pair], int]] = [
    (_cycle, 3), (_colour, 3), (_opposite, 4), (_animal, 5), (_letter, 3), (_capital_city, 4), (_member, 2), (_fixed, 6),
]  # fmt: skip


def pair(rng: random.Random) -> Pair:
    """Return a question of general knowledge and its answer."""
    source = rng.choices([s for s, _ in _SOURCES], [weight for _, weight in _SOURCES])[0]
    pattern, answer = source(rng)
    question = capital(expand(rng, pattern)).replace(" i ", " I ")
    if question[-1] not in "?.":
        question += "."
    return roughen(rng, question), answer
