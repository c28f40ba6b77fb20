"""Trial renders of a chat template, which tell once what it makes of contents and of turns."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

from ..engine.sandbox import FAULTS
from .chat import Tool
from .parsers.tool_shape import HERMES, Shape
from .tool_turns import (
    apart,
    failures,
    function,
    named_results,
    silent_calls,
    thought_calls,
    told,
    with_short_ids,
    written_calls,
    written_results,
)
from .turns import Step, Turns, folded, merged, placed

Fields = dict[str, Any]  # a message as a template reads it
Render = Callable[[Sequence[Fields], Sequence[Fields]], str]  # messages and tools

THOUGHTS = ("thinking", "reasoning_content", "reasoning")  # templates know one or another
CALL_ID = "callnum01"
LONG_ID = "call_0123456789abcdef01234567"
ARGUMENTS: Sequence[Fields | str] = ({"a": "wordofcall"}, '{"a": "wordofcall"}')
CALL_WORDS = ("wordofname", "wordofcall")
RESULT = {"name": "wordofname", "tool_call_id": CALL_ID}
TOOL = Tool("wordoftool", "Does it.", {"type": "object", "properties": {}})
BARE = Tool(TOOL.name)


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

    A late one may be shown where it is the only one, and the first not where a call's result is
    last (`system_called`). A text beside a call may be refused where there is a thought too
    (`thought_beside`); what stands for it where it is not shown may be taken once alone
    (`told_beside`).

    With `text_arguments` it takes a call's arguments as JSON text, else as what the text means;
    with `null_content`, calls where there is no content. It may show `tools`, maybe `bare` ones of
    a name alone, `calls`, maybe `several` or `beside` a text, and `results`, or nothing of them:
    then they are text, calls of a `shape`. With `long_ids` it takes ids of any length. Thoughts of
    earlier turns are `thought_parts` of the content where it shows no field for them.
    """

    forms: Mapping[str, Form] = field(default_factory=dict)
    system: bool = True
    late: bool = True
    late_alone: bool = True
    rows: bool = True
    text_arguments: bool = False
    null_content: bool = False
    tools: bool = True
    bare: bool = True
    calls: bool = True
    several: bool = True
    beside: bool = True
    told_beside: bool = True
    thought_beside: bool = True
    system_called: bool = True
    results: bool = True
    long_ids: bool = True
    thought_parts: bool = False
    shape: Shape = HERMES
    fault: Exception | None = None  # what it says to one short question, if it cannot take that

    def form(self, role: str) -> Form:
        return self.forms.get(role, Form())

    def settled(self, turns: Turns, tools: Sequence[Tool] = ()) -> Turns:
        """Return the turns so that none of them is left out without a word; nor are the tools."""
        beside = sum(bool(turn.calls and turn.text) for turn in turns)
        called = bool(turns) and turns[-1].role == "tool"
        steps: tuple[tuple[bool, Step], ...] = (
            (True, failures),
            (True, named_results),
            (not self.long_ids, with_short_ids),
            (not self.thought_beside, thought_calls),
            (not self.calls, partial(written_calls, shape=self.shape)),
            (not self.several, apart),
            (not self.told_beside and beside > 1, silent_calls),
            (not self.beside, partial(written_calls, shape=self.shape, beside=True)),
            (not self.results, written_results),
            (bool(tools) and not self.tools, partial(told, tools=tools, shape=self.shape)),
            (not self.system or (called and not self.system_called), folded),
            (self._hides_late(turns), placed),
            (not self.rows, merged),
        )
        for needed, step in steps:
            turns = step(turns) if needed else turns
        return turns

    def _hides_late(self, turns: Turns) -> bool:
        """Return whether a late system message would be left out without a word."""
        count = sum(turn.role == "system" for turn in turns)
        is_late = any(turn.role == "system" for turn in turns[1:])
        return is_late and not (self.late_alone if count == 1 else self.late)


def habits(render: Render, shape: Shape = HERMES) -> Habits:
    """Find out what a template shows; what it refuses in every form is given to it as text."""
    trials = _Trials(render)
    user, fault = trials.form([], "user", [])
    ask, after = [_fields("user", user, "question")], [_fields("user", user, "more")]
    assistant, _ = trials.form(ask, "assistant", after)
    system, refused = trials.form([], "system", ask)
    null, arguments, calls = trials.call(ask, _fields("assistant", assistant, ""))
    answer = _fields("assistant", assistant, "wordofanswer")
    called = {**answer, **_calls(arguments)}
    both = [*_calls(arguments)["tool_calls"], *_calls(arguments, name="wordofother")["tool_calls"]]
    told = trials.shows(ask, TOOL.name, tools=functions([TOOL]))
    if null:
        called["content"] = None
    tool, unshown = trials.form([*ask, called if calls else answer], "tool", [], RESULT)
    thought = dict.fromkeys(THOUGHTS, "wordofthought")
    result = {**_fields("tool", tool, "wordofresult"), **RESULT}
    beside = trials.shows([*ask, {**called, **answer}], "wordofanswer", *CALL_WORDS)
    first = _fields("system", system, "wordofsystem")
    thinking = [thought_part("wordofthought"), *_parts(["wordofanswer"])]
    forms = {"user": user, "assistant": assistant, "system": system, "tool": tool}
    return Habits(
        forms,
        system=refused is None or fault is not None,
        late=trials.takes_late(forms, "system", "user"),
        late_alone=trials.takes_late(forms, "user"),
        rows=not (
            trials.loses(forms, "user", "user")
            or trials.loses(forms, "user", "assistant", "assistant", "user")
        ),
        text_arguments=isinstance(arguments, str),
        null_content=null,
        tools=told,
        bare=trials.shows(ask, TOOL.name, tools=functions([BARE])),
        calls=calls,
        several=trials.shows([*ask, {**called, "tool_calls": both}], "wordofname", "wordofother"),
        beside=beside,
        told_beside=beside or trials.shows([*ask, answer, result, answer, result]),
        thought_beside=trials.shows([*ask, {**called, **answer, **thought}])
        or not trials.shows([*ask, {**called, "content": "", **thought}]),
        system_called=not calls or trials.shows([first, *ask, called, result], "wordofsystem"),
        results=unshown is None and (told or calls),
        long_ids=not calls or trials.shows([*ask, {**called, **_calls(arguments, LONG_ID)}]),
        thought_parts=not trials.shows([*ask, {**answer, **thought}], "wordofthought")
        and trials.shows([*ask, {**answer, "content": thinking}], "wordofthought", "wordofanswer"),
        shape=shape,
        fault=fault,
    )


