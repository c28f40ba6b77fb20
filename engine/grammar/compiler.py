"""Compiles the grammars of answers for one model's vocabulary, within bounds."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

import msgspec

from ..request import AnswerMarks, Constraint, Refusal
from .bounds import embedded
from .circles import Circle, Closers, kind_of
from .definition import DefinitionError, grammar_of
from .trial import Trial
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

    from ..text.tokenizer import Tokenizer

SYMBOLS = 50_000  # of a grammar, of which an object of 2,000 properties has less
STATES = 20_000  # of its lexer, 1 to 2 KB each
FUEL = 50_000  # of its lexer in one step, which is a few milliseconds
STACK = 2**26  # bytes that the compiler may take for rules within rules: reserved, seldom used
JSON = {"json_schema", "json_object", "lark"}  # Lark is what calls of tools are held to
TOO_DEAR = "is beyond what can be followed"
SHOWN = 300  # characters of what llguidance says

# What llguidance says -> what a caller is told, which goes on from the name of the field.
REASONS = (
    (r"Resource '([^']{1,200})' is not present", "refers to a document that is not here: {}"),
    (r"Unimplemented keys: \[(.*)\]", "has keywords that cannot be kept to: {}"),
    (r"oneOf constraints are not supported.*", 'has "oneOf" whose options may overlap'),
    (r"Unsatisfiable schema: (.*)", "is a schema that nothing fulfils: {}"),
    (r"Unknown format: (.*)", 'has a "format" that cannot be kept to: {}'),
    (r"failed to compile JSON schema: (.{1,200})", "has a schema that is not valid: {}"),
    (r"NoExtensionBias", "is a grammar that no text fulfils"),
    (r"panic: .*|Unable to determine if regex is empty.*", TOO_DEAR),
    (r"(?:schema too large|grammar size .*too big|Current row has).*", "is too large"),
)


@dataclass(frozen=True)
class Compiler:
    """A compiler of grammars, for a model of so many ids; it may work in a thread of its own."""

    tokenizer: "Tokenizer"
    size: int

    def compile(self, constraint: Constraint, marks: AnswerMarks | None) -> "LLMatcher":
        """Return a matcher at the start of an answer, for others to be copied from.

        Raises Refusal for a grammar that cannot be had, or that no answer fulfils: it names the
        field of the schema that is to blame.
        """
        try:
            return self._matcher(constraint, marks)
        except DefinitionError as error:
            field, reason = self._blamed(constraint) or (constraint.field, error)
            raise Refusal(400, "invalid_grammar", f"{field} {reason}.", field) from None

    def _matcher(self, constraint: Constraint, marks: AnswerMarks | None) -> "LLMatcher":
        from llguidance import LLMatcher  # here: a model that is asked for no grammar needs none

        tokenizer = self.tokenizer
        specials = {name: token for token, name in tokenizer.special_names.items()}
        known = lambda name: tokenizer.id_of(name) is not None  # noqa: E731
        grammar = grammar_of(constraint, marks, specials, known)
        if not self._trial.passes(grammar):
            raise DefinitionError(TOO_DEAR)
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=parser_limits())
        matcher.compute_bitmask()  # what is too much for the first token fails here
        if matcher.is_error():
            raise DefinitionError(_reason(matcher.get_error()))
        return matcher

    def _blamed(self, constraint: Constraint) -> tuple[str, DefinitionError] | None:
        """Return the field of the first schema in a Lark grammar that cannot be had, and why."""
        schemas = embedded(constraint.definition) if constraint.fields else []
        for field, schema in zip(constraint.fields, schemas, strict=False):
            guidance, text = schema.get("x-guidance") or {}, msgspec.json.encode(schema).decode()
            strict = not guidance.get("lenient")
            try:
                self._matcher(
                    Constraint(grammar="json_schema", definition=text, strict=strict), None
                )
            except DefinitionError as error:
                return field, error
        return None

    def circle(self, constraint: Constraint, max_tokens: int) -> Circle | None:
        """Return what watches the values of one answer of JSON, of at most so many tokens."""
        if constraint.grammar not in JSON or self._closers is None:
            return None
        return Circle(self._closers, self._kind, max_tokens)

    @cached_property
    def _kind(self) -> Callable[[int], tuple[bool, bool]]:
        return cache(lambda token: kind_of(self.tokenizer.token_bytes(token)))

    @cached_property
    def _closers(self) -> Closers | None:
        return Closers.of(Vocabulary(self.tokenizer, self.size))

    @cached_property
    def _tokenizer(self) -> "LLTokenizer":
        return Vocabulary(self.tokenizer, self.size).build()

    @cached_property
    def _trial(self) -> Trial:
        return Trial()


def parser_limits() -> "LLParserLimits":
    """Return llguidance's bounds."""
    from llguidance import LLParserLimits

    return LLParserLimits(
        max_grammar_size=SYMBOLS,
        max_lexer_states=STATES,
        step_lexer_fuel=FUEL,
        verbose_errors=False,
    )


def _reason(error: str) -> str:
    for pattern, message in REASONS:
        if match := re.search(pattern, error):
            return message.format(*match.groups())
    line = " ".join(error.split())
    return f"is not valid: {line if len(line) <= SHOWN else line[:SHOWN] + '...'}"
