"""The tools of the training text: what each is called and described as, how people ask for it, what it answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training.corpus.arithmetic import result
from training.corpus.phrase import expand

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from training.corpus.document import Tool
    from training.corpus.lexicon import Lexicon

STRING, INTEGER = "string", "integer"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of tool. Alternatives are separated as in a phrase pattern.

    `parameters` are (name, JSON type, description); `asks` name their slots `<1>`, `<2>`;
    `slots` say what fills them; `reply` turns a result into a sentence.
    """

    names: str
    descriptions: str
    parameters: tuple[tuple[str, str, str], ...]
    slots: tuple[str, ...]
    asks: tuple[str, ...]
    reply: str


@dataclass(slots=True)
class Offer:
    """A tool as offered in one conversation: its kind, and the names chosen for it."""

    kind: Kind
    tool: Tool
    name: str
    parameters: list[str]


_CITY = (
    "{city|city|city|location}",
    STRING,
    "{The city|Name of the city|The name of the city|City name|A city|The city, e.g. Paris|The city to look up}",
)

KINDS = [
    Kind("{get_weather|get_weather|get_weather|get_current_weather|weather}", "{Get|Returns|Look up|Find} {the|the current|current} weather {in|for|of} {a|the|the given} {city|place|location}{.|}", (_CITY,), ("city",),
         ("{what is|what's|how is|tell me|show me|check|get} the weather {in|in|for} <1>{ today| now| right now| like|}?", "{what is|what's} the weather like in <1>{ today|}?", "is it {cold|warm|sunny|raining|hot|windy} in <1>{ today|}?", "will it rain in <1>{ today|}?", "do i need an umbrella in <1>?", "how {warm|cold|hot} is it in <1>?", "weather in <1>", "<1> weather", "i am going to <1>. {how is|what is} the weather{ there|}?", "{can|could} you {check|tell me} the weather in <1>?"),
         "weather"),
    Kind("{get_time|get_time|get_time|get_current_time|current_time}", "{Get|Returns|Tells|Look up} the {current |}time in {a|the|the given} {city|place|location}{.|}", (_CITY,), ("city",),
         ("{what time is it|what is the time|tell me the time} in <1>{ now| right now|}?", "what's the time in <1>?", "{which|what} time is it {now |}in <1>?", "time in <1>", "how late is it in <1>?", "{can|could} you tell me the time in <1>?"),
         "time"),
    Kind("{calculate|calculate|calculator|compute}", "{Calculate|Compute|Evaluate|Work out} {an|a|the} {arithmetic expression|expression|sum|mathematical expression}{.|}", (("expression", STRING, "{The expression|An expression|The sum to calculate|Arithmetic expression, e.g. 2 + 3|What to compute}"),), ("expression",),
         ("{what is|calculate|compute|how much is|what's|work out} <1>?", "{please|can you} calculate <1>{.|}", "<1>", "use the calculator{:| for} <1>", "i need the result of <1>."),
         "calculate"),
    Kind("{search|search|web_search|search_web|find}", "{Search|Searches|Look something up in|Search for something in} {the web|the internet|the library|documents|a knowledge base}{.|}", (("{query|query|query|q|text}", STRING, "{The search query|What to search for|Query|The words to search for|Search terms}"),), ("topic",),
         ("{search|look} {the web |}for <1>{.|}", "{please|can you} search for <1>{.|}", "{find|google|look up} <1>{.|}", "find {information|something|articles|pages} about <1>{.|}", "search {the web |the internet |}for <1>", "what can you find about <1>?"),
         "search"),
    Kind("{send_message|send_message|send_message|send_sms|message}", "{Send|Sends} a {message|text message|short message} to {a person|somebody|a contact|someone}{.|}", (("{to|to|recipient|name}", STRING, "{Who gets the message|The recipient|Name of the recipient|The person}"), ("{text|text|message|body}", STRING, "{The message|Text of the message|What to say|The text to send}")), ("person", "message"),
         ("{send|write} {a message to <1>|<1> a message}: <2>", "{tell|message|text} <1>: <2>", "send \"<2>\" to <1>{.|}", "{please |}send <1> the {message|text} \"<2>\"{.|}", "{tell|text} <1> \"<2>\"", "send a message to <1> saying <2>", "tell <1> that <2>"),
         "message"),
    Kind("{send_email|send_email|email}", "{Send|Sends} an {email|e-mail}{ to a person| to somebody|}{.|}", (("{to|recipient}", STRING, "{Who gets it|The recipient|Name of the recipient}"), ("{subject|title}", STRING, "{The subject|Subject line|What it is about}")), ("person", "topic"),
         ("{send|write} an email to <1> about <2>{.|}", "email <1> about <2>{.|}", "write <1> an email about <2>{.|}"), "email"),
    Kind("{set_timer|set_timer|start_timer|timer}", "{Set|Starts|Start|Sets} a timer{ for some minutes|}{.|}", (("minutes", INTEGER, "{How many minutes|Minutes|Length in minutes|The number of minutes}"),), ("minutes",),
         ("{set|start} a timer for <1> minutes{.|}", "{set|start} a <1> minute timer{.|}", "timer <1> minutes", "{wake|remind} me in <1> minutes{.|}", "i need a timer for <1> minutes."), "timer"),
    Kind("{set_alarm|set_alarm|alarm}", "{Set|Sets} an alarm{ for a time| clock|}{.|}", (("time", STRING, "{The time|When to ring|Time as HH:MM}"),), ("clock",),
         ("set an alarm for <1>{.|}", "wake me {up |}at <1>{.|}", "alarm at <1>", "{set|put} the alarm to <1>{.|}"), "alarm"),
    Kind("{translate|translate|translate_text}", "{Translate|Translates} {a text|text|words|a word} {to|into} {another|a} language{.|}", (("text", STRING, "{The text|What to translate|Text to translate}"), ("{language|language|target}", STRING, "{The language|Target language|The language to translate to}")), ("phrase", "language"),
         ("translate \"<1>\" {to|into} <2>{.|}", "translate <1> {to|into} <2>{.|}", "{what is|how do you say} \"<1>\" in <2>?", "how do you say <1> in <2>?"), "translate"),
    Kind("{play_music|play_music|play_song|play}", "{Play|Plays} {music|a song|songs}{.|}", (("{song|song|artist|title}", STRING, "{The song|What to play|Name of the song}"),), ("title",),
         ("play <1>{.|}", "play {the song |some |music by |}<1>{.|}", "i want to {hear|listen to} <1>{.|}"), "done"),
    Kind("{add_note|create_note|save_note|take_note}", "{Save|Create|Write|Add} a note{.|}", (("{text|text|note|content}", STRING, "{The text|Text of the note|What to write down}"),), ("message",),
         ("{note|write down|remember}: <1>", "{make|take|save|add} a note: <1>", "{take|save} a note saying <1>", "note that <1>"), "done"),
    Kind("{add_to_list|add_item|add_to_cart}", "{Add|Adds} {an item|something} to the {shopping list|list|cart}{.|}", (("{item|item|product}", STRING, "{The item|What to add|Name of the item}"), ("{amount|count|quantity}", INTEGER, "{How many|Number of items|The amount}")), ("things", "count"),
         ("{add|put} <2> <1> {to|on} {the|my} {shopping |}list{.|}", "i need <2> <1>{.|}", "{buy|get|order} <2> <1>{.|}"), "done"),
    Kind("{turn_on|switch_on|turn_on_light}", "{Turn|Switch} on {a light|the light|the light in a room|a lamp}{.|}", (("{room|room|place}", STRING, "{The room|Which room|Name of the room}"),), ("room",),
         ("{turn|switch} on the {light|lamp|lights} in the <1>{.|}", "{turn|switch} the <1> {light|lights} on{.|}", "light in the <1> please", "make light in the <1>{.|}"), "done"),
    Kind("{get_capital|capital_of|find_capital}", "{Get|Find|Look up} the capital of a country{.|}", (("country", STRING, "{The country|Name of the country}"),), ("country",),
         ("what is the capital of <1>?", "{find|look up|tell me} the capital of <1>{.|}"), "capital"),
    Kind("{get_stock_price|stock_price|get_price}", "{Get|Look up} the {stock price|price of a share|current price} of a company{.|}", (("{company|company|symbol}", STRING, "{The company|Name of the company}"),), ("name",),
         ("what is the {stock |share |}price of <1>?", "how {are|is} <1> {shares|stock} doing?", "{get|check|show} the price of <1>{.|}"), "price"),
    Kind("{roll_dice|roll_die|random_number}", "{Roll a die|Roll dice|Get a random number}{.|}", (("sides", INTEGER, "{How many sides|Number of sides|The highest number}"),), ("sides",),
         ("roll a {die|dice} with <1> sides{.|}", "roll a <1> sided {die|dice}{.|}", "roll a d<1>{.|}"), "dice"),
    Kind("{book_table|reserve_table|book_restaurant}", "{Book|Reserve} a table {in|at} a restaurant{.|}", (("{restaurant|restaurant|name}", STRING, "{The restaurant|Name of the restaurant}"), ("{people|people|guests}", INTEGER, "{How many people|Number of guests}")), ("name", "count"),
         ("{book|reserve} a table at <1> for <2>{ people|}{.|}", "{book|reserve} a table for <2> at <1>{.|}"), "done"),
    Kind("{read_file|open_file|show_file}", "{Read|Open|Show} a file{.|}", (("{path|path|filename|file}", STRING, "{The file|Path of the file|Name of the file}"),), ("file",),
         ("{read|open|show|show me} {the file |}<1>{.|}", "what is in {the file |}<1>?"), "file"),
    Kind("{get_user|find_person|lookup_contact|get_contact}", "{Find|Look up|Get} {a person|a contact|a user}{ by name|}{.|}", (("name", STRING, "{The name|Name of the person|Who to find}"),), ("person",),
         ("{who is|find|look up} <1>{.|}", "{find|get|what is} the {phone number|address|contact} of <1>{.|}", "find the contact <1>{.|}"), "contact"),
    Kind("{get_date|get_date|today|current_date}", "{Get|Returns|Tells} {the current date|the date|today's date}{.|}", (), (),
         ("what is the date{ today|}?", "{what|which} day is {it|today}{ today|}?", "{what is|tell me} today's date{.|}", "{what's|what is} the date?"), "date"),
]  # fmt: skip