@dataclass(frozen=True, slots=True)
class _Trials:
    """Renders of a template that may fail."""

    render: Render

    def shows(self, turns: Sequence[Fields], *words: str, tools: Sequence[Fields] = ()) -> bool:
        """Return whether a prompt is made of these turns that has all the words."""
        try:
            return _shown(self.render(turns, tools), words)
        except FAULTS:
            return False

    def form(
        self,
        before: Sequence[Fields],
        role: str,
        after: Sequence[Fields],
        more: Fields | None = None,
    ) -> tuple[Form, Exception | None]:
        """Try a turn in each form; also return why none is shown, if none is."""
        fault: Exception | None = None

        def shows(content: Any, words: Sequence[str]) -> bool:
            nonlocal fault
            try:
                turn = {"role": role, **(more or {}), "content": content}
                if _shown(self.render([*before, turn, *after], ()), words):
                    return True
                fault = fault or ValueError(f"it leaves out what the {role} says")
            except FAULTS as error:
                fault = fault or error
            return False

        one, two = "words1of2", "words2of2"
        text, part = shows(one, [one]), shows(_parts([one]), [one])
        parts = shows(_parts([one, two]), [one, two])
        if text or part:
            return Form(text, part, parts), None
        return Form(), fault

    def call(self, before: Sequence[Fields], turn: Fields) -> tuple[bool, Fields | str, bool]:
        """Return the form in which a call is shown, and whether it is in any.

        A form is no content at all, or not, and arguments as an object, or as text. A call that is
        in none has the first that the template takes.
        """
        taken: list[tuple[bool, Fields | str, bool]] = []
        for null, arguments in product((False, True), ARGUMENTS):
            called = {**turn, **_calls(arguments), **({"content": None} if null else {})}
            if self.shows([*before, called], *CALL_WORDS):
                return null, arguments, True
            if self.shows([*before, called]):
                taken.append((null, arguments, False))
        return next(iter(taken), (False, {}, False))

    def tells(self, forms: Mapping[str, Form], *roles: str) -> bool:
        """Return whether turns in this order are all shown."""
        return self.shows(*_in_order(forms, roles))

    def loses(self, forms: Mapping[str, Form], *roles: str) -> bool:
        """Return whether turns in this order are taken, and not all shown."""
        turns, *words = _in_order(forms, roles)
        return self.shows(turns) and not self.shows(turns, *words)

    def takes_late(self, forms: Mapping[str, Form], *begun: str) -> bool:
        """Return whether a system message after these turns is shown, whatever follows it."""
        late = (("assistant", "system", "user"), ("system",), ("system", "assistant", "user"))
        return all(self.tells(forms, *begun, *rest) for rest in late)


def thought_part(text: str) -> Fields:
    """Return an earlier thought as Mistral's templates know it."""
    return {"type": "thinking", "thinking": text}


def functions(tools: Sequence[Tool], whole: bool = False) -> list[Fields]:
    """Return tools as transformers' templates know them, which is OpenAI's way."""
    return [{"type": "function", "function": function(tool, whole)} for tool in tools]


def _calls(arguments: Fields | str, id: str = CALL_ID, name: str = "wordofname") -> Fields:
    called = {"name": name, "arguments": arguments}
    return {"tool_calls": [{"type": "function", "id": id, "function": called}]}


def _fields(role: str, form: Form, text: str) -> Fields:
    return {"role": role, "content": form.content([text])}


def _in_order(forms: Mapping[str, Form], roles: Sequence[str]) -> tuple[Any, ...]:
    """Return turns of these roles, and after them a word of each."""
    words = [f"word{at}of{role}" for at, role in enumerate(roles)]
    return [_fields(r, forms[r], w) for r, w in zip(roles, words, strict=True)], *words


def _parts(texts: Sequence[str]) -> list[Fields]:
    return [{"type": "text", "text": text} for text in texts]


def _shown(prompt: str, words: Sequence[str]) -> bool:
    """Whether a prompt has all the words, and none as Python or JSON writes a part."""
    written = re.compile(r"""['"]text['"]\s*:\s*['"](?:""" + "|".join(words) + ")")
    return all(word in prompt for word in words) and not written.search(prompt)
