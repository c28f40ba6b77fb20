"""Trial renders of a chat template, which tell once what it makes of contents and of turns."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..engine.sandbox import FAULTS
from .turns import Step, Turns, folded, hoisted, merged

Fields = dict[str, Any]  # a message as a template reads it
Render = Callable[[Sequence[Fields]], str]

CALL_ID = "callnum01"


@dataclass(frozen=True, slots=True)
class Form:
    """The contents that a template shows in turns of one role: a text, one part, several parts."""

    text: bool = True
    part: bool = False
    parts: bool = False

    def content(self, texts: Sequence[str], in_parts: bool = False) -> str | list[Fields]:
        """Return texts as the template shows them: as they were sent, if it takes them so."""
        if self.parts and len(texts) > 1:
            return _parts(texts)
        joined = "\n".join(texts)
        listed = self.part and (not self.text or (in_parts and bool(texts)))
        return _parts([joined]) if listed else joined


@dataclass(frozen=True, slots=True)
class Habits:
    """What a template shows: contents by role, a system message at all or late, turns in a row.

    With `text_arguments` it takes a call's arguments as JSON text, else as what the text means.
    """

    forms: Mapping[str, Form] = field(default_factory=dict)
    system: bool = True
    late: bool = True
    rows: bool = True
    text_arguments: bool = False
    fault: Exception | None = None  # what it says to one short question, if it cannot take that

    def form(self, role: str) -> Form:
        return self.forms.get(role, Form())

    def settled(self, turns: Turns) -> Turns:
        """Return the turns so that none of them is left out without a word."""
        steps: tuple[tuple[bool, Step], ...] = (
            (not self.system, folded),
            (not self.late and any(turn.role == "system" for turn in turns[1:]), hoisted),
            (not self.rows, merged),
        )
        for needed, step in steps:
            turns = step(turns) if needed else turns
        return turns


def habits(render: Render) -> Habits:
    """Find out what a template shows; what it refuses in every form is given to it as text."""
    user, fault = _form(render, [], _said("user"), [])
    ask, after = [_fields("user", user, "question")], [_fields("user", user, "more")]
    assistant, _ = _form(render, ask, _said("assistant"), after)
    calling = _fields("assistant", assistant, "")
    arguments = _arguments(render, ask, calling)
    called = [*ask, {**calling, **_calls(arguments)}]
    system, refused = _form(render, [], _said("system"), ask)
    tool, _ = _form(render, called, {**_said("tool"), "name": "f", "tool_call_id": CALL_ID}, [])
    forms = {"user": user, "assistant": assistant, "system": system, "tool": tool}

    def lost(*roles: str) -> bool:
        words = [f"word{at}of{role}" for at, role in enumerate(roles)]
        turns = [_fields(r, forms[r], w) for r, w in zip(roles, words, strict=True)]
        try:
            return not _shown(render(turns), words)
        except FAULTS:
            return False  # an order that is refused is mended when it comes

    return Habits(
        forms,
        system=refused is None or fault is not None,
        late=not lost("system", "user", "assistant", "system", "user"),
        rows=not (lost("user", "user") or lost("user", "assistant", "assistant", "user")),
        text_arguments=isinstance(arguments, str),
        fault=fault,
    )


def _arguments(render: Render, before: Sequence[Fields], turn: Fields) -> Fields | str:
    """Try a call's arguments as an object, then as text, and return what the template takes."""
    for arguments in ({"a": "wordofcall"}, '{"a": "wordofcall"}'):
        try:
            render([*before, {**turn, **_calls(arguments)}])
        except FAULTS:
            continue
        return arguments
    return {}


def _calls(arguments: Fields | str) -> Fields:
    function = {"name": "f", "arguments": arguments}
    return {"tool_calls": [{"type": "function", "id": CALL_ID, "function": function}]}


def _form(
    render: Render, before: Sequence[Fields], turn: Fields, after: Sequence[Fields]
) -> tuple[Form, Exception | None]:
    """Try a turn in each form; also return why none is shown, if none is."""
    fault: Exception | None = None

    def shows(content: Any, words: Sequence[str]) -> bool:
        nonlocal fault
        try:
            if _shown(render([*before, {**turn, "content": content}, *after]), words):
                return True
            fault = fault or ValueError(f"it leaves out what the {turn['role']} says")
        except FAULTS as error:
            fault = fault or error
        return False

    one, two = "words1of2", "words2of2"
    text, part = shows(one, [one]), shows(_parts([one]), [one])
    parts = shows(_parts([one, two]), [one, two])
    if text or part:
        return Form(text, part, parts), None
    return Form(), fault


def _said(role: str) -> Fields:
    return {"role": role}


def _fields(role: str, form: Form, text: str) -> Fields:
    return {"role": role, "content": form.content([text])}


def _parts(texts: Sequence[str]) -> list[Fields]:
    return [{"type": "text", "text": text} for text in texts]


def _shown(prompt: str, words: Sequence[str]) -> bool:
    """Whether a prompt has all the words, and none as Python or JSON writes a part."""
    written = re.compile(r"""['"]text['"]\s*:\s*['"](?:""" + "|".join(words) + ")")
    return all(word in prompt for word in words) and not written.search(prompt)
