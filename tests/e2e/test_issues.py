"""The Rust shimmy's issues about what a served model is to its clients, by number."""

from __future__ import annotations

from tests.support.served import Served

QUESTION = {"messages": [{"role": "user", "content": "What is shimmy?"}], "temperature": 0}


def test_issue_65_the_404_lists_the_models_there_are(served: Served) -> None:
    status, body = served.post("/v1/chat/completions", {**QUESTION, "model": "gpt-4"})
    assert (status, body["error"]["code"]) == (404, "model_not_found")
    assert "Available models: ['shimmy-demo']" in body["error"]["message"]


def test_issue_113_a_model_has_openais_four_fields_and_no_more(served: Served) -> None:
    status, body = served.get("/v1/models")
    assert (status, body["object"]) == (200, "list")
    for model in body["data"]:
        assert set(model) == {"id", "object", "created", "owned_by"}
        assert (model["object"], model["owned_by"]) == ("model", "shimmy")


def test_issue_132_the_templates_end_mark_ends_the_answer_whatever_stops_are_given(
    served: Served,
) -> None:
    answers = []
    for stop in (None, ["nothing of that kind"], ["GGUF"]):
        status, body = served.post(
            "/v1/chat/completions", {**QUESTION, "stop": stop, "max_tokens": 200}
        )
        assert status == 200, body
        (choice,) = body["choices"]
        assert choice["finish_reason"] == "stop"
        answers.append(choice["message"]["content"])
    assert answers[0] == answers[1]
    assert "<|" not in answers[0]
    assert answers[2] == answers[0].partition("GGUF")[0]


def test_issue_150_the_model_stays_loaded_between_requests(served: Served) -> None:
    pids = set()
    for _ in range(3):
        assert served.post("/v1/chat/completions", {**QUESTION, "max_tokens": 1})[0] == 200
        pids.add(served.worker_pid())
    assert len(pids) == 1
