"""Answers as JSON: the demo model's part in structured output."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from training.corpus.phrase import article

if TYPE_CHECKING:
    import random

    from training.corpus.document import Pair
    from training.corpus.lexicon import Lexicon

_COLOURS = "red blue green yellow black white brown grey".split()
_JOBS = "teacher doctor baker farmer pilot nurse driver cook singer painter".split()


def pair(rng: random.Random, lexicon: Lexicon) -> Pair:
    """Return a sentence to be put into JSON, and the JSON."""
    name = lexicon.person()
    record: dict[str, object] = {"name": name}
    said = []
    if rng.random() < 0.8:
        record["age"] = rng.randint(1, 99)
        said.append(f"is {record['age']} years old")
    if rng.random() < 0.5:
        record["city"] = lexicon.city()
        said.append(f"lives in {record['city']}")
    if rng.random() < 0.3 or not said:
        record["job"] = rng.choice(_JOBS)
        said.append(f"is {article(str(record['job']))}")
    if rng.random() < 0.2:
        record["color"] = rng.choice(_COLOURS)
        said.append(f"likes {record['color']}")
    sentence = f"{name} {' and '.join(said)}."
    fields = ", ".join(record)
    ask = rng.choice([
        "Answer as JSON.", "Answer in JSON.", f"Give me JSON with {fields}.", f"Write this as JSON: {fields}.",
        "Extract the data as JSON.", "Turn this into JSON.", f"Extract {fields} as JSON.", "Return JSON.",
    ])  # fmt: skip
    question = f"{sentence} {ask}" if rng.random() < 0.6 else f"{ask} {sentence}"
    return question, json.dumps(record, ensure_ascii=False)
