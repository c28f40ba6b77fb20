"""OpenAI's Agents SDK: loops of tools, streams, output types and sessions, by either interface."""

import asyncio
from typing import Any, Literal

import openai
import pytest
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    function_tool,
)
from agents.memory import SQLiteSession
from conftest import AGENT, ANSWER, CITY, MODEL, QUESTION
from pydantic import BaseModel

INTERFACES = pytest.mark.parametrize("kind", [OpenAIResponsesModel, OpenAIChatCompletionsModel])
SETTINGS = ModelSettings(max_tokens=400, temperature=0)
QUIET = RunConfig(tracing_disabled=True)


class Report(BaseModel):
    """A report of the weather."""

    rain: bool
    sky: Literal["clear", "grey"]


def model(url: str, kind: Any, name: str) -> Any:
    return kind(name, openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0))


def agent(url: str, kind: Any) -> tuple[Agent[Any], list[Any]]:
    """Return an agent with two tools, and a list of what they are called with."""
    heard: list[Any] = []

    @function_tool(strict_mode=False)  # a script cannot go on from tokens that a grammar forces
    def get_weather(city: str, days: int) -> str:
        """Say how warm it is."""
        heard.append((city, days))
        return "4"

    @function_tool(strict_mode=False)
    def clock() -> str:
        """Say how late it is."""
        heard.append("clock")
        return "9:00"

    tools = [get_weather, clock]
    return Agent("Guide", model=model(url, kind, AGENT), tools=tools), heard


@INTERFACES
def test_a_loop_of_tools(url: str, kind: Any) -> None:
    asked, heard = agent(url, kind)
    result = Runner.run_sync(asked, QUESTION, run_config=QUIET)
    assert result.final_output == ANSWER
    assert sorted(map(str, heard)) == sorted(map(str, [(CITY, 3), "clock"]))
    usage = result.context_wrapper.usage
    assert usage.requests == 2 and usage.input_tokens and usage.output_tokens


@INTERFACES
def test_a_stream_of_a_loop(url: str, kind: Any) -> None:
    async def run() -> tuple[str, list[str], list[Any]]:
        asked, heard = agent(url, kind)
        result = Runner.run_streamed(asked, QUESTION, run_config=QUIET)
        events = [event async for event in result.stream_events()]
        items = [each.item.type for each in events if each.type == "run_item_stream_event"]
        deltas = [
            each.data.delta
            for each in events
            if each.type == "raw_response_event" and each.data.type == "response.output_text.delta"
        ]
        assert result.final_output == ANSWER
        return "".join(deltas), items, heard

    text, items, heard = asyncio.run(run())
    assert text.endswith(ANSWER) and len(heard) == 2
    assert items.count("tool_call_item") == items.count("tool_call_output_item") == 2
    assert items[-1] == "message_output_item"


@INTERFACES
def test_a_type_of_output(url: str, kind: Any) -> None:
    asked = Agent(
        "Guide", model=model(url, kind, MODEL), output_type=Report, model_settings=SETTINGS
    )
    result = Runner.run_sync(asked, "Report it.", run_config=QUIET)
    assert isinstance(result.final_output, Report)


@INTERFACES
def test_a_session_goes_on(url: str, kind: Any) -> None:
    asked, _ = agent(url, kind)
    session = SQLiteSession("one")
    first = Runner.run_sync(asked, QUESTION, session=session, run_config=QUIET)
    again = Runner.run_sync(asked, "And now?", session=session, run_config=QUIET)
    assert first.final_output == ANSWER and again.final_output
    roles = [each.get("role") for each in asyncio.run(session.get_items())]
    assert roles.count("user") == 2


def test_a_response_goes_on_from_the_one_before(url: str) -> None:
    asked = Agent("G", model=model(url, OpenAIResponsesModel, MODEL), model_settings=SETTINGS)
    first = Runner.run_sync(asked, "Say a word.", run_config=QUIET)
    known = first.last_response_id
    assert known
    again = Runner.run_sync(asked, "Again.", previous_response_id=known, run_config=QUIET)
    assert again.last_response_id not in (None, known)
    assert again.context_wrapper.usage.input_tokens > first.context_wrapper.usage.input_tokens


@INTERFACES
def test_errors_are_its_own(url: str, kind: Any) -> None:
    with pytest.raises(openai.NotFoundError):
        Runner.run_sync(Agent("G", model=model(url, kind, "none")), "Hi", run_config=QUIET)
    long = "Hi " * 20000
    with pytest.raises(openai.BadRequestError):
        Runner.run_sync(Agent("G", model=model(url, kind, MODEL)), long, run_config=QUIET)
