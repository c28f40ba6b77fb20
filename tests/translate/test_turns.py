"""Orders of turns that a template refuses, or leaves something out of, and what becomes of them."""

from collections.abc import Sequence

import pytest

from bessemer.engine.request import Refusal
from bessemer.translate.chat import Chat, Message, ToolCall
from bessemer.translate.parts import Image, Text, said
from bessemer.translate.template import ChatTemplate
from bessemer.translate.turns import _joined, arrangements, folded, led, merged, placed

BRIEF, REALLY = Message("system", said("Be brief.")), Message("system", said("Really."))
HI, BYE = Message("user", said("Hi")), Message("user", said("Bye"))
HELLO = Message("assistant", said("Hello!"))
RESULTS = tuple(Message("tool", said(text), result_of=text) for text in "ab")

SHOWN = "<{{ m.role }}>{{ m.content }}"
EVERY = "{% for m in messages %}" + SHOWN + "{% endfor %}"
# As Gemma's: no system, and turns that alternate.
STRICT = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}" + SHOWN + "{% endfor %}"
)
# As Mistral's: a system first, then turns that alternate.
INST = (
    "{% if messages[0].role == 'system' %}{% set s = messages[0].content + '\n\n' %}"
    "{% set rest = messages[1:] %}{% else %}{% set s = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% elif m.role == 'user' %}"
    "[INST]{{ s if loop.first }}{{ m.content }}[/INST]{% elif m.role == 'assistant' %}"
    "{{ m.content }}</s>{% else %}{{ raise_exception('Only user and assistant') }}{% endif %}"
    "{% endfor %}"
)
# Leave out a system's turn, or a later one, or an earlier one, or an earlier turn of a row.
SILENT = "{% for m in messages %}{% if m.role != 'system' %}" + SHOWN + "{% endif %}{% endfor %}"
FIRST = (
    "{% for m in messages %}{% if m.role != 'system' or loop.first %}" + SHOWN + "{% endif %}"
    "{% endfor %}"
)
LAST = (
    "{% set n = namespace(s='') %}{% for m in messages %}{% if m.role == 'system' %}"
    "{% set n.s = m.content %}{% endif %}{% endfor %}{{ n.s }}" + SILENT
)
ROWS = (
    "{% for m in messages %}{% if loop.last or loop.nextitem.role != m.role %}"
    + SHOWN
    + "{% endif %}"
    "{% endfor %}"
)


def render(source: str, *messages: Message, go_on: bool = False) -> str:
    return ChatTemplate(source).render(Chat("m", messages, continue_final=go_on))


@pytest.mark.parametrize(
    ("source", "messages", "prompt"),
    [
        (STRICT, (HI, HELLO, BYE), "<user>Hi<assistant>Hello!<user>Bye"),
        (STRICT, (BRIEF, HI), "<user>Be brief.\n\nHi"),
        (STRICT, (BRIEF,), "<user>Be brief."),
        (STRICT, (HI, HELLO, REALLY, BYE), "<user>Hi<assistant>Hello!<user>Really.\n\nBye"),
        (STRICT, (HI, BYE, HELLO, HELLO), "<user>Hi\n\nBye<assistant>Hello!\n\nHello!"),
        (STRICT, (BRIEF, HI, BYE, REALLY), "<user>Be brief.\n\nHi\n\nBye\n\nReally."),
        (STRICT, (HELLO, BYE), "<user><assistant>Hello!<user>Bye"),
        (STRICT, (BRIEF, HELLO, BYE), "<user>Be brief.<assistant>Hello!<user>Bye"),
        (INST, (BRIEF, HI, HELLO, BYE), "[INST]Be brief.\n\nHi[/INST]Hello!</s>[INST]Bye[/INST]"),
        (INST, (BRIEF, HELLO, BYE), "[INST]Be brief.\n\n[/INST]Hello!</s>[INST]Bye[/INST]"),
        (INST, (BRIEF, REALLY, HI), "[INST]Be brief.\n\nReally.\n\nHi[/INST]"),
        (INST, (HI, BRIEF, BYE), "[INST]Hi\n\nBe brief.\n\nBye[/INST]"),
        (SILENT, (BRIEF, HI, HELLO, BYE), "<user>Be brief.\n\nHi<assistant>Hello!<user>Bye"),
        (SILENT, (HI, HELLO, REALLY), "<user>Hi<assistant>Hello!<user>Really."),
        (FIRST, (BRIEF, HI), "<system>Be brief.<user>Hi"),
        (FIRST, (BRIEF, HI, REALLY, BYE), "<system>Be brief.<user>Hi<user>Really.<user>Bye"),
        (LAST, (HI, HELLO, REALLY, BYE), "Really.<user>Hi<assistant>Hello!<user>Bye"),
        (FIRST, (HI, HELLO, REALLY, BYE), "<user>Hi<assistant>Hello!<user>Really.<user>Bye"),
        (LAST, (BRIEF, REALLY, HI), "Be brief.\n\nReally.<user>Hi"),
        (ROWS, (HI, BYE, HELLO), "<user>Hi\n\nBye<assistant>Hello!"),
        (EVERY, (HELLO, HI, HI, BRIEF), "<assistant>Hello!<user>Hi<user>Hi<system>Be brief."),
    ],
)
def test_turns_are_arranged_as_little_as_the_template_wants(
    source: str, messages: tuple[Message, ...], prompt: str
) -> None:
    assert render(source, *messages) == prompt


