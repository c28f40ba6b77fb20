"""instructor: its modes, on a real model that is held to what they ask for, and a tool's script."""

import json
from collections.abc import Iterable
from typing import Any, Literal

import instructor
import pytest
from anthropic import Anthropic
from conftest import AGENT, CITY, MODEL
from instructor import Mode
from openai import BadRequestError, NotFoundError, OpenAI
from pydantic import BaseModel, Field, field_validator

HI: list[Any] = [{"role": "user", "content": "It is 4 degrees in Rome, and it rains."}]


class Report(BaseModel):
    """A report of the weather."""

    rain: bool
    unit: Literal["celsius", "kelvin"]
    degrees: int = Field(ge=-50, le=50)
    sky: Literal["clear", "grey"] | None = None


class get_weather(BaseModel):
    city: str
    days: int = 1


class Loose(BaseModel):
    rain: Any = None


class clock(BaseModel):
    pass


@pytest.mark.parametrize("mode", [Mode.TOOLS, Mode.TOOLS_STRICT, Mode.JSON_SCHEMA, Mode.FUNCTIONS])
def test_modes_that_decoding_keeps(url: str, mode: Mode) -> None:
    client = instructor.from_openai(OpenAI(base_url=f"{url}/v1", api_key="x"), mode=mode)
    about: dict[str, Any] = {"model": MODEL, "messages": HI, "temperature": 0, "max_tokens": 1000}
    report = client.chat.completions.create(response_model=Report, max_retries=0, **about)
    assert isinstance(report, Report) and -50 <= report.degrees <= 50


def test_the_json_mode_is_some_object(url: str) -> None:
    """The mode asks for any object, and tells of the schema in words that a model may miss."""
    client = instructor.from_openai(OpenAI(base_url=f"{url}/v1", api_key="x"), mode=Mode.JSON)
    report, completion = client.chat.completions.create_with_completion(
        response_model=Loose, model=MODEL, messages=HI, temperature=0, max_tokens=1000,
        max_retries=0,
    )  # fmt: skip
    assert isinstance(report, Loose)
    assert isinstance(json.loads(completion.choices[0].message.content), dict)


def test_partial_objects_of_a_stream(url: str) -> None:
    client = instructor.from_openai(OpenAI(base_url=f"{url}/v1", api_key="x"), mode=Mode.TOOLS)
    parts = [
        *client.chat.completions.create_partial(
            response_model=Report, model=MODEL, messages=HI, temperature=0, max_tokens=300
        )
    ]
    assert len(parts) > 2 and Report.model_validate(parts[-1].model_dump())


def test_markdown_with_json_in_a_grammar(url: str) -> None:
    """The mode asks for JSON in a fence, and no more: a grammar of ours holds it."""
    client = instructor.from_openai(OpenAI(base_url=f"{url}/v1", api_key="x"), mode=Mode.MD_JSON)
    fence = (
        'start: "```json\\n{\\"rain\\": " ("true" | "false") ", \\"unit\\": \\"kelvin\\", '
        '\\"degrees\\": " /[1-4]?[0-9]/ "}\\n```"'
    )
    report = client.chat.completions.create(
        response_model=Report, model=MODEL, messages=HI, extra_body={"guided_grammar": fence},
        max_retries=0,
    )  # fmt: skip
    assert isinstance(report, Report)


def test_parallel_tools(url: str) -> None:
    client = instructor.from_openai(
        OpenAI(base_url=f"{url}/v1", api_key="x"), mode=Mode.PARALLEL_TOOLS
    )
    found: Any = client.chat.completions.create(
        response_model=Iterable[get_weather | clock],  # type: ignore[type-abstract]
        model=AGENT, messages=HI, temperature=0,
    )  # fmt: skip
    first, second = found
    assert first == get_weather(city=CITY, days=3) and second == clock()


@pytest.mark.parametrize("mode", [Mode.ANTHROPIC_TOOLS])
def test_anthropics_modes(url: str, mode: Mode) -> None:
    client = instructor.from_anthropic(Anthropic(base_url=url, api_key="x"), mode=mode)
    report = client.messages.create(
        response_model=Report, model=MODEL, messages=HI, max_tokens=300, max_retries=0,
        extra_body={"temperature": 0},
        tool_choice={"type": "tool", "name": "Report", "disable_parallel_tool_use": True},
    )  # fmt: skip
    assert isinstance(report, Report)


def test_what_is_invalid_is_asked_again_with_the_call_in_the_history(url: str) -> None:
    """A second attempt sends the first call and why it is wrong: that has to be a prompt."""

    class get_weather(BaseModel):
        city: str

        @field_validator("city")
        @classmethod
        def known(cls, city: str) -> str:
            raise ValueError(f"there is no {city}")

    client = instructor.from_openai(OpenAI(base_url=f"{url}/v1", api_key="x"), mode=Mode.TOOLS)
    asked: list[Any] = []
    client.on("completion:kwargs", lambda *_, **kwargs: asked.append(kwargs["messages"]))
    with pytest.raises(Exception, match="there is no"):
        client.chat.completions.create(
            response_model=get_weather, model=MODEL, messages=HI, temperature=0, max_tokens=300,
            max_retries=1,
        )  # fmt: skip
    assert len(asked) == 2 and asked[1][-1]["role"] == "tool"


def test_errors_are_the_packages(url: str) -> None:
    client = instructor.from_openai(OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0))
    about: dict[str, Any] = {"response_model": Report, "messages": HI, "max_retries": 0}
    for model, more, kind in (
        ("none", {}, NotFoundError),
        (MODEL, {"top_p": 7}, BadRequestError),
    ):
        with pytest.raises(Exception) as caught:
            client.chat.completions.create(model=model, **about, **more)
        chain: BaseException | None = caught.value
        seen = []
        while chain is not None:
            seen.append(type(chain))
            chain = chain.__cause__ or chain.__context__
        assert any(issubclass(each, kind) for each in seen) or kind.__name__ in str(caught.value)
