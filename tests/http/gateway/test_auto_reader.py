"""What an auto-router reads of a request: the first words of a person's."""

import json
from pathlib import Path

import pytest

from bessemer.http.gateway.auto_reader import (
    BLOCKS,
    LONGEST,
    first_words,
    shortened,
    without_blocks,
)
from bessemer.translate import anthropic
from bessemer.translate.chat import Chat, Completion, GenerateRequest, Message
from bessemer.translate.parts import said

REMINDER = "<system-reminder>\nToday is Monday.\n</system-reminder>"
CONTEXT = "<environment_context>\n  <cwd>/a</cwd>\n</environment_context>"


def turns(*texts: str) -> Chat:
    return Chat("m", (Message("system", said("S")), *(Message("user", said(t)) for t in texts)))


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (turns("Hi", "Later"), "Hi"),
        (turns(f"{REMINDER}\nFix it."), "Fix it."),
        (turns(CONTEXT, "Fix it."), "Fix it."),
        (turns("# Rules\n\n<INSTRUCTIONS>\nBe brief.\n</INSTRUCTIONS>\nGo."), "# Rules\n\n\n\nGo."),
        (turns(REMINDER), REMINDER),  # there is nothing else
        (turns("<p>Is this HTML?</p>"), "<p>Is this HTML?</p>"),
        (turns("a <system-reminder> b"), "a \n b"),
        (turns(" ", "x"), "x"),
        (turns(), ""),
        (Completion("m", ("", "Once")), "Once"),
        (Completion("m", ((1, 2),)), ""),
    ],
)
def test_the_first_words(request_: GenerateRequest, words: str) -> None:
    assert first_words(request_) == words


def test_claude_code_s_first_words_are_its_user_s() -> None:
    file = Path(__file__).parents[1] / "claude_code_requests.json"
    body = json.loads(file.read_text())["request"]
    assert first_words(anthropic.DIALECT.decode_request(json.dumps(body).encode()))[-18:] == (
        "Write numbers.txt."
    )


def test_hostile_texts_take_no_time() -> None:
    assert len(shortened("x" * 10**7)) == LONGEST + 1 and shortened("x") == "x"
    tags = "".join(f"<a-{number}>" for number in range(5000))
    assert len(without_blocks(tags)) > len(tags) - BLOCKS * 8
