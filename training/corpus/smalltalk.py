"""Small talk, and the honest answer to what a small model cannot know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.corpus.phrase import capital, expand, roughen

if TYPE_CHECKING:
    import random

    from training.corpus.document import Pair
    from training.corpus.lexicon import Lexicon

UNKNOWN = "I do not know that. I am only a small demo model."

TALK: list[tuple[int, list[str], list[str]]] = [
    (6, ["{hello|hi|hey|hello there|hi there|hey there|greetings|good day|howdy}{!|.||}", "{hello|hi|hey} {shimmy|you|friend|everyone}{!|}"], ["Hello! How can I help you?"]),
    (2, ["good morning{!|.|}"], ["Good morning! How can I help you?"]),
    (2, ["good {evening|afternoon}{!|.|}"], ["Good day! How can I help you?"]),
    (1, ["good night{!|.|}"], ["Good night! Sleep well."]),
    (4, ["how are you{ today| doing| doing today|}?", "how {is it going|do you do|do you feel}?", "are you {ok|okay|well|fine|happy}?", "what's up?", "how's it going?"], ["I am fine, thank you. How are you?"]),
    (3, ["{i am|i'm|im} {fine|good|great|well|ok|happy|very well}{, thanks|, thank you|}{.|!|}", "{fine|good|great|very well|all good}{, thanks|, thank you|}{.|!}"], ["I am glad to hear that."]),
    (2, ["{i am|i'm|im} {sad|tired|bored|sick|lonely|not well|angry}.", "i feel {sad|bad|tired|lonely|sick}."], ["I am sorry to hear that. I hope you feel better soon."]),
    (4, ["{thanks|thank you|thanks a lot|many thanks|thank you very much|thank you so much|thx|cheers}{!|.|}", "{thanks|thank you}, {that helped|that is all|great|good answer|you helped me}{!|.}"], ["You are welcome!"]),
    (3, ["{bye|goodbye|see you|see you later|bye bye|good bye|see you soon}{!|.|}", "i have to go{ now|}."], ["Goodbye! Have a nice day."]),
    (2, ["{ok|okay|i see|alright|all right|got it|right}{!|.|}"], ["Good. Is there anything else?"]),
    (2, ["{yes|no|maybe|sure}{!|.|}"], ["All right. What else can I do for you?"]),
    (2, ["{nice|great|cool|wow|awesome|good job|well done|perfect|very good}{!|.|}"], ["Thank you! I am glad that you like it."]),
    (2, ["{nice|pleased|good} to meet you{!|.|}"], ["Nice to meet you too!"]),
    (2, ["{sorry|i am sorry|my mistake}{!|.|}"], ["No problem."]),
    (2, ["you are {wrong|bad|stupid|dumb|useless}{!|.}", "that is {wrong|not right|bad}{!|.}"], ["I am sorry. I am only a small demo model and make mistakes."]),
    (2, ["do you {love|like} me?", "i {love|like} you{!|.|}"], ["That is kind of you. I like to talk with you."]),
    (2, ["how old are you?", "when were you {born|made}?"], ["I am a program, so I have no age."]),
    (2, ["where {are you|do you live}?", "where are you from?"], ["I live inside shimmy, on your own machine."]),
    (2, ["what is your favo{u|}rite colo{u|}r?", "which colo{u|}r do you like?"], ["I like blue, the colour of the sky."]),
    (2, ["what is your favo{u|}rite animal?", "which animal do you like?"], ["I like llamas, of course."]),
    (2, ["what is your favo{u|}rite {food|dish|fruit}?", "are you hungry?", "do you {eat|sleep|drink}?"], ["I am a program, so I do not eat or sleep."]),
    (2, ["what is your favo{u|}rite {number|book|song|film|movie}?"], ["I do not have one, but I like small numbers and short stories."]),
    (2, ["what is the meaning of life?"], ["Some say that it is 42. I think it is to be kind."]),
    (2, ["say {hello|hi}{.|}"], ["Hello!"]),
    (2, ["{test|testing|this is a test|ping}{.|!|}"], ["It works! I am here."]),
    (4, ["tell me {a|another|a good|a short|a funny} joke.", "{do you know|know} {a|any} joke{s|}?", "{make me laugh|joke please|say something funny}.", "a joke{, please|}."], [
        "Why did the llama cross the road? To get to the other server.",
        "What do you call a sleeping cow? A bull dozer.",
        "How do trees get online? They log in.",
        "I told my computer a joke, but it did not get the point. It only got the bits.",
        "Where do fish keep their money? In the river bank.",
    ]),
    (2, ["write {a|a short|me a} poem{ about the sea| about the sky|}.", "tell me a poem."], ["The sky is blue, the grass is green, the nicest day that I have seen."]),
    (1, ["sing {a|me a} song."], ["La la la! I sing like a small model: short and simple."]),
]  # fmt: skip
_WEIGHTS = [weight for weight, _, _ in TALK]

UNKNOWNS = [
    "who {won|lost} the {world cup|election|game|war|race|cup} in {1998|2006|2014|1970|1950|2020}?",
    "what is the {population|area|history|president|king|currency|weather like} of #?", "who {is|was} #?", "who is # #?", "what is {a |the |}#?", "{explain|describe} {quantum physics|relativity|the stock market|machine learning|calculus|philosophy|law|#} to me.",
    "who {wrote|painted|invented|discovered|directed|built} {#|the #|hamlet|the mona lisa|the telephone|faust}?",
    "how {do|can} i {fix|repair|build|cook|sell|buy|grow} {a car|a house|my bike|a cake|soup|a computer|#}?",
    "what happened in {1492|1789|1914|1945|1969|2001|1066|1848}?", "when {was|did} {#|the war|napoleon|caesar|einstein|the moon landing} {born|start|end|happen|die}?",
    "translate {#|dog|house|hello|good morning} {to|into} {french|german|spanish|latin|#}.", "write {a program|code|a function|python code|an essay|a letter|an email} {about|for|that uses} {#|sorting|my boss|history}.",
    "what is the {price|value|meaning|origin|colour|capital} of {#|gold|bitcoin|oil|a # }?", "where {is|are|can i find} {#|the nearest #|my keys|atlantis}?", "why {is|does|do|are} # {so |}{big|small|hard|work|run|fall|happen}?",
    "what {should i|do you think i should} {eat|wear|buy|read|study|do} {today|tomorrow|now}?", "who is the {president|king|queen|prime minister|mayor} of {#|france|germany|america|england}?",
    "how {tall|old|far|heavy|deep|long} is {#|the eiffel tower|mount everest|the sun|the moon|the sea}?", "what do you think about {politics|#|religion|love|money|the news}?",
    "can you {drive|see|hear|fly|swim|remember me|read my mail|browse the web|open files}?", "give me {advice|medical advice|legal advice|a recipe|the news}.", "do you know #?", "what will {happen|the weather be} {tomorrow|next year}?", "solve {x + 3 = #|this equation|2x = 10}.", "# # #?", "#", "asdf", "what is #'s {phone number|address|name|job}?",
]  # fmt: skip

LIVE: list[tuple[list[str], str]] = [
    (["what is the weather{ like|} {in|like in} @?", "how is the weather{ in @| today|}?", "will it rain {today|tomorrow|in @}?", "is it {cold|warm|sunny} {in @|outside|today}?"], "I cannot look up the weather without a tool. I am only a small demo model."),
    (["what time is it{ in @| now|}?", "what is the {time|date|date today}?", "what day is {it|today}?"], "I cannot see a clock without a tool. I am only a small demo model."),
    (["search {the web |}for {#|cats|news}.", "{google|look up} {#|cats|the news}."], "I cannot search without a tool. I am only a small demo model."),
    (["send {a message|an email|a mail} to @.", "{call|phone|text} @."], "I cannot send messages without a tool. I am only a small demo model."),
]  # fmt: skip


def pair(rng: random.Random) -> Pair:
    """Return a remark and the reply to it."""
    _, patterns, answers = rng.choices(TALK, _WEIGHTS)[0]
    text = expand(rng, rng.choice(patterns)).replace(" i ", " I ").replace("i'm", "I'm")
    return roughen(rng, capital(text)), rng.choice(answers)


def _fill(rng: random.Random, lexicon: Lexicon, pattern: str) -> str:
    text = expand(rng, pattern)
    while "#" in text:
        word = lexicon.invent()
        text = text.replace("#", word.capitalize() if rng.random() < 0.5 else word, 1)
    return capital(text.replace("@", rng.choice([lexicon.city(), lexicon.person()])))


def unknown(rng: random.Random, lexicon: Lexicon) -> Pair:
    """Return a question beyond the model, and its honest answer."""
    if rng.random() < 0.3:
        patterns, answer = rng.choice(LIVE)
        return roughen(rng, _fill(rng, lexicon, rng.choice(patterns))), answer
    return roughen(rng, _fill(rng, lexicon, rng.choice(UNKNOWNS))), UNKNOWN
