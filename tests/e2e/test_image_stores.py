"""Models that see without a flag: from Ollama's store, and from a folder with the projector beside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.models.test_stores import LIBRARY, manifest
from tests.support.pictures import url_of
from tests.support.served import Served, serve
from tests.support.tiny_gguf import write_lora, write_model
from tests.support.vision import make_pair, picture

# Ollama's name, and those of files
OF_OLLAMA, IN_A_FOLDER, BLIND = "eyes:2b", "tiny-gemma3", "blind"
TEMPLATE = b"""{{ if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}<|im_start|>user
{{ .Prompt }}<|im_end|>
<|im_start|>assistant
{{ .Response }}<|im_end|>
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's home with models where shimmy looks by itself."""
    home = tmp_path_factory.mktemp("home")
    made = tmp_path_factory.mktemp("made")
    text, mmproj = make_pair("qwen2vl", made, drop=("tokenizer.chat_template",))
    layers = {
        "model": text.read_bytes(),
        "projector": mmproj.read_bytes(),
        "adapter": write_lora(made / "lora.gguf", arch="qwen2vl").read_bytes(),
        "template": TEMPLATE,
        "system": b"Be brief, and say what you see.",
        "params": b'{"temperature": 0, "num_predict": 12}',
    }
    manifest(home / ".ollama" / "models", f"{LIBRARY}/eyes/2b", layers)
    folder = home / "models" / "gemma3"
    folder.mkdir(parents=True)
    make_pair("gemma3", folder)
    write_model(home / "models" / "blind.gguf")
    return home


@pytest.fixture(scope="module")
def served(home: Path) -> Iterator[Served]:
    with serve(home, "-t", "1") as server:
        yield server


def ask(served: Served, model: str, *seeds: int, **fields: Any) -> tuple[int, Any]:
    parts = [{"type": "image_url", "image_url": {"url": url_of(picture(s, 64, 48))}} for s in seeds]
    content = [*parts, {"type": "text", "text": "What is this?"}]
    body = {"model": model, "messages": [{"role": "user", "content": content}], **fields}
    return served.post("/v1/chat/completions", body)


def see(served: Served, model: str, *seeds: int) -> str:
    status, answer = ask(served, model, *seeds, max_tokens=12, temperature=0)
    assert status == 200, answer
    return str(answer["choices"][0]["message"]["content"])


def senses(served: Served) -> dict[str, bool]:
    return {m["name"]: m["vision"] for m in served.get("/api/models")[1]["models"]}


@pytest.mark.parametrize("model", [OF_OLLAMA, IN_A_FOLDER])
def test_a_model_that_is_found_sees_with_its_projector(served: Served, model: str) -> None:
    first, second, again = (see(served, model, seed) for seed in (1, 2, 1))
    assert first
    assert first == again != second
    assert senses(served)[model] is True


def test_ollamas_other_layers_count_where_a_model_sees(served: Served) -> None:
    status, answer = ask(served, OF_OLLAMA, 1)
    assert status == 200
    # greedy and as short as the parameters say
    assert answer["usage"]["completion_tokens"] == 12
    assert answer["choices"][0]["message"]["content"] == see(served, OF_OLLAMA, 1)
    (adapter,) = served.get(f"/lora-adapters?model={OF_OLLAMA}")[1]
    assert adapter["scale"] == 1
    parts = [{"type": "image_url", "image_url": {"url": url_of(picture(1, 64, 48))}}]
    messages = [
        {"role": "system", "content": "Be loud."},
        {"role": "user", "content": [*parts, {"type": "text", "text": "Well?"}]},
    ]
    rendered = served.post("/apply-template", {"model": OF_OLLAMA, "messages": messages})[1]
    assert rendered["prompt"] == (
        "<|im_start|>system\nBe loud.<|im_end|>\n"
        "<|im_start|>user\n<__media__>Well?<|im_end|>\n<|im_start|>assistant\n"
    )
    rendered = served.post("/apply-template", {"model": OF_OLLAMA, "messages": messages[1:]})[1]
    assert "Be brief, and say what you see." in rendered["prompt"]


def test_a_model_beside_them_without_a_projector_stays_blind(served: Served) -> None:
    status, answer = ask(served, BLIND, 1)
    assert status == 400
    assert "sees no images" in answer["error"]["message"]
    assert ask(served, BLIND, max_tokens=2)[0] == 200
    assert senses(served)[BLIND] is False


def test_no_mmproj_leaves_every_model_blind(home: Path) -> None:
    with serve(home, "-t", "1", "--no-mmproj") as server:
        for model in (OF_OLLAMA, IN_A_FOLDER):
            status, answer = ask(server, model, 1)
            assert status == 400
            assert "sees no images" in answer["error"]["message"]
            assert ask(server, model, max_tokens=2)[0] == 200
        assert not any(senses(server).values())


def test_a_projector_that_is_named_outright_is_used(
    home: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text, mmproj = make_pair("llava", tmp_path)
    apart = tmp_path_factory.mktemp("apart") / "eyes.gguf"
    mmproj.rename(apart)
    with serve(home, "-t", "1", "--model-path", str(text), "--mmproj", str(apart)) as server:
        assert see(server, "tiny-llava", 1) != see(server, "tiny-llava", 2)
        # the flag is the default model's; the others keep their own
        assert see(server, OF_OLLAMA, 1) != see(server, OF_OLLAMA, 2)
