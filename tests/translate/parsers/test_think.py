"""The marks of thoughts, and where a prompt leaves the answer."""

import pytest

from bessemer.engine.request import Thought
from bessemer.translate.chat import Chat, Message
from bessemer.translate.parsers.parser import AnswerFormat
from bessemer.translate.parsers.think import FAMILIES, FORMAT, named, think
from bessemer.translate.parts import said

ROWS = {row.name: row for row in (*FAMILIES, FORMAT)}


def place(prompt: str, row: str = "think") -> str:
    marks = ROWS[row].marks(prompt, Chat("m", ()))
    assert isinstance(marks, Thought)
    return marks.place


@pytest.mark.parametrize(
    ("prompt", "oracle"),
    [
        ("<|im_start|>assistant\n<think>\n", "thought"),
        ("<|im_start|>assistant\n<think>", "thought"),
        ("<|im_start|>assistant\n", "start"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", "start"),
        ("<|Assistant|></think>", "start"),
        ("What does <think> mean?<|im_end|>\n<|im_start|>assistant\n", "start"),
        ("", "start"),
    ],
)
def test_a_prompt_may_open_a_thought(prompt: str, oracle: str) -> None:
    assert place(prompt) == oracle


@pytest.mark.parametrize(
    ("row", "prompt", "oracle"),
    [
        ("seed", "<seed:bos>assistant\n", "start"),
        ("seed", "<seed:bos>assistant\n<seed:think><seed:cot_budget_reflect>", "thought"),
        ("exaone-deep", "[|assistant|]<thought>\n", "thought"),
        ("apriel", "<|assistant|>\nHere are my reasoning steps:\n", "thought"),
        ("cohere", "<|CHATBOT_TOKEN|>", "start"),
        ("cohere", "<|CHATBOT_TOKEN|><|START_RESPONSE|>", "text"),
        ("cohere", "<|CHATBOT_TOKEN|><|START_THINKING|><|END_THINKING|>", "start"),
        ("gemma4", "<|turn>model\n<|channel>thought\n<channel|>", "start"),
        ("gemma4", "<|turn>model\n<|channel>thought\n", "thought"),
    ],
)
def test_a_familys_prompt(row: str, prompt: str, oracle: str) -> None:
    assert place(prompt, row) == oracle


def test_going_on_in_a_final_message() -> None:
    def place(content: str, go_on: bool = True) -> str:
        chat = Chat("m", (Message("assistant", said(content)),), continue_final=go_on)
        marks = FORMAT.marks(f"assistant: {content}", chat)
        assert isinstance(marks, Thought)
        return marks.place

    assert place("<think>\nHm, so") == "thought"
    assert place("<think>\nHm, so", go_on=False) == "start"
    assert place("<think>Hm</think>So") == "text"
    assert place("A <think> tag is") == "text"
    assert place("The tag is <think>") == "text"
    assert place("") == "start"


@pytest.mark.parametrize("row", FAMILIES, ids=lambda row: row.name)
def test_a_family_is_known_by_the_marks_that_it_writes(row: AnswerFormat) -> None:
    marks = row.marks("", Chat("m", ())).marks
    assert row.suits("".join(marks), ()) and not row.suits("", ())


def test_moonshots_models_have_marks_of_their_own_unless_they_know_others() -> None:
    suits, middle = ROWS["kimi-vl"].suits, {"<|im_middle|>"}
    assert suits("", middle) and suits("a \u25c1think\u25b7 <think>", middle)
    assert not suits("<think>", middle) and not suits("", {*middle, "<think>"})
    assert not suits("", set()) and not suits("<think>", set())


def test_a_row_says_all_of_a_format() -> None:
    row = think("new", named("<a>", "<b>"), "<a>", "</a>", "<b>", "</b>")
    assert row.suits("x <a> <b>", ()) and row.suits("<a>", ["<b>"]) and not row.suits("<a>", ())
    assert row.marks("", Chat("m", ())) == Thought("<a>", "</a>", "start", "<b>", "</b>")
