"""The grammar of a whole answer, as llguidance reads it: a thought, and then what is asked for.

Its Lark is described in https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ..request import MAX_DEFINITION, AnswerMarks, Channels, Constraint, Grammar, Thought
from ..text.lark import ANY, guided, parts, quoted
from .bounds import BoundError, embedded, lark_within_reach, within_reach
from .schema import is_endless

RULES = 1000  # of a client's grammar: resolving them takes their square, and a stack as deep
RULE = re.compile(r"^[ \t]*[?!]?\w[^:\n\"]*:", re.MULTILINE)
ASSISTANT = ("<|start|>", "assistant")
TAG = re.compile(r"</?[^<>]*>")


class DefinitionError(ValueError):
    """A grammar cannot be had; the message goes on from the name of the field."""


def grammar_of(
    constraint: Constraint,
    marks: AnswerMarks | None,
    specials: Mapping[str, int],
    is_token: Callable[[str], bool],
) -> str:
    """Return the grammar of an answer that has these marks; `specials` are ids of special tokens.

    Raises DefinitionError.
    """
    if len(constraint.definition) > MAX_DEFINITION:
        raise DefinitionError(f"has more than {MAX_DEFINITION} characters")
    try:
        body = BODIES[constraint.grammar](constraint)
    except BoundError as error:
        raise DefinitionError(str(error)) from None
    except RecursionError:
        raise DefinitionError("is nested too deeply") from None
    frame = _Frame(specials, is_token)
    before = frame.before(marks, constraint.heads)
    if not before:
        return _encoded([body])
    lark = "\n".join([f"start: {before} @body", *frame.rules])
    return _encoded([{"lark_grammar": lark}, {"name": "body", **body}])


class _Frame:
    """The part of a grammar around what is asked for; `rules` beside its first are added up."""

    def __init__(self, specials: Mapping[str, int], is_token: Callable[[str], bool]) -> None:
        self._specials = specials
        self._is_token = is_token
        self.rules: list[str] = []

    def before(self, marks: AnswerMarks | None, heads: bool = False) -> str:
        """Return what comes before the text of an answer, or its `heads`: its thought, if any."""
        match marks:
            case Thought(place="start" | "thought"):
                return self._thought(marks)
            case Channels():
                return self._channels(marks, heads)
        return ""

    def until(self, name: str, mark: str) -> str:
        """Return any text up to a mark, which is its first; a rule for it has this name."""
        first, *rest = self._parts(mark)
        if first.startswith("<"):
            return " ".join([ANY, first, *rest])
        self.rules.append(f"{name}[lazy]: {ANY} {first}")
        return " ".join([name, *rest])

    def _thought(self, thought: Thought) -> str:
        """A tag that the vocabulary has no token for is none of the model's, who says what."""
        newlines = "/[\\r\\n]{1,4}/?"
        inside = f"{self.until('thought', thought.close)} {newlines}"
        text = f"({self._literal(thought.begin)} {newlines})?" if thought.begin else ""
        if thought.place == "thought":
            return f"{inside} {text}"
        if TAG.fullmatch(thought.open) and not self._is_token(thought.open):
            return text
        return f"({self._literal(thought.open)} {inside})? {text}"

    def _channels(self, channels: Channels, heads: bool) -> str:
        """Messages on the channel of thoughts, and the head of the one that is for the reader."""
        start, channel, constrain, message, *_ = map(self._literal, channels.marks)
        thoughts = f'{channel} "analysis" {message}'
        begins = f'{start} "assistant"'
        inside = f"{self.until('thought', channels.ends[0])} {begins}"
        final = "" if heads else f'{channel} "final" ({constrain} "json"?)? {message}'
        messages = f"({thoughts} {inside})* {final}"
        head, mark, _ = channels.begun.partition("<|message|>")
        if "analysis" in head:
            return f"{'' if mark else message} {inside} {messages}"
        return "" if mark else message if head else messages

    def _literal(self, mark: str) -> str:
        return " ".join(self._parts(mark))

    def _parts(self, mark: str) -> list[str]:
        return parts(mark, self._specials)


def _json_schema(constraint: Constraint) -> Mapping[str, Any]:
    try:
        schema = msgspec.json.decode(constraint.definition)
    except msgspec.DecodeError as error:
        raise DefinitionError(f"is not JSON: {error}") from None
    _refuse_endless(schema)
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        raise DefinitionError("must be a JSON schema that something fulfils: an object, or true")
    return {"json_schema": within_reach(guided(schema, constraint.strict))}


def _refuse_endless(schema: Any) -> None:
    if is_endless(schema):
        raise DefinitionError("is a schema that only an endless document fulfils")


def _json_object(constraint: Constraint) -> Mapping[str, Any]:
    return {"json_schema": guided({"type": "object"})}


def _regex(constraint: Constraint) -> Mapping[str, Any]:
    """Return a regular expression, whose ends are those of the text whether it says so or not."""
    from llguidance import LLMatcher  # here: a model that is asked for no grammar does without

    regex = constraint.definition.removeprefix("^")
    body = regex.removesuffix("$")
    if (len(body) - len(body.rstrip("\\"))) % 2:
        body = regex
    (grammar,) = msgspec.json.decode(LLMatcher.grammar_from_regex(body))["grammars"]
    return {"lark_grammar": grammar["lark_grammar"]}


def _choice(constraint: Constraint) -> Mapping[str, Any]:
    try:
        choices = msgspec.json.decode(constraint.definition, type=list[str])
    except msgspec.DecodeError as error:
        raise DefinitionError(f"is no list of texts: {error}") from None
    if not choices:
        raise DefinitionError("has nothing to choose from")
    return {"lark_grammar": f"start: {' | '.join(map(quoted, choices))}"}


def _lark(constraint: Constraint) -> Mapping[str, Any]:
    return _of_lark(constraint.definition)


def _of_lark(lark: str) -> Mapping[str, Any]:
    for schema in embedded(lark):
        _refuse_endless(schema)
    return {"lark_grammar": lark_within_reach(lark)}


def _gbnf(constraint: Constraint) -> Mapping[str, Any]:
    """Return a grammar of llama.cpp's; one of Lark's is told by its first rule."""
    from llguidance.gbnf_to_lark import any_to_lark

    definition = constraint.definition
    if max(len(RULE.findall(definition)), definition.count("::=")) > RULES:
        raise DefinitionError(f"has more than {RULES} rules")
    try:
        lark = any_to_lark(definition)
    except RecursionError:
        raise
    except Exception as error:  # noqa: BLE001 - the library raises nothing finer
        raise DefinitionError(f"is no grammar: {error}") from None
    return _of_lark(lark)


# A kind of grammar -> how llguidance names it.
BODIES: Mapping[Grammar, Callable[[Constraint], Mapping[str, Any]]] = {
    "json_schema": _json_schema,
    "json_object": _json_object,
    "regex": _regex,
    "choice": _choice,
    "lark": _lark,
    "gbnf": _gbnf,
}


def _encoded(grammars: list[Mapping[str, Any]]) -> str:
    return msgspec.json.encode({"grammars": grammars}).decode()
