"""langchain-openai against a real server with the built-in model."""

from __future__ import annotations

import langchain_openai
import pydantic
import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool

from tests.support.served import Served

MODEL = "shimmy-demo"


@pytest.fixture
def llm(served: Served) -> langchain_openai.ChatOpenAI:
    return langchain_openai.ChatOpenAI(
        model=MODEL,
        base_url=served.url + "/v1",
        api_key="none",
        temperature=0,
        max_tokens=64,
        max_retries=0,
    )


@tool
def get_weather(city: str) -> str:
    """Get the current weather in a city"""
    return f"sunny in {city}"


def test_an_answer_and_what_it_cost(llm: langchain_openai.ChatOpenAI) -> None:
    answer = llm.invoke("What is shimmy?")
    assert "inference server" in answer.content
    usage = answer.usage_metadata
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0


def test_a_stream_says_the_same(llm: langchain_openai.ChatOpenAI) -> None:
    chunks = list(llm.stream("What is shimmy?", stream_usage=True))
    assert "".join(chunk.content for chunk in chunks) == llm.invoke("What is shimmy?").content
    assert sum((chunk.usage_metadata or {}).get("output_tokens", 0) for chunk in chunks) > 0


def test_a_tool_is_called_and_its_result_is_used(llm: langchain_openai.ChatOpenAI) -> None:
    with_tools = llm.bind_tools([get_weather])
    messages = [HumanMessage("What is the weather in Paris?")]
    first = with_tools.invoke(messages)
    (call,) = first.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"})
    messages += [first, ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])]
    assert with_tools.invoke(messages).content


@pytest.mark.parametrize("choice", ["any", "get_weather"])
def test_a_tool_can_be_forced(llm: langchain_openai.ChatOpenAI, choice: str) -> None:
    answer = llm.bind_tools([get_weather], tool_choice=choice).invoke("What is shimmy?")
    assert [call["name"] for call in answer.tool_calls] == ["get_weather"]
    assert not answer.invalid_tool_calls


class Answer(pydantic.BaseModel):
    """Whether shimmy is a server."""

    yes: bool


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_an_object_of_a_class(llm: langchain_openai.ChatOpenAI, method: str) -> None:
    found = llm.bind(max_tokens=200).with_structured_output(Answer, method=method)
    assert isinstance(found.invoke("What is shimmy?"), Answer)


def test_embeddings(served: Served) -> None:
    # langchain sends token ids of an OpenAI tokeniser unless told that this is another model
    embeddings = langchain_openai.OpenAIEmbeddings(
        model=MODEL, base_url=served.url + "/v1", api_key="none", check_embedding_ctx_length=False
    )
    one, two = embeddings.embed_documents(["a cat", "a dog"])
    assert len(one) == len(two) > 0
