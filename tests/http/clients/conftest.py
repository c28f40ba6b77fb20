"""Where the server is, and what its scripted model says, for the checks of each package."""

import os
from typing import Any

import pytest

AGENT, MODEL = "agent", "smollm2-135m-instruct"
QUESTION = "How warm is it in Zürich?"
CITY, ANSWER = 'Zü"r', "It is 4 degrees."
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}


@pytest.fixture(scope="session")
def url() -> str:
    return os.environ["BESSEMER_URL"]


@pytest.fixture(scope="session")
def tools() -> list[dict[str, Any]]:
    return [
        {
            "type": "function",
            "function": {"name": "get_weather", "description": "Says it.", "parameters": SCHEMA},
        },
        {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}},
    ]
