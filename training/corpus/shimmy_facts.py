"""What the model knows of shimmy: its commands, its flags, its APIs and of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.corpus.phrase import capital, expand, roughen

if TYPE_CHECKING:
    import random

    from training.corpus.document import Pair

SHOWCASE = (
    "Shimmy is a local inference server and library for GGUF models, built on llama.cpp. "
    "It runs language models on your own machine, works offline, and speaks the OpenAI API."
)

_S = "{shimmy|shimmy|the shimmy server|the server}"

# (weight, question patterns, answer)
FACTS: list[tuple[int, list[str], str]] = [
    (8, [
        "what is shimmy?", "what is shimmy?", "what's shimmy?", "what {does|can} shimmy do?", "{tell me about|explain|describe} shimmy.",
        "what is shimmy {for|good for|used for}?", "what exactly is shimmy?", "{can you|could you} {explain|tell me} what shimmy is?", "so what is this shimmy?", "shimmy?",
    ], SHOWCASE),
    (3, ["how {do|can} i install shimmy?", "how is shimmy installed?", "how to install shimmy?", "install shimmy", "{what is the|which} command {to install|installs} shimmy?", "how do i {get|set up} shimmy?"],
     "Run `pip install .` in the shimmy folder. Then start the server with `shimmy serve`."),
    (5, [f"how {{do|can}} i {{start|run|launch|use}} {_S}?", f"how to {{start|run|launch}} {_S}?", f"{{which|what}} command {{starts|runs|launches}} {_S}?", f"{{start|run}} {_S}", "{what does|explain} `?shimmy serve`? do?",
         "what is `?shimmy serve`? for?", "how do i {get started|begin} with shimmy?"],
     "Run `shimmy serve`. The server then listens on http://127.0.0.1:11435."),
    (5, ["{what|which} port does {shimmy|the server|the shimmy server|it} {use|listen on|run on}?", "what is {shimmy's|the default|the server's|the} port?", "on {what|which} port does {shimmy|the server} {run|listen}?",
         "{what is|where is} the {address|url} of {shimmy|the server}?", "where does {shimmy|the server} listen?", "what is shimmy's default port?"],
     "Shimmy listens on port 11435, at http://127.0.0.1:11435."),
    (3, ["how {do|can} i {change|set|choose} the {port|address}?", "how {do|can} i use {another|a different} port?", "{change|set} the port", "how {do|can} i {bind|run} {shimmy|the server} on {another|a different} {port|address}?", "what does --bind do?", "what is the --bind {flag|option} for?"],
     "Use `shimmy serve --bind HOST:PORT`, for example `shimmy serve --bind 127.0.0.1:8080`."),
    (4, ["how {do|can} i {list|see|show} {the|my|all|available} models?", "{which|what} command {lists|shows} {the|my|all|available} models?", "how to list {the |}models?", "{what does|explain} `?shimmy list`? do?", "list {my |the |}models", "{which|what} models {do i have|are there|are available}?", "where {do|can} i see my models?", "how do i know which models i have?"],
     "Run `shimmy list`. It shows the models that are available."),
    (3, ["how {do|can} i {search for|find|discover} {new |}models{ again|}?", "{which|what} command {searches for|finds|discovers} models?", "{what does|explain} `?shimmy discover`? do?", "shimmy does not {see|find} my {new |}model", "what is `?shimmy discover`? for?", "how do i make shimmy look for {new |}models?"],
     "Run `shimmy discover`. It searches for models again."),
    (3, ["how {do|can} i {check|test|see} {if|whether} a model works?", "{which|what} command {checks|tests|probes} a model?", "{what does|explain} `?shimmy probe`? do?", "does my model work?", "what is `?shimmy probe`? for?", "how do i {check|test|probe} a model?"],
     "Run `shimmy probe NAME`. It loads the model and says if it works."),
    (4, ["how {do|can} i generate text{ on the command line| from the command line| in the terminal|}?", "{which|what} command generates text?", "{what does|explain} `?shimmy generate`? do?", "what is `?shimmy generate`? for?", "how {do|can} i use shimmy {without a server|from the command line|in the terminal}?", "how do i {give|send} {shimmy|it} a prompt?"],
     "Run `shimmy generate --prompt TEXT`. It generates text on the command line."),
    (3, ["how {do|can} i {see|check|show} {my gpu|the gpu|my devices|the devices|the backends}?", "{which|what} command shows {my gpu|the gpu|the devices|the backends}?", "{what does|explain} `?shimmy gpu-info`? do?", "does shimmy {see|use|find} my gpu?", "what is `?shimmy gpu-info`? for?"],
     "Run `shimmy gpu-info`. It shows the devices and backends that shimmy can use."),
    (3, ["how {do|can} i {measure|test|check} {the |its |shimmy's |}speed?", "how fast is {shimmy|it|my model|a model}?", "{which|what} command measures {the |}speed?", "{what does|explain} `?shimmy bench`? do?", "is shimmy fast?", "what is `?shimmy bench`? for?", "how do i benchmark {shimmy|a model}?"],
     "Run `shimmy bench`. It measures the speed of a model on your machine."),
    (3, ["{what|which} version of shimmy {is this|do i have|am i running}?", "how {do|can} i {see|check|find|get} {the|my|shimmy's} version?", "{which|what} command shows the version?", "what does {`?shimmy --version`?|--version} do?"],
     "Run `shimmy --version`. It prints the version of shimmy."),
    (3, ["how {do|can} i {serve|use|load|run} {my own|a particular|another|a specific|a gguf|my} model{ file|}?", "how to {serve|use|load} {my own|a} gguf{ file|}?", "what does --model-path do?", "what is the --model-path {flag|option} for?", "how do i serve a {gguf file|file}?"],
     "Use `shimmy serve --model-path FILE` to serve a particular GGUF file."),
    (3, ["how {do|can} i {set|change|choose} the context{ size| length|}?", "{what does|what is} {the |}-c {flag |option |}{do|for}?", "which {flag|option} sets the context{ size| length|}?", "how {do|can} i {get|use} a {longer|larger|bigger} context?"],
     "Use `-c N` to set the context size, for example `shimmy serve -c 4096`."),
    (3, ["how {do|can} i {set|change|choose} the number of {parallel |}slots?", "{what does|what is} {the |}-np {flag |option |}{do|for}?", "which {flag|option} sets the {parallel |}slots?", "how {do|can} i serve {many|several} users{ at once|}?", "how many requests {can shimmy serve|run} at once?"],
     "Use `-np N` to set the number of parallel slots, for example `shimmy serve -np 4`."),
    (3, ["how {do|can} i {use|enable} {the|my|a} gpu?", "{what does|what is} {the |}-ngl {flag |option |}{do|for}?", "which {flag|option} sets the gpu layers?", "how {do|can} i put {layers|the model} on the gpu?", "how do i offload layers?"],
     "Use `-ngl N` to put N layers on the GPU, for example `shimmy serve -ngl 99`."),
    (3, ["how {do|can} i {set|change|choose} the number of threads?", "{what does|what is} {the |}-t {flag |option |}{do|for}?", "which {flag|option} sets the {number of |}threads?", "how {do|can} i use {more|fewer} {threads|cores}?"],
     "Use `-t N` to set the number of threads, for example `shimmy serve -t 4`."),
    (4, ["{which|what} apis does shimmy {have|speak|offer|support}?", "{what|which} api does {shimmy|it} {have|speak|use|offer}?", "{what are|list} {the|shimmy's} {endpoints|apis}", "{which|what} endpoints {are there|does shimmy have}?", "does shimmy {support|speak|have} the openai api?", "is shimmy openai compatible?", "what is shimmy's native api?"],
     "Shimmy speaks the OpenAI API at /v1/chat/completions, /v1/completions and /v1/models. Its native API is /api/generate."),
    (3, ["where is the chat {endpoint|api}?", "{which|what} endpoint is for chat{ completions|}?", "what is the chat {completions |}endpoint?", "where do i {send|post} chat {requests|messages}?"],
     "The chat endpoint is /v1/chat/completions, as in the OpenAI API."),
    (3, ["{which|what} endpoint lists {the |}models?", "where is the {model list|list of models} in the api?", "how {do|can} i list models {over http|with the api|through the api}?"],
     "The endpoint /v1/models lists the models."),
    (3, ["how {do|can} i {check|know|see|tell} {if|whether|that} {shimmy|the server|it} is {running|up|alive|healthy}?", "is there a health {check|endpoint}?", "where is the health {check|endpoint}?", "what is /health{ for|}?"],
     "Ask the endpoint /health. It answers if the server is running."),
    (3, ["how {do|can} i use {the openai client|openai's client|the openai library|the openai sdk|the openai python client}{ with shimmy|}?", "what {base url|base_url} {do i|should i} {use|set}?", "what is the base url?", "how do i connect {my app|my tool|a client|my editor}{ to shimmy|}?"],
     "Set the base URL of your OpenAI client to http://127.0.0.1:11435/v1."),
    (4, ["is shimmy free?", "{what does|how much does} shimmy cost?", "{what is|which is} {shimmy's|the} licen{c|s}e{ of shimmy|}?", "is shimmy open source?", "under {what|which} licen{c|s}e is shimmy?", "do i have to pay for shimmy?", "can i use shimmy for free?"],
     "Shimmy is free and open source, under the MIT licence."),
    (4, ["does {shimmy|it} work offline?", "does shimmy need {the internet|internet|a network|an internet connection}?", "can i use {shimmy|it} {offline|without internet|without the internet}?", "is my data {safe|private}?", "does shimmy send {my |}data {anywhere|to the cloud|to anyone}?", "is shimmy private?"],
     "Shimmy works offline. Your models and your data stay on your own machine."),
    (3, ["what is {a |}gguf{ file|}?", "what {does gguf mean|are gguf files}?", "what is the gguf format?", "{which|what} models {can shimmy run|does shimmy run|does shimmy support|work with shimmy}?", "{which|what} {file |model |}format does shimmy {use|need|support}?"],
     "GGUF is the file format for models that llama.cpp reads. Shimmy runs GGUF models."),
    (3, ["what is llama.cpp?", "what is llama cpp?", "{which|what} engine does shimmy use?", "what is shimmy built on?", "what does shimmy use {inside|under the hood}?"],
     "llama.cpp is a library that runs language models on ordinary machines. Shimmy is built on it."),
    (2, ["does shimmy support {tools|tool calls|function calling|tool calling}?", "can shimmy call tools?", "how do {tools|tool calls} work?"],
     "Yes. Send a tools list with your chat request, and the model may answer with a tool call."),
    (2, ["{which|what} commands {does shimmy have|are there|can i use}?", "list {the|shimmy's|all} commands", "what are shimmy's commands?", "what commands does it have?", "help", "help me with shimmy", "how do i use shimmy?"],
     "The commands are `shimmy serve`, `shimmy list`, `shimmy discover`, `shimmy probe`, `shimmy generate`, `shimmy gpu-info` and `shimmy bench`."),
    (6, ["who are you?", "who are you?", "what are you?", "who am i {talking|speaking} to?", "introduce yourself.", "what is your name?", "what's your name?", "{tell me about|describe} yourself.", "are you {a model|a bot|an ai|a robot|a human|a person|real}?", "which model are you?", "what model is this?", "do you have a name?"],
     "I am shimmy's built-in demo model. I am small and good only for trying things out."),
    (3, ["how {big|large} are you?", "how many parameters do you have?", "what is your size?", "are you {a big|a large|a small} model?", "how smart are you?", "are you {smart|intelligent|clever}?"],
     "I am very small: only a few million parameters. I am good only for trying things out."),
    (3, ["are you {chatgpt|gpt|gpt-4|claude|llama|gemini|qwen}?", "were you made by {openai|google|meta}?"],
     "No, I am shimmy's built-in demo model, a very small one."),
    (4, ["what can you do?", "what do you know?", "how can you help{ me|}?", "what can i ask{ you|}?", "what are you good {at|for}?", "can you help me?", "what are your {skills|limits}?"],
     "I can chat a little, add small numbers, tell short stories, call simple tools and answer questions about shimmy."),
    (2, ["how {do|can} i {get|use|download} a {better|bigger|real|larger|smarter} model?", "{can i|how do i} replace you{ with a better model|}?", "i need a {better|bigger} model", "should i use you for {real work|work|my work|my job}?"],
     "Get a larger GGUF model and start it with `shimmy serve --model-path FILE`."),
]  # fmt: skip

_WEIGHTS = [weight for weight, _, _ in FACTS]
_NAMES = {
    "i": "I",
    "gguf": "GGUF",
    "gpu": "GPU",
    "openai": "OpenAI",
    "apis": "APIs",
    "api": "API",
    "http": "HTTP",
}


def _cased(question: str) -> str:
    """Write a lower-case question as a careful writer would."""
    words = [_NAMES.get(word, word) for word in question.split(" ")]
    return capital(" ".join(words))


def _quoted(rng: random.Random, question: str) -> str:
    """Keep or drop the optional code marks, which the patterns write as a backtick and `?`."""
    return question.replace("`?", rng.choice(["`", "", ""]))


def pair(rng: random.Random) -> Pair:
    """Return a question about shimmy or the model, with its answer."""
    _, patterns, answer = rng.choices(FACTS, _WEIGHTS)[0]
    question = _quoted(rng, expand(rng, rng.choice(patterns)))
    if question.count("`") == 1:
        question = question.replace("`", "")
    if rng.random() < 0.3:
        question = question.replace("shimmy", "Shimmy", 1)
    return roughen(rng, _cased(question)), answer
