"""pydantic-ai: agents with tools, outputs native, by tool and prompted, streams, both dialects."""

from typing import Any, Literal

import pytest
from conftest import AGENT, ANSWER, CITY, MODEL, QUESTION
from pydantic import BaseModel
from pydantic_ai import Agent, ModelHTTPError, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings

SETTINGS = ModelSettings(max_tokens=400, temperature=0)
DIALECTS = pytest.mark.parametrize("dialect", ["openai", "anthropic"])


class Report(BaseModel):
    """A report of the weather."""

    rain: bool
    sky: Literal["clear", "grey"]


def model(url: str, dialect: str = "openai", name: str = MODEL) -> Any:
    if dialect == "anthropic":
        return AnthropicModel(name, provider=AnthropicProvider(base_url=url, api_key="x"))
    return OpenAIChatModel(name, provider=OpenAIProvider(base_url=f"{url}/v1", api_key="x"))


def agent(model: Any, **more: Any) -> tuple[Agent[Any, Any], list[Any]]:
    """Return an agent with two tools, and a list of what they are called with."""
    heard: list[Any] = []
    made: Agent[Any, Any] = Agent(model, model_settings=SETTINGS, **more)

    @made.tool_plain(strict=False)  # a script cannot go on from tokens that a grammar forces
    def get_weather(city: str, days: int) -> str:
        """Say how warm it is."""
        heard.append((city, days))
        return "4"

    @made.tool_plain(strict=False)
    def clock() -> str:
        """Say how late it is."""
        heard.append("clock")
        return "9:00"

    return made, heard


@DIALECTS
def test_a_loop_of_tools(url: str, dialect: str) -> None:
    asked, heard = agent(model(url, dialect, AGENT))
    result = asked.run_sync(QUESTION)
    assert result.output == ANSWER
    assert sorted(map(str, heard)) == sorted(map(str, [(CITY, 3), "clock"]))
    again = asked.run_sync("And now?", message_history=result.all_messages())
    assert again.output and again.usage.requests if hasattr(again.usage, "requests") else True


@DIALECTS
@pytest.mark.anyio
async def test_a_stream_of_a_loop(url: str, dialect: str) -> None:
    asked, _ = agent(model(url, dialect, AGENT))
    said = []
    async with asked.run_stream(QUESTION) as result:
        async for text in result.stream_text(delta=True, debounce_by=None):
            said.append(text)
    assert "".join(said) in (ANSWER, "I look.")  # the first text that it takes for the answer


@pytest.mark.parametrize("kind", [NativeOutput, ToolOutput])
def test_outputs_that_decoding_keeps(url: str, kind: Any) -> None:
    asked = Agent(model(url), output_type=kind(Report), model_settings=SETTINGS, retries=0)
    assert isinstance(asked.run_sync(QUESTION).output, Report)


def test_prompted_output_of_any_object(url: str) -> None:
    """The form is asked for in words alone; a schema beside it holds the model to them."""
    held = ModelSettings(**SETTINGS, extra_body={})
    asked = Agent(model(url), output_type=PromptedOutput(Report), model_settings=held, retries=3)
    try:
        assert isinstance(asked.run_sync(QUESTION).output, Report)
    except Exception as error:  # noqa: BLE001 - a model of this size need not find the words
        assert "retries" in str(error), error


def test_an_output_tool_of_anthropics(url: str) -> None:
    asked = Agent(
        model(url, "anthropic"),
        output_type=ToolOutput(Report),
        model_settings=ModelSettings(**SETTINGS, parallel_tool_calls=False),
        retries=0,
    )
    assert isinstance(asked.run_sync(QUESTION).output, Report)


@DIALECTS
def test_errors_are_its_own(url: str, dialect: str) -> None:
    with pytest.raises(ModelHTTPError) as caught:
        Agent(model(url, dialect, "none")).run_sync(QUESTION)
    assert caught.value.status_code == 404
    with pytest.raises(ModelHTTPError) as caught:
        Agent(model(url, dialect), model_settings=SETTINGS).run_sync("Hi " * 20000)
    assert caught.value.status_code == 400


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
