"""/lora-adapters, /props, and `?model=` of what llama-server asks of a model, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from shimmy.engine.types.info import ModelInfo
from shimmy.server.props import props
from tests.server.fakes import INFO
from tests.support.served import Served, serve
from tests.support.tiny_gguf import write_lora, write_model


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("home")
    folder = home / "shelf"
    folder.mkdir()
    model = write_model(folder / "one.gguf")
    write_model(folder / "two.gguf", seed=8)
    write_model(folder / "three.gguf", seed=9)
    first, second = [write_lora(home / f"style-{n}.gguf", seed=20 + n) for n in range(2)]
    flags = ("--model-path", str(model), "--model-dirs", str(folder), "-np", "2", "-c", "1024")
    with serve(home, *flags, "--lora", str(first), "--lora", f"{second}=0") as server:
        status, answer = server.post("/api/models/two/load", {})
        assert status == 200, answer
        # the one that was used last is the current one
        assert server.post("/v1/completions", body())[0] == 200
        yield server


def body(**fields: Any) -> dict[str, Any]:
    return {
        "model": "one",
        "prompt": "the quick brown fox",
        "max_tokens": 8,
        "temperature": 0,
        "ignore_eos": True,
        **fields,
    }


def text(served: Served, **fields: Any) -> str:
    status, answer = served.post("/v1/completions", body(**fields))
    assert status == 200, answer
    return str(answer["choices"][0]["text"])


def scales(served: Served) -> list[float]:
    status, listed = served.get("/lora-adapters?model=one")
    assert status == 200, listed
    return [one["scale"] for one in listed]


def test_adapters_are_listed_by_their_files_names(served: Served) -> None:
    status, listed = served.get("/lora-adapters?model=one")
    assert status == 200
    assert [(one["id"], one["path"]) for one in listed] == [
        (0, "style-0.gguf"),
        (1, "style-1.gguf"),
    ]
    assert served.get("/lora-adapters?model=two") == (200, [])


def test_a_request_chooses_and_the_defaults_can_be_changed(served: Served) -> None:
    assert scales(served) == [1.0, 0.0]
    first, second = [text(served, lora=[{"id": i, "scale": 1.0}]) for i in (0, 1)]
    none = text(served, lora=[])
    assert len({first, second, none}) == 3
    assert text(served) == first
    try:
        changed = served.post("/lora-adapters?model=one", [{"id": 1, "scale": 1.0}])  # type: ignore[arg-type]
        assert changed == (200, {"success": True})
        assert scales(served) == [0.0, 1.0]
        assert text(served) == second
        assert served.post("/lora-adapters?model=one", [])[0] == 200  # type: ignore[arg-type]
        assert text(served) == none
    finally:
        served.post("/lora-adapters?model=one", [{"id": 0, "scale": 1.0}])  # type: ignore[arg-type]
    assert text(served) == first


@pytest.mark.parametrize(
    ("path", "answer_of"),
    [
        ("/v1/chat/completions", lambda answer: answer["choices"][0]["message"]["content"]),
        ("/api/generate", lambda answer: answer["response"]),
        ("/infill", lambda answer: answer["content"]),
    ],
)
def test_every_generating_endpoint_takes_them(served: Served, path: str, answer_of: Any) -> None:
    given = {
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
        "/api/generate": {"prompt": "the quick", "stream": False},
        "/infill": {"input_prefix": "the quick", "input_suffix": " fox"},
    }[path]
    common = {"model": "one", "max_tokens": 8, "temperature": 0, "ignore_eos": True}
    answers = []
    for i in (0, 1):
        status, answer = served.post(path, {**given, **common, "lora": [{"id": i, "scale": 1.0}]})
        assert status == 200, answer
        answers.append(answer_of(answer))
    assert answers[0] != answers[1]


@pytest.mark.parametrize(
    ("lora", "param"),
    [
        ([{"id": 2, "scale": 1.0}], "lora"),
        ([{"id": -1, "scale": 1.0}], "lora[0].id"),
        ([{"id": 0, "scale": 1.0}, {"id": 0, "scale": 0.5}], "lora[1].id"),
        ([{"id": 0, "scale": 1e9}], "lora[0].scale"),
    ],
)
def test_what_cannot_be_names_its_field(served: Served, lora: Any, param: str) -> None:
    for path, given in (("/v1/completions", body(lora=lora)), ("/lora-adapters?model=one", lora)):
        status, answer = served.post(path, given)
        assert status == 400, answer
        assert answer["error"]["param"] == param
    assert scales(served) == [1.0, 0.0]


@pytest.mark.parametrize("lora", [{"id": 0}, [{"id": 0}], [{"scale": 1}], [0], "0"])
def test_what_is_no_list_of_scales_is_refused(served: Served, lora: Any) -> None:
    for path, given in (("/v1/completions", body(lora=lora)), ("/lora-adapters?model=one", lora)):
        status, answer = served.post(path, given)
        assert status == 400, answer
    assert scales(served) == [1.0, 0.0]


def test_props_are_those_of_the_named_model(served: Served) -> None:
    status, one = served.get("/props?model=one")
    assert status == 200, one
    assert one["model_path"] == "one.gguf"
    assert one["total_slots"] == 2
    assert one["default_generation_settings"]["n_ctx"] == 1024
    assert one["default_generation_settings"]["params"]["lora"] == [
        {"id": 0, "scale": 1.0},
        {"id": 1, "scale": 0.0},
    ]
    assert "<|im_start|>" in one["chat_template"]
    assert one["chat_template_caps"]
    assert one["eos_token"] == "<|im_end|>"
    assert one["modalities"] == {"vision": False, "audio": False}
    assert one["placement"][0]["device"] == "CPU"
    assert "llama.cpp" in one["build_info"]
    assert served.get("/props?model=two")[1]["model_path"] == "two.gguf"


def test_props_cannot_be_changed(served: Served) -> None:
    status, answer = served.post("/props", {"chat_template": "x"})
    assert status == 400
    assert answer["error"]["code"] == "not_supported"


def test_props_tell_of_the_sampling_that_a_model_advises() -> None:
    advised = {"general.sampling.temp": "0.6", "general.sampling.top_k": "20"}
    info = ModelInfo(
        **{f: getattr(INFO, f) for f in INFO.__struct_fields__} | {"metadata": advised}
    )
    params = props(info, [])["default_generation_settings"]["params"]
    assert params == {"temperature": 0.6, "top_k": 20, "lora": []}


@pytest.mark.parametrize("path", ["/props", "/slots", "/lora-adapters"])
def test_a_model_is_named_by_the_query(served: Served, path: str) -> None:
    assert served.get(path)[0] == 200
    assert served.get(f"{path}?model=two")[0] == 200
    status, answer = served.get(f"{path}?model=three")
    assert (status, answer["error"]["code"]) == (503, "model_loading"), answer
    assert "three" in answer["error"]["message"]
    assert served.get(f"{path}?model=nobody")[0] == 404
    models = {one["name"]: one["status"] for one in served.get("/api/models")[1]["models"]}
    assert models["three"] == "unloaded", "looking loads nothing"


def test_slots_of_the_named_model_are_told(served: Served) -> None:
    status, answer = served.post("/v1/completions", body(model="two"))
    assert status == 200, answer
    assert any(slot["n_past"] for slot in served.get("/slots?model=two")[1])
    status, answer = served.post("/slots/0?model=nobody&action=erase", {})
    assert status == 404
