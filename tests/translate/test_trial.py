"""Templates that read parts, texts or either, by role; what they leave out is found by trial.

The styles are those of published templates; the prompts of contents that transformers takes as they
are were made by transformers.
"""

import pytest

from bessemer.translate.chat import Chat, Message, ToolCall
from bessemer.translate.parts import Text, said
from bessemer.translate.template import ChatTemplate
from bessemer.translate.trial import Form

USER = Message("user", said("  Hi there \n"))
AGAIN = Message("user", said("Émile 😀?"))
SYSTEM = Message("system", said("Be <brief> & 'kind'."))
PARTS = Message("user", (Text("one "), Text("two")))
RULES = Message("system", (Text("Be brief. "), Text("Be kind.")))
SPOKE = Message("assistant", (Text("five "), Text("six")))
EMPTY = Message("assistant")
CALLED = Message("assistant", calls=(ToolCall("callnum01", "f", "{}"),))
RESULT = Message("tool", (Text("4"), Text("2")), name="f", result_of="callnum01")

# As Llama Guard's: parts alone, in every turn.
WALKS = (
    "{% for m in messages %}[{{ m.role }}]{% for part in m.content | selectattr('type', "
    "'equalto', 'text') %}{{ part.text }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}[a]{% endif %}"
)
CALLS = (
    "{% for m in messages %}[{{ m.role }}]{% for part in m.content %}{{ part.text }}{% endfor %}"
    "{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments }}{% endfor %}"
    "{% endfor %}"
)
# As SmolVLM's, which looks at the first part.
LOOKS = (
    "{% for m in messages %}{{ m['role'] | capitalize }}"
    "{% if m['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for line in m['content'] %}{% if line['type'] == 'text' %}{{ line['text'] }}{% endif %}"
    "{% endfor %}<end>\n{% endfor %}Assistant:"
)
# As Gemma 3's and Qwen2.5-VL's: a text or parts, of a system's turn the first part.
EITHER = (
    "{% if messages[0].role == 'system' %}{% if messages[0].content is string %}"
    "{% set s = messages[0].content %}{% else %}{% set s = messages[0].content[0].text %}"
    "{% endif %}{% set rest = messages[1:] %}{% else %}{% set s = '' %}{% set rest = messages %}"
    "{% endif %}{% for m in rest %}<{{ m.role }}>{% if loop.first %}{{ s }}|{% endif %}"
    "{% if m.content is string %}{{ m.content | trim }}{% else %}"
    "{% for p in m.content %}{{ p.text | trim }}{% endfor %}{% endif %}{% endfor %}"
)
# As Mistral Small 3.1's, whose test for a system's text is misspelt.
MISSPELT = (
    "{% if messages[0]['role'] == 'system' %}{% if messages[0] is string %}"
    "{% set s = messages[0]['content'] %}{% else %}"
    "{% set s = messages[0]['content'][0]['text'] %}{% endif %}{% set rest = messages[1:] %}"
    "{% else %}{% set s = '-' %}{% set rest = messages %}{% endif %}[S]{{ s }}[/S]"
    "{% for m in rest %}[{{ m.role }}]{% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for b in m['content'] %}{{ b['text'] }}{% endfor %}{% endif %}{% endfor %}"
)
# A text or nothing: a list is written as Python, as JSON, or not at all.
TEXTS = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
DUMPS = "{% for m in messages %}[{{ m.role }}]{{ m.content | tojson }}{% endfor %}"
ASKS = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content if m.content is string else '' }}"
    "{% endfor %}"
)


def render(source: str, *messages: Message) -> str:
    return ChatTemplate(source, {}).render(Chat("m", messages))


