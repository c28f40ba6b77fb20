"""Values in which an answer turns in circles are closed; all others go on."""

import json

import pytest

from bessemer.engine.grammar.answer_grammar import AnswerGrammar
from bessemer.engine.grammar.circles import LONG, MOST, PERIOD, SHORT, kind_of
from bessemer.engine.grammar.compiler import Compiler
from bessemer.engine.request import Constraint

END = 128
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "string"}, "b": {"type": "number"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}


class Ascii:
    """A tokenizer of single letters."""

    special_names = {END: "<end>"}  # noqa: RUF012 - a stand-in for an attribute of an instance

    def token_bytes(self, token: int) -> bytes:
        return bytes([token]) if token < END else b"<end>"

    def encode(self, text: str, special: bool = True) -> list[int]:
        return [*text.encode()]

    def id_of(self, name: str) -> int | None:
        return ord(name) if len(name) == 1 else None


def grammar(constraint: Constraint, max_tokens: int = 10**6) -> AnswerGrammar:
    compiler = Compiler(Ascii(), END + 1)  # type: ignore[arg-type]
    matcher = compiler.compile(constraint, None)
    circle = compiler.circle(constraint, max_tokens)
    return AnswerGrammar(matcher, END + 1, [END], "f", circle)


def allowed(answer: AnswerGrammar) -> str:
    mask = answer.mask(END + 1)
    return "".join(chr(i) for i in range(END) if mask[i // 32] >> (i % 32) & 1)


def follow(answer: AnswerGrammar, text: str) -> str:
    """Let an answer be a text as far as it may; return that part."""
    for at, letter in enumerate(text):
        if letter not in allowed(answer):
            return text[:at]
        answer.add(ord(letter))
    return text


def schema(form: object) -> Constraint:
    return Constraint(grammar="json_schema", definition=json.dumps(form))


LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ"


@pytest.mark.parametrize("circle", ["0", "1234567890", "to be, or not to be: ", LETTERS[:PERIOD]])
@pytest.mark.parametrize(("max_tokens", "limit"), [(10**6, LONG), (20, SHORT), (800, None)])
def test_a_string_in_circles_is_closed_and_the_rest_can_come(
    circle: str, max_tokens: int, limit: int | None
) -> None:
    answer = grammar(schema(SCHEMA), max_tokens)
    begun = '{"a": "X'
    written = follow(answer, begun + circle * (2 * LONG // len(circle)))
    most = max_tokens * 3 // 4 if limit is None else len(begun) + len(circle) + limit
    assert len(written) == most and allowed(answer) == '"'
    assert follow(answer, rest := '", "b": 1.5}') == rest and answer.is_over
    assert json.loads(written + rest)["a"].startswith("X")


@pytest.mark.parametrize("before", [1, MOST - LONG - 10, MOST - 1, MOST + 5, 2 * MOST])
def test_a_circle_late_in_a_string_is_closed_as_early(before: int) -> None:
    answer = grammar(schema(SCHEMA))
    begun = '{"a": "' + "".join(chr(97 + at * at % 101 % 26) for at in range(before - 1)) + "Z"
    written = follow(answer, begun + "to be, " * LONG)
    assert len(written) == len(begun) + len("to be, ") + LONG and allowed(answer) == '"'


@pytest.mark.parametrize(("max_tokens", "limit"), [(10**6, LONG), (20, SHORT)])
def test_a_number_without_end_is_closed(max_tokens: int, limit: int) -> None:
    """Its digits need not repeat."""
    answer = grammar(schema(SCHEMA), max_tokens)
    digits = "".join(str(at * at % 97 % 10) for at in range(2 * LONG))
    begun = '{"a": "", "b": 0.'
    assert follow(answer, begun + digits) == begun + digits[:limit]
    assert allowed(answer) == "}" and follow(answer, "}") == "}"


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ({"type": "array", "items": {"type": "string"}}, json.dumps(["yes"] * 90)),
        ({"type": "array", "items": {"type": "string"}}, json.dumps(["ab"] * (LONG // 2))),
        ({"type": "array", "items": {"type": "integer"}}, json.dumps([0] * 90)),
        ({"type": "string"}, json.dumps(LETTERS[: PERIOD + 1] * (LONG // 16))),
        ({"type": "string"}, json.dumps("A" * LONG)),
        ({"type": "string"}, json.dumps("ab" * (LONG // 2))),
        ({"type": "string"}, json.dumps("".join(map(str, range(300))))),
        ({"type": "string"}, json.dumps("x" * PERIOD + "the quick brown fox. " * 4)),
        ({"type": "string", "minLength": 2000}, json.dumps("a" * 2000)),
        ({"type": "integer"}, str(2**2000)),
    ],
)
def test_what_only_looks_like_a_circle_goes_on(form: object, text: str) -> None:
    assert follow(grammar(schema(form)), text) == text


def test_other_forms_and_text_that_is_free_repeat_as_they_like() -> None:
    regex = Constraint(grammar="regex", definition='"[a-z]*"')
    assert follow(grammar(regex), text := '"' + "a" * 1500 + '"') == text
    lark = Constraint(grammar="lark", definition='start: /(?s:.)*/ "!" %json {"type":"string"}')
    assert follow(grammar(lark), text := "ha" * 800 + '!"' + "b" * 80 + '"') == text


def test_a_vocabulary_without_these_tokens_closes_nothing() -> None:
    class Words(Ascii):
        def encode(self, text: str, special: bool = True) -> list[int]:
            return [97, 97] if text.strip() == "}" else super().encode(text)

    assert Compiler(Words(), END + 1).circle(schema(SCHEMA), 9) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b'a"', (True, False)),
        (b"12", (False, True)),
        (b"1.", (False, False)),
        (b"", (False, False)),
    ],
)
def test_what_counts_of_a_token(raw: bytes, kind: tuple[bool, bool]) -> None:
    assert kind_of(raw) == kind
