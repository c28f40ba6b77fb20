"""langchain-openai: chats, streams, bound tools, structured output by each of its methods."""

from typing import Any, Literal

import openai
import pytest
from conftest import AGENT, ANSWER, CITY, MODEL, QUESTION
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel


class Report(BaseModel):
    """A report of the weather."""

    rain: bool
    sky: Literal["clear", "grey"]


@tool
def get_weather(city: str, days: int = 1) -> str:
    """Say how warm it is."""
    return "4"


@tool
def clock() -> str:
    """Say how late it is."""
    return "9:00"


def chat(url: str, model: str = MODEL, **more: Any) -> ChatOpenAI:
    about: dict[str, Any] = {"max_tokens": 200, "max_retries": 0, "temperature": 0} | more
    return ChatOpenAI(base_url=f"{url}/v1", api_key="x", model=model, **about)  # type: ignore[arg-type]


def test_chat_and_usage(url: str) -> None:
    reply = chat(url, max_tokens=7).invoke(QUESTION)
    assert reply.content and reply.response_metadata["finish_reason"] == "length"
    assert reply.usage_metadata and reply.usage_metadata["output_tokens"] == 7


def test_a_stream_adds_up(url: str) -> None:
    model = chat(url, max_tokens=7, stream_usage=True)
    whole: Any = None
    for chunk in model.stream(QUESTION):
        whole = chunk if whole is None else whole + chunk
    assert isinstance(whole, AIMessageChunk) and whole.content == model.invoke(QUESTION).content
    assert whole.usage_metadata and whole.usage_metadata["output_tokens"] == 7


@pytest.mark.parametrize("stream", [False, True])
def test_a_loop_of_tools(url: str, stream: bool) -> None:
    model = chat(url, AGENT).bind_tools([get_weather, clock])
    turns: list[Any] = [HumanMessage(QUESTION)]
    if stream:
        reply: Any = None
        for chunk in model.stream(turns):
            reply = chunk if reply is None else reply + chunk
    else:
        reply = model.invoke(turns)
    assert [(c["name"], c["args"]) for c in reply.tool_calls] == [
        ("get_weather", {"city": CITY, "days": 3}),
        ("clock", {}),
    ]
    assert not reply.invalid_tool_calls and reply.content == "I look."
    by_name: dict[str, Any] = {"get_weather": get_weather, "clock": clock}
    results = [by_name[call["name"]].invoke(call) for call in reply.tool_calls]
    assert all(isinstance(each, ToolMessage) for each in results)
    assert model.invoke([*turns, reply, *results]).content == ANSWER


@pytest.mark.parametrize("choice", ["any", "get_weather", "required"])
@pytest.mark.parametrize("strict", [None, True])
def test_a_tool_that_must_be_called(url: str, choice: str, strict: bool | None) -> None:
    model = chat(url).bind_tools(
        [get_weather], tool_choice=choice, strict=strict, parallel_tool_calls=False
    )
    (call,) = model.invoke(QUESTION).tool_calls  # type: ignore[union-attr]
    assert call["name"] == "get_weather" and isinstance(call["args"]["city"], str)


@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
@pytest.mark.parametrize("raw", [False, True])
def test_structured_output(url: str, method: Any, raw: bool) -> None:
    model = chat(url).with_structured_output(Report, method=method, include_raw=raw, strict=True)
    found: Any = model.invoke(QUESTION)
    assert isinstance(found["parsed"] if raw else found, Report)


def test_json_mode(url: str) -> None:
    """The mode asks for any object, so the model is told which."""
    model = chat(url).with_structured_output(Report, method="json_mode", include_raw=True)
    found: Any = model.invoke('Write {"rain": true, "sky": "grey"} and no more.')
    assert found["parsed"] == Report(rain=True, sky="grey")


def test_errors_are_openais(url: str) -> None:
    with pytest.raises(openai.NotFoundError):
        chat(url, "none").invoke(QUESTION)
    with pytest.raises(openai.BadRequestError):
        chat(url, top_p=7).invoke(QUESTION)
    with pytest.raises(openai.BadRequestError, match="context"):
        chat(url).invoke("Hi " * 20000)


def test_embeddings(url: str) -> None:
    about: Any = {"base_url": f"{url}/v1", "api_key": "x", "model": "minilm"}
    texts = ["A cat sits there.", "Stock markets fell."]
    plain = OpenAIEmbeddings(check_embedding_ctx_length=False, **about).embed_documents(texts)
    assert [len(each) for each in plain] == [384, 384]
