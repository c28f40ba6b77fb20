"""Scripted answers of each family, at every split: what is thought, what is text, what stops.

The marks are those of the families' own templates and tokenizers, as the rows of parsers/think.py
and parsers/channels.py name them.
"""

from dataclasses import dataclass

import pytest

from .scripted import SIZES, Scripted

CHATML = "{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}"
HARMONY = [
    "<|start|>",
    "<|end|>",
    "<|message|>",
    "<|channel|>",
    "<|constrain|>",
    "<|call|>",
    "<|return|>",
]
COHERE = ["<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>"]
SEED = ["<seed:think>", "</seed:think>", "<seed:cot_budget_reflect>"]
THINK = ["<think>", "</think>"]


@dataclass(frozen=True)
class Family:
    name: str
    answer: str  # thinks "Hm, hello there." and says "Hello there."
    special: tuple[str, ...] = ()
    ending: str = ""  # of its prompts
    about: str = ""  # what else its template says

    def scripted(self, answer: str = "") -> Scripted:
        template = CHATML + self.ending + "{# " + self.about + " #}"
        special = (*self.special, "<|im_end|>", "<|x|>")
        eos = ("<|im_end|>", "<|return|>") if "<|return|>" in special else ("<|im_end|>",)
        return Scripted(template, answer or self.answer, special, eos)


def family(name: str, answer: str, *special: str, ending: str = "", about: str = "") -> Family:
    return Family(name, answer.replace("HM", "Hm, hello there."), special, ending, about)


FAMILIES = [
    family("think", "<think>\nHM</think>\n\nHello there."),
    family("think", "<think>\nHM</think>\n\nHello there.", *THINK),
    family("opened", "HM</think>\nHello there.", ending="<think>\n"),
    family("opened", "\nHM</think>Hello there.", *THINK, ending="<think>"),
    family("closed", "Hello there.", ending="<think>\n\n</think>\n\n"),
    family("seed", "<seed:think>HM</seed:think>Hello there.", *SEED),
    family(
        "seed-0",
        "HM</seed:think>Hello there.",
        *SEED,
        ending="<seed:think><seed:cot_budget_reflect>",
    ),
    family("mistral", "[THINK]HM[/THINK]Hello there.", "[THINK]", "[/THINK]"),
    family(
        "cohere",
        "<|START_THINKING|>HM<|END_THINKING|>\n<|START_RESPONSE|>Hello there.<|END_RESPONSE|>",
        *COHERE,
    ),
    family("cohere-direct", "<|START_RESPONSE|>Hello there.<|END_RESPONSE|>", *COHERE),
    family(
        "gemma4",
        "<|channel>thought\nHM<channel|>Hello there.",
        "<|channel>",
        "<channel|>",
        "<|think|>",
    ),
    family("exaone-deep", "HM</thought>\n\nHello there.", ending="<thought>\n"),
    family("kimi-vl", "◁think▷HM◁/think▷Hello there.", "<|im_middle|>"),
    family(
        "granite-3.2",
        "Here is my thought process:\n\nHMHere is my response:\n\nHello there.",
        about="'Here is my thought process:'",
    ),
    family(
        "granite-3.3",
        "<think>HM</think><response>Hello there.</response>",
        about="<think></think> <response></response>",
    ),
    family(
        "ernie",
        "HM</think>\n\n<response>\nHello there.\n</response>\n",
        *THINK,
        ending="<think>\n",
        about="<response>",
    ),
    family(
        "hunyuan",
        "<think>\nHM</think>\n<answer>\nHello there.\n</answer>",
        about="<answer> <think>",
    ),
    family(
        "apriel",
        "Here are my reasoning steps:\nHM[BEGIN FINAL RESPONSE]\n"
        "Hello there.\n[END FINAL RESPONSE]",
        about="[BEGIN FINAL RESPONSE]",
    ),
    family(
        "harmony",
        "<|channel|>analysis<|message|>HM<|end|><|start|>assistant<|channel|>final<|message|>"
        "Hello there.",
        *HARMONY,
        ending="<|start|>assistant",
    ),
    family(
        "harmony-many",
        "<|channel|>analysis<|message|>Hm, <|end|><|start|>assistant<|channel|>analysis<|message|>"
        "hello there.<|end|><|start|>assistant<|channel|>final<|message|>Hello there.<|return|>",
        *HARMONY,
        ending="<|start|>assistant",
    ),
    family(
        "harmony-begun",
        "HM<|end|><|start|>assistant<|channel|>final<|message|>Hello there.<|return|>",
        *HARMONY,
        ending="<|start|>assistant<|channel|>analysis<|message|>",
    ),
]
DIRECT = {"cohere-direct", "closed"}
EACH = pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f"{f.name}-{len(f.special)}")


@EACH
def test_thoughts_and_text_at_every_split(family: Family) -> None:
    """H5.14: reasoning goes apart from the text, and no piece of a mark is in either."""
    model = family.scripted()
    thought = "" if family.name in DIRECT else "Hm, hello there."
    for size in SIZES:
        heard = model.chat(size)
        assert (heard.reasoning, heard.text, heard.stop) == (thought, "Hello there.", None)