_LANGUAGES = "French German Spanish Italian Dutch Polish Swedish Danish Portuguese Latin Greek Japanese".split()
_PHRASES = [
    "good morning",
    "hello",
    "thank you",
    "good night",
    "the cat",
    "my house",
    "where is the station",
    "I love you",
    "see you tomorrow",
    "water",
    "bread and butter",
    "one beer please",
]
_MESSAGES = [
    "I am late",
    "I will be late",
    "dinner is ready",
    "happy birthday",
    "see you tomorrow",
    "call me back",
    "the meeting is at 3",
    "I am at home",
    "buy milk",
    "good luck",
    "where are you",
    "thanks for the help",
    "the train is late",
    "lunch at noon",
    "I am on my way",
    "we won the game",
    "pay the rent",
    "water the plants",
    "the key is under the mat",
    "hello from shimmy",
]
_ROOMS = [
    *"kitchen bedroom bathroom garden hall office garage cellar attic".split(),
    "living room",
    "dining room",
]
_COUNTRIES = "France Germany Italy Spain Portugal Austria Poland Greece Norway Sweden Finland Japan China Egypt Canada Peru Brazil Chile Kenya Ghana Nepal Iran Iraq Korea".split()
_SUFFIXES = [".txt", ".md", ".py", ".json", ".csv", ".log"]


