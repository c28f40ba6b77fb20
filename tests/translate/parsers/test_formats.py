"""A model's format is the first that suits its template and tokenizer; a new one is a row."""

from collections.abc import Sequence

import pytest

from bessemer.engine.request import AnswerMarks, Thought
from bessemer.engine.text.specials import NONE, Specials
from bessemer.engine.text.stops import StopMatcher
from bessemer.translate.chat import Chat, Delta, Event, Finish, ReasoningDelta, TextDelta
from bessemer.translate.output import ChoiceOutput
from bessemer.translate.parsers.formats import FORMATS, choose
from bessemer.translate.parsers.parser import AnswerFormat, AnswerToken, SplitParser
from bessemer.translate.parsers.think import FORMAT


class ChannelParser:
    """Thoughts up to the special token <|final|>."""

    calls = 0

    def __init__(self, choice: int, marks: AnswerMarks, specials: Specials) -> None:
        self._choice = choice
        self.reasoning = True

    def feed(self, token: AnswerToken) -> Sequence[Delta]:
        if token.special == "<|final|>":
            self.reasoning = False
        if token.special or not token.text:
            return ()
        kind = ReasoningDelta if self.reasoning else TextDelta
        return (kind(self._choice, token.text),)

    def close(self) -> Sequence[Delta]:
        return ()


CHANNELS = AnswerFormat(
    "channels",
    lambda template, special: "<|final|>" in special,
    lambda prompt, chat: Thought("<|first|>", "<|final|>", "thought"),
    ChannelParser,
)
TABLE = (CHANNELS, *FORMATS)


class Letters:
    whole = True

    def add(self, token: int) -> str:
        return "" if token == 0 else chr(token)

    def flush(self) -> str:
        return ""


def test_the_first_row_that_suits() -> None:
    assert choose("{{ messages }}", ["<|end|>"], TABLE) is FORMAT
    assert choose("{{ messages }}", ["<|end|>", "<|final|>"], TABLE) is CHANNELS
    assert choose("", [], FORMATS) is FORMAT


def test_a_new_format_is_one_parser_and_one_row() -> None:
    chosen = choose("", ["<|final|>"], TABLE)
    parser = chosen.parser(2, chosen.marks("prompt", Chat("m", ())), NONE)
    specials = Specials({0: "<|final|>"})
    output = ChoiceOutput(2, parser, Letters(), StopMatcher(["Z"]), specials)
    events: list[Event] = [e for token in (65, 66, 0, 67, 90, 68) for e in output.feed(token)]
    assert [*events, *output.finish("stop", "Z")] == [
        ReasoningDelta(2, "A"),
        ReasoningDelta(2, "B"),
        TextDelta(2, "C"),
        Finish(2, "stop", "Z"),
    ]
    assert output.reasoning_tokens == 3


def test_thoughts_in_tags_are_any_models() -> None:
    chosen = choose("", [])
    marks = chosen.marks("", Chat("m", ()))
    assert isinstance(chosen.parser(0, marks, NONE), SplitParser)


@pytest.mark.parametrize(
    ("template", "special", "name"),
    [
        ("{{ messages }}", ["<|start|>", "<|message|>", "<|channel|>"], "channels"),
        ("'<seed:think>'", [], "seed"),
        ("", ["[THINK]", "[/THINK]"], "mistral"),
        ("", ["<|START_THINKING|>"], "cohere"),
        ("'<|channel>thought\\n<channel|>'", ["<|channel>"], "gemma4"),
        ("[|assistant|]<thought>", [], "exaone-deep"),
        ("<|im_assistant|>assistant<|im_middle|>", [], "kimi-vl"),
        ("<|im_assistant|>assistant<|im_middle|><think></think>", [], "think"),
        ("[BEGIN FINAL RESPONSE] ... [END FINAL RESPONSE]", [], "apriel"),
        ("after 'Here is my thought process:' and", [], "granite-3.2"),
        ("between <think></think> and <response></response>", [], "think-response"),
        ("<think>{{ a }}</think><answer>{{ b }}</answer>", [], "think-answer"),
        ("<|im_start|>assistant\n<think>", [], "think"),
    ],
)
def test_the_row_of_a_family(template: str, special: list[str], name: str) -> None:
    assert choose(template, special).name == name