@EACH
def test_stop_strings_count_in_the_text_alone_at_every_split(family: Family) -> None:
    model = family.scripted()
    for size in SIZES:
        for stop, text in (
            ("lo th", "Hel"),
            ("Hello", ""),
            (".", "Hello there"),
            ("Hm", "Hello there."),
        ):
            heard = model.chat(size, stop=(stop,))
            assert heard.text == text and heard.stop == (None if stop == "Hm" else stop)
            assert family.name in DIRECT or heard.reasoning == "Hm, hello there."
        heard = model.chat(size, stop=("lo th",), include_stop=True)
        assert heard.text == "Hello th"


@EACH
def test_stop_strings_count_in_thoughts_where_that_is_asked(family: Family) -> None:
    if family.name in DIRECT:
        return
    model = family.scripted()
    for size in SIZES:
        heard = model.chat(size, stop=("lo th",), stop_in_reasoning=True)
        assert (heard.reasoning, heard.text, heard.stop) == ("Hm, hel", "", "lo th")


@EACH
def test_an_answer_cut_at_every_character(family: Family) -> None:
    """What is shown of a cut answer is a beginning of the whole, but for half a mark of text.

    A thought that was not closed is all reasoning (H5.14).
    """
    model = family.scripted()
    whole, script = model.chat(1), model.script(1)
    all_special = family.special and family.name not in ("kimi-vl", "ernie")
    for length in range(1, len(script)):
        heard = model.chat(1, cut=length)
        assert not heard.text or heard.reasoning in ("", whole.reasoning)
        for shown, all_of_it in ((heard.reasoning, whole.reasoning), (heard.text, whole.text)):
            assert all_of_it.startswith(shown) or (not all_special and shown in family.answer)


@EACH
def test_a_special_token_stops_in_the_text_and_in_no_thought(family: Family) -> None:
    at = family.answer.rindex("Hello there.") + 6
    answer = family.answer[:at] + "<|x|>" + family.answer[at:]
    if family.name not in DIRECT:
        answer = answer.replace("ello there.", "ello<|x|> there.", 1)
    model = family.scripted(answer)
    for size in SIZES:
        heard = model.chat(size, stop=("<|x|>",))
        assert (heard.text, heard.stop) == ("Hello ", "<|x|>")
        assert model.chat(size, stop=("<|x|>",), include_stop=True).text == "Hello <|x|>"
        assert model.chat(size, stop=(" <|x|>th",)).text == "Hello"
        heard = model.chat(size)
        assert (heard.text, "<|x|>" in heard.reasoning) == ("Hello there.", False)
        heard = model.chat(size, skip_special_tokens=False)
        assert heard.text == "Hello <|x|>there."
        if family.name not in DIRECT:
            assert heard.reasoning.startswith("Hm, hello<|x|>") or "many" in family.name
            early = model.chat(size, stop=("<|x|>",), stop_in_reasoning=True)
            assert (early.text, early.stop) == ("", "<|x|>")


@EACH
def test_the_end_of_an_answer_may_be_a_stop_string(family: Family) -> None:
    model = family.scripted(family.answer.removesuffix("<|return|>") + "<|im_end|>")
    for size in SIZES:
        heard = model.chat(size, stop=("<|im_end|>", "\nUser:"))
        assert (heard.text, heard.stop) == ("Hello there.", "<|im_end|>")
        heard = model.chat(size, skip_special_tokens=False)
        assert (heard.text, heard.stop) == ("Hello there.", None)


def test_a_stop_string_that_might_have_been_a_mark_is_said_at_the_end() -> None:
    for answer in ("Hi <", "<", "<<|im_end|>"):
        model = family("think", "Hi <think><|im_end|>").scripted(answer)
        for size in SIZES:
            heard = model.chat(size, stop=("<",))
            assert (heard.text, heard.stop) == (answer.split("<")[0], "<")


def test_an_answer_that_is_continued() -> None:
    opened = family("think", "hello.</think>Hello").scripted()
    assert opened.chat(3, final="<think>Hm, ").reasoning == "hello."
    plain = family("think", "\n<think> is a tag").scripted()
    assert plain.chat(3, final="The tag").text == "\n<think> is a tag"
    answer = "there.<|end|><|start|>assistant<|channel|>final<|message|> Bye"
    head = "{# <|start|> #}"
    harmony = Scripted(
        "{% for m in messages %}<|start|>{{ m.role }}<|channel|>final<|message|>{{ m.content }}"
        "{% endfor %}" + head,
        answer,
        HARMONY,
        ("<|return|>",),
    )
    assert harmony.chat(3, final="Hello ").text == "there. Bye"


def test_a_call_ends_an_answer_of_channels_whatever_the_settings_say() -> None:
    answer = "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|> and on"
    model = Scripted(CHATML + "<|start|>assistant", answer, HARMONY)
    for size in SIZES:
        heard = model.chat(size)
        assert (heard.reasoning, heard.text, heard.stop) == ("", "{}", None)
        assert "and on" in model.chat(size, ignore_eos=True).text
        heard = model.chat(size, stop=("<|call|>",))
        assert (heard.text, heard.stop) == ("{}", "<|call|>")


def test_text_that_spells_a_mark_of_special_tokens_is_text() -> None:
    answer = "Use <think>x</think> and <|channel|>analysis."
    for special in (THINK, HARMONY):
        model = Scripted(CHATML, answer, special)
        tokens = [t for c in answer for t in model.tokenizer.encode(c)]
        model.script = lambda size, tokens=tokens: tokens  # type: ignore[method-assign, misc]
        assert model.chat(1).text == answer
