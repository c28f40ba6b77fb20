"""The format of messages on channels: whose it is, and where a prompt leaves the answer."""

import pytest

from bessemer.engine.request import Channels
from bessemer.translate.chat import Chat
from bessemer.translate.parsers.channels import FORMAT

MARKS = ["<|start|>", "<|end|>", "<|message|>", "<|channel|>"]


def test_it_suits_a_tokenizer_or_a_template_with_its_marks() -> None:
    assert FORMAT.suits("", MARKS)
    assert FORMAT.suits("".join(MARKS), ())
    assert not FORMAT.suits("", MARKS[:2]) and not FORMAT.suits("<|channel>", ["<channel|>"])


@pytest.mark.parametrize(
    ("prompt", "begun"),
    [
        ("<|start|>user<|message|>Hi<|end|><|start|>assistant", ""),
        (
            "<|start|>assistant<|channel|>analysis<|message|>",
            "<|channel|>analysis<|message|>",
        ),
        (
            "<|start|>assistant<|channel|>final<|message|>Once upon",
            "<|channel|>final<|message|>",
        ),
        ("<|start|>assistant<|channel|>analysis", "<|channel|>analysis"),
        ("<|start|>assistant<|channel|>final<|message|>Hi<|end|><|start|>user<|message|>Ho", ""),
        ("Hi", ""),
        ("", ""),
    ],
)
def test_a_prompt_may_leave_a_message_open(prompt: str, begun: str) -> None:
    assert FORMAT.marks(prompt, Chat("m", ())) == Channels(begun)