def test_a_late_system_message_leaves_the_prompt_before_it_as_it_was() -> None:
    """What is cached of a conversation serves its next turn, system messages of it or not."""
    turns = (BRIEF, HI, HELLO, BYE)
    for source in (EVERY, STRICT, INST, SILENT, FIRST):
        before = render(source, *turns, HELLO)
        after = render(source, *turns, HELLO, REALLY, HI)
        assert after.startswith(before) and "Really." in after


def test_the_answer_goes_on_in_the_last_turn_however_turns_are_arranged() -> None:
    assert render(STRICT, BRIEF, HI, HELLO, HELLO, go_on=True) == (
        "<user>Be brief.\n\nHi<assistant>Hello!\n\nHello!"
    )
    with pytest.raises(Refusal, match="cannot be continued"):  # no other turn is gone on in instead
        render(STRICT, HI, HELLO, BYE, REALLY, go_on=True)


def test_what_nothing_helps_gets_the_templates_own_words() -> None:
    with pytest.raises(Refusal, match="Only user and assistant") as caught:
        render(INST, HI, Message("critic", said("No.")), BYE)
    assert (caught.value.status, caught.value.field) == (400, "messages")


def test_steps_lose_nothing() -> None:
    thoughtful = Message("assistant", said("a"), "Hm.", calls=(ToolCall("1", "f", "{}"),))
    (both,) = merged((thoughtful, HELLO))
    assert (both.text, both.reasoning, both.calls) == ("a\n\nHello!", "Hm.", thoughtful.calls)
    assert merged((HI, *RESULTS, BYE)) == (HI, *RESULTS, BYE)  # each result is a call's own
    assert merged((Message("user"), HI, Message("user"))) == (HI,)
    two = Message("user", (Text("1"), Text("2")), name="Ann")
    assert folded((BRIEF, two))[0] == Message(
        "user", (Text("Be brief.\n\n1"), Text("2")), name="Ann"
    )
    assert placed((BRIEF, REALLY, HI, HELLO, BRIEF, BYE)) == (
        Message("system", said("Be brief.\n\nReally.")),
        *(HI, HELLO, Message("user", said("Be brief.")), BYE),
    )
    say = Message("user", said("Really."))  # never between a call and its results
    assert placed((HI, HELLO, REALLY, *RESULTS, HELLO)) == (HI, HELLO, *RESULTS, say, HELLO)
    assert placed((HI, HELLO, RESULTS[0], REALLY)) == (HI, HELLO, RESULTS[0], say)
    assert led((BRIEF, HELLO)) == (BRIEF, Message("user"), HELLO)
    for turns in ((HI, HELLO), (BRIEF,), ()):
        assert led(turns) == placed(turns) == turns
    assert folded((HI, HELLO)) == (HI, HELLO)


def test_each_arrangement_comes_once_and_the_turns_as_they_are_first() -> None:
    assert list(arrangements((HI, HELLO))) == [(HI, HELLO)]
    turns = (HELLO, BRIEF, HI, BYE)
    tried = list(arrangements(turns))
    assert tried[0] == turns
    assert all(each not in tried[:at] for at, each in enumerate(tried))
    for each in tried:
        words = " ".join(turn.text for turn in each)
        assert all(turn.text in words for turn in turns)


def test_turns_that_become_one_keep_their_parts_and_their_order() -> None:
    seen = Message("user", (Image(media_type="image/png", url="x"), Text("What?")))
    one = merged((HI, seen, BYE))
    assert [turn.content for turn in one] == [(*HI.content, seen.content[0], Text("What?\n\nBye"))]


def test_joining_a_row_of_turns_looks_at_each_text_once(monkeypatch: pytest.MonkeyPatch) -> None:
    joined: list[int] = []

    def counted(row: Sequence[Message]) -> Message:
        joined.append(len(row))
        return _joined(row)

    monkeypatch.setattr("bessemer.translate.turns._joined", counted)
    assert merged((HI,) * 5000 + (HELLO,) + (BYE,) * 3000)[0].text.count("Hi") == 5000
    assert joined == [5000, 3000]  # two by two it would be quadratic
