"""Answers of messages on channels, as gpt-oss writes them (harmony)."""

from collections.abc import Collection

from ...engine.request import AnswerMarks, Channels
from ...engine.text.channels import ChannelSplitter
from ...engine.text.specials import Specials
from ..chat import Chat
from .parser import AnswerFormat, Closing, SplitParser

START, MESSAGE, END = "<|start|>assistant", "<|message|>", "<|end|>"


def suits(template: str, special_tokens: Collection[str]) -> bool:
    marks = ("<|channel|>", MESSAGE, "<|start|>")
    return all(mark in special_tokens for mark in marks) or all(mark in template for mark in marks)


def marks(prompt: str, chat: Chat) -> Channels:
    """Return the head of the message that the prompt leaves open; most prompts end with a role."""
    _, start, rest = prompt.rpartition(START)
    if not start or END in rest:
        return Channels()
    head, message, _ = rest.partition(MESSAGE)
    return Channels(head + message)


def calling(choice: int, marks: AnswerMarks, specials: Specials) -> SplitParser:
    """Return a parser that leaves the heads of calls in the text."""
    assert isinstance(marks, Channels)
    splitter = ChannelSplitter(marks, specials, calls=True)
    return SplitParser(choice, marks, specials, splitter)


# openai/gpt-oss-20b: https://cookbook.openai.com/articles/openai-harmony, chat_template.jinja. Its
# generation_config.json has both ends of an answer; conversions may lack it.
FORMAT = AnswerFormat(
    "channels",
    suits,
    marks,
    ends=("<|return|>", "<|call|>"),
    calling=calling,
    closing=Closing(
        f"{END}{START}",
        text=f"<|channel|>final{MESSAGE}",
        calls={"harmony": "<|channel|>commentary"},
    ),
    efforts={"none": "low", "minimal": "low", "xhigh": "high", "max": "high"},
)