@pytest.mark.parametrize(
    ("source", "messages", "prompt"),
    [
        (WALKS, (USER,), "[user]  Hi there \n[a]"),
        (
            WALKS,
            (RULES, PARTS, SPOKE, AGAIN),
            "[system]Be brief. Be kind.[user]one two[assistant]five six[user]Émile 😀?[a]",
        ),
        (WALKS, (PARTS, EMPTY, AGAIN), "[user]one two[assistant][user]Émile 😀?[a]"),
        (
            LOOKS,
            (SYSTEM, PARTS),
            "System: Be <brief> & 'kind'.<end>\nUser: one two<end>\nAssistant:",
        ),
        (
            LOOKS,
            (USER, EMPTY, AGAIN),
            "User:   Hi there \n<end>\nAssistant: <end>\nUser: Émile 😀?<end>\nAssistant:",
        ),
        (
            EITHER,
            (RULES, PARTS, SPOKE, USER),
            "<user>Be brief. \nBe kind.|onetwo<assistant>fivesix<user>Hi there",
        ),
        (EITHER, (SYSTEM, USER), "<user>Be <brief> & 'kind'.|Hi there"),
        (EITHER, (USER, EMPTY, AGAIN), "<user>|Hi there<assistant><user>Émile 😀?"),
        (MISSPELT, (SYSTEM, USER), "[S]Be <brief> & 'kind'.[/S][user]  Hi there \n"),
        (
            MISSPELT,
            (RULES, PARTS, SPOKE),
            "[S]Be brief. \nBe kind.[/S][user]one two[assistant]five six",
        ),
        (
            TEXTS,
            (RULES, PARTS, SPOKE),
            "[system]Be brief. \nBe kind.[user]one \ntwo[assistant]five \nsix",
        ),
        (DUMPS, (PARTS,), '[user]"one \\ntwo"'),
        (ASKS, (PARTS, EMPTY, USER), "[user]one \ntwo[assistant][user]  Hi there \n"),
        (CALLS, (USER, CALLED, RESULT), "[user]  Hi there \n[assistant]f{}[tool]42"),
        (
            TEXTS,
            (USER, CALLED, RESULT),
            '[user]  Hi there \n[assistant]<tool_call>\n{"name": "f", "arguments": {}}\n'
            "</tool_call>[user]<tool_response>\n4\n2\n</tool_response>",
        ),
    ],
)
def test_contents_are_what_the_template_reads(
    source: str, messages: tuple[Message, ...], prompt: str
) -> None:
    assert render(source, *messages) == prompt


def test_a_form_is_found_for_each_role() -> None:
    forms = ChatTemplate(MISSPELT).habits.forms
    assert forms["user"] == forms["assistant"] == Form(text=True, part=True, parts=True)
    assert forms["system"] == Form(text=False, part=True, parts=False)
    assert ChatTemplate(TEXTS).habits.forms == dict.fromkeys(forms, Form())


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_turns_of_one_role_in_a_row_may_be_left_out(role: str) -> None:
    source = (
        "{% for m in messages %}{% if loop.first or m.role != loop.previtem.role or "
        f"m.role != '{role}'" + " %}[{{ m.role }}]{{ m.content }}{% endif %}{% endfor %}"
    )
    assert ChatTemplate(TEXTS).habits.rows and not ChatTemplate(source).habits.rows
    users, spoke = ([Message(each, said(text)) for text in "AB"] for each in ("user", "assistant"))
    assert render(source, *users, *spoke) == "[user]A\n\nB[assistant]A\n\nB"


@pytest.mark.parametrize(
    ("form", "one", "two"),
    [
        (Form(), "a", "a\nb"),
        (Form(text=False, part=True), ["a"], ["a\nb"]),
        (Form(text=False, part=True, parts=True), ["a"], ["a", "b"]),
        (Form(text=True, part=True, parts=True), "a", ["a", "b"]),
        (Form(text=True, part=True), "a", "a\nb"),
    ],
)
def test_contents_of_a_form(form: Form, one: str | list[str], two: str | list[str]) -> None:
    for texts, expected in ((["a"], one), (["a", "b"], two)):
        content = form.content(texts)
        assert content == (
            expected
            if isinstance(expected, str)
            else [{"type": "text", "text": text} for text in expected]
        )


def test_notes_for_the_log() -> None:
    assert ChatTemplate(TEXTS).notes == ChatTemplate(None).notes == ()
    assert "cannot be used (line 1" in ChatTemplate("{% if %}").notes[0]
    assert "cannot take a short question" in ChatTemplate("{{ nothing.here }}").notes[0]
    large = "{{ range(9) | batch(1000000000000000000, 'x') | list }}"
    assert "short question (MemoryError)" in ChatTemplate(large).notes[0]
    assert "leaves out what the user says" in ChatTemplate("Hello").notes[0]
    strict = "{{ raise_exception('No system') if messages[0].role == 'system' }}" + TEXTS
    assert "has no system message" in ChatTemplate(strict).notes[0]
