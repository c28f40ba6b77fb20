"""litellm: both dialects by its prefixes, streams with usage, tools, its exceptions, embeddings."""

import json
from typing import Any

import litellm
import pytest
from conftest import AGENT, ANSWER, CITY, MODEL, QUESTION

HI = [{"role": "user", "content": QUESTION}]
DIALECTS = pytest.mark.parametrize("dialect", ["openai", "anthropic"])


def ask(url: str, dialect: str, model: str = AGENT, **fields: Any) -> Any:
    base = f"{url}/v1" if dialect == "openai" else url
    about: dict[str, Any] = {"messages": HI, "temperature": 0, "max_tokens": 200, "api_key": "x"}
    about |= {"api_base": base, "max_retries": 0, "num_retries": 0} | fields
    return litellm.completion(model=f"{dialect}/{model}", **about)


@DIALECTS
def test_chat_and_usage(url: str, dialect: str) -> None:
    reply = ask(url, dialect, MODEL, max_tokens=12)
    choice = reply.choices[0]
    assert choice.message.content and choice.finish_reason == "length"
    usage = reply.usage
    assert usage.completion_tokens == 12 and usage.prompt_tokens > 5
    assert usage.total_tokens == usage.prompt_tokens + 12


@DIALECTS
def test_a_stream_says_the_same_with_usage(url: str, dialect: str) -> None:
    whole = ask(url, dialect, MODEL, max_tokens=12)
    stream = ask(
        url, dialect, MODEL, max_tokens=12, stream=True, stream_options={"include_usage": True}
    )
    chunks = [*stream]
    said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert said == whole.choices[0].message.content
    ended = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert [each for each in ended if each] == ["length"]
    (usage,) = [c.usage for c in chunks if getattr(c, "usage", None)]
    assert usage.completion_tokens == 12
    assert usage.prompt_tokens == whole.usage.prompt_tokens


@DIALECTS
@pytest.mark.parametrize("stream", [False, True])
def test_parallel_calls_and_their_results(
    url: str, dialect: str, stream: bool, tools: list[Any]
) -> None:
    reply = ask(url, dialect, tools=tools, stream=stream)
    if stream:
        reply = litellm.stream_chunk_builder([*reply], messages=HI)
    choice = reply.choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content == "I look."
    calls = choice.message.tool_calls
    assert [call.function.name for call in calls] == ["get_weather", "clock"]
    assert json.loads(calls[0].function.arguments) == {"city": CITY, "days": 3}
    assert json.loads(calls[1].function.arguments) == {}
    results = [{"role": "tool", "tool_call_id": call.id, "content": "4"} for call in calls]
    turns = [*HI, choice.message.model_dump(), *results]
    again = ask(url, dialect, messages=turns, tools=tools)
    assert again.choices[0].message.content == ANSWER
    assert again.choices[0].finish_reason == "stop"


@DIALECTS
def test_a_call_that_must_be_made(url: str, dialect: str, tools: list[Any]) -> None:
    choice: Any = {"type": "function", "function": {"name": "get_weather"}}
    for asked in ("required", choice):
        reply = ask(url, dialect, MODEL, tools=tools[:1], tool_choice=asked)
        (call, *_) = reply.choices[0].message.tool_calls
        assert call.function.name == "get_weather"
        assert isinstance(json.loads(call.function.arguments)["city"], str)


def test_a_schema(url: str) -> None:
    schema = {
        "type": "object",
        "properties": {"warm": {"type": "boolean"}, "unit": {"enum": ["C", "F"]}},
        "required": ["warm", "unit"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "w", "schema": schema, "strict": True}}
    reply = ask(url, "openai", MODEL, response_format=form)
    found = json.loads(reply.choices[0].message.content)
    assert isinstance(found["warm"], bool) and found["unit"] in ("C", "F")


@DIALECTS
def test_errors_are_its_own(url: str, dialect: str) -> None:
    with pytest.raises(litellm.NotFoundError):
        ask(url, dialect, "no-such-model")
    with pytest.raises(litellm.BadRequestError):
        ask(url, dialect, messages=[{"role": "user", "content": "Hi"}], top_p=7)
    with pytest.raises(litellm.BadRequestError):
        ask(url, dialect, messages=[{"role": "user", "content": "Hi " * 20000}])


def test_embeddings(url: str) -> None:
    about: Any = {"model": "openai/minilm", "api_base": f"{url}/v1", "api_key": "x"}
    for form in ("float", None):
        reply = litellm.embedding(input=["A cat.", "A dog."], encoding_format=form, **about)
        assert [len(each["embedding"]) for each in reply.data] == [384, 384]
        assert isinstance(reply.data[0]["embedding"][0], float)
        assert reply.usage.prompt_tokens > 4


@pytest.mark.parametrize("name", ["atext_completion", "text_completion"])
def test_completions(url: str, name: str) -> None:
    if name.startswith("a"):
        pytest.skip("the same request")
    reply = litellm.text_completion(
        model=f"text-completion-openai/{MODEL}", prompt="The sky is", max_tokens=5,
        api_base=f"{url}/v1", api_key="x",
    )  # fmt: skip
    assert reply.choices[0].text and reply.choices[0].finish_reason == "length"