def _expression(rng: random.Random) -> tuple[str, str]:
    """Return an expression as people say it and as the tool wants it."""
    sign = rng.choice("+-*/")
    a, b = rng.randint(0, rng.choice([9, 99, 999])), rng.randint(1, rng.choice([9, 99, 999]))
    said = {"+": ["+", "plus"], "-": ["-", "minus"], "*": ["*", "times"], "/": ["/", "divided by"]}[
        sign
    ]
    return f"{a} {rng.choice([sign, *said])} {b}", f"{a} {sign} {b}"


def _message(rng: random.Random, lexicon: Lexicon) -> str:
    roll = rng.random()
    if roll < 0.5:
        return rng.choice(_MESSAGES)
    if roll < 0.8:
        return expand(
            rng,
            f"{{the {lexicon.thing()} is {{red|here|lost|old|ready}}|I am in {lexicon.city()}|meet me in {lexicon.city()}|bring the {lexicon.thing()}|{lexicon.person()} is {{here|late|sick|home}}|call {lexicon.person()}}}",
        )
    return " ".join(lexicon.invent() for _ in range(rng.randint(1, 4)))


def fill(rng: random.Random, lexicon: Lexicon, slot: str) -> tuple[str, Any]:
    """Return what is said for a slot, and the argument it stands for."""
    if slot == "expression":
        return _expression(rng)
    if slot in ("minutes", "count", "sides"):
        number = rng.randint(2, {"minutes": 90, "count": 12, "sides": 100}[slot])
        return str(number), number
    makers: dict[str, Callable[[], str]] = {
        "city": lexicon.city,
        "person": lexicon.person,
        "topic": lexicon.topic,
        "name": lambda: lexicon.invent().capitalize(),
        "title": lambda: rng.choice([lexicon.topic(), lexicon.invent().capitalize()]),
        "message": lambda: _message(rng, lexicon),
        "phrase": lambda: rng.choice([rng.choice(_PHRASES), _message(rng, lexicon)]),
        "language": lambda: rng.choice(_LANGUAGES),
        "room": lambda: rng.choice(_ROOMS),
        "country": lambda: rng.choice([rng.choice(_COUNTRIES), lexicon.invent().capitalize()]),
        "things": lambda: lexicon.thing() + "s",
        "clock": lambda: (
            f"{rng.randrange(24):02}:{rng.choice(['00', '15', '30', '45', '05', '20'])}"
        ),
        "file": lambda: (
            rng.choice([lexicon.invent(), lexicon.thing(), "notes", "readme"])
            + rng.choice(_SUFFIXES)
        ),
    }
    said = makers[slot]()
    return said, said


def offer(rng: random.Random, kind: Kind) -> Offer:
    """Write a tool of this kind in OpenAI's format, with chosen names and descriptions."""
    name = expand(rng, kind.names)
    described = rng.random()
    properties: dict[str, Any] = {}
    for pattern, json_type, description in kind.parameters:
        schema: dict[str, Any] = {"type": json_type}
        if described < 0.55:
            schema["description"] = expand(rng, description)
        properties[expand(rng, pattern)] = schema
    own = list(properties)
    if kind.slots == ("city",) and rng.random() < 0.2:
        properties["unit"] = {"type": "string", "enum": ["celsius", "fahrenheit"]}
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    if own and rng.random() < 0.85:
        parameters["required"] = own
    if rng.random() < 0.08:
        parameters["additionalProperties"] = False
    function: dict[str, Any] = {"name": name}
    # llama.cpp writes an empty description where there is none
    function["description"] = expand(rng, kind.descriptions) if rng.random() < 0.93 else ""
    function["parameters"] = parameters
    return Offer(kind, {"type": "function", "function": function}, name, own)


_SKIES = ["sunny", "cloudy", "rainy", "windy", "snowy", "foggy", "clear"]


def respond(rng: random.Random, kind: Kind, arguments: list[Any]) -> tuple[str, str]:
    """Return what the tool answers, and the sentence that the model makes of it."""
    if kind.reply == "date":
        date = f"{rng.randint(2020, 2035)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
        return rng.choice([date, json.dumps({"date": date})]), f"The date is {date}."
    first = arguments[0]
    if kind.reply == "weather":
        sky, degrees = rng.choice(_SKIES), rng.randint(-10, 38)
        said = f"The weather in {first} is {sky}, {degrees} degrees."
        key = rng.choice(["temperature", "temp", "degrees", "temperature_c"])
        record = {
            "city": first,
            key: degrees,
            rng.choice(["condition", "sky", "weather", "conditions"]): sky,
        }
        if rng.random() < 0.4:
            record.pop("city")
        if rng.random() < 0.3:
            record = dict(reversed(record.items()))
        plain = [
            f"{sky}, {degrees} degrees",
            f"{degrees} degrees, {sky}",
            f"{degrees} C and {sky}",
            f"{sky}, {degrees}°C",
        ]
        return rng.choice([json.dumps(record), json.dumps(record), rng.choice(plain)]), said
    if kind.reply == "time":
        clock = f"{rng.randrange(24):02}:{rng.randrange(60):02}"
        return rng.choice(
            [clock, json.dumps({"time": clock}), json.dumps({"city": first, "time": clock})]
        ), f"It is {clock} in {first}."
    if kind.reply == "calculate":
        a, sign, b = str(first).split(" ")
        value = int(a) // int(b) if sign == "/" else result(int(a), sign, int(b))
        return rng.choice([str(value), json.dumps({"result": value})]), f"{first} = {value}"
    if kind.reply == "search":
        found = " ".join(
            [
                *rng.choice(
                    ["A short guide to", "All about", "The book of", "Ten facts about"]
                ).split(),
                str(first),
            ]
        )
        return rng.choice(
            [found, json.dumps({"results": [found]}), json.dumps([found])]
        ), f"I found this: {found}"
    if kind.reply in ("price", "dice", "translate", "contact", "file", "capital"):
        word = f"{rng.randint(1, 900)}" if kind.reply in ("price", "dice") else _word(rng)
        key = {"price": "price", "dice": "result"}.get(
            kind.reply, rng.choice(["result", "value", "text"])
        )
        return rng.choice([word, json.dumps({key: word})]), f"The answer is: {word}"
    done = {
        "message": f"I have sent the message to {first}.",
        "email": f"I have sent the email to {first}.",
        "timer": f"The timer is set for {first} minutes.",
        "alarm": f"The alarm is set for {first}.",
    }.get(kind.reply, "Done.")
    return rng.choice(
        ["ok", "OK", "done", '{"status": "ok"}', '{"success": true}', "sent", "true"]
    ), done


def _word(rng: random.Random) -> str:
    return "".join(
        rng.choice("bcdfglmnprstv") + rng.choice("aeiou") for _ in range(rng.randint(2, 3))
    ).capitalize()
