"""The sandbox in which a checkpoint's templates run, with what transformers gives them."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node, Scope
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

# `*` in a template draws rules and indents; more is an attack.
LONGEST_REPEAT, LARGEST_PRODUCT = 1_000_000, 2**64
SEQUENCES = (str, bytes, list, tuple)

# The errors of a faulty template besides jinja's own: it computes with Python's objects.
FAULTS = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    SyntaxError,  # jinja compiles to Python: a break outside a loop is found only there
    TypeError,
    ValueError,
)


class Objection(TemplateError):
    """Raised by a template's own raise_exception."""


class GenerationTag(Extension):
    """`{% generation %}` marks the assistant's words for training; here it changes nothing."""

    tags = {"generation"}  # noqa: RUF012 - jinja declares it as an instance's attribute

    def parse(self, parser: Parser) -> Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return Scope(body, lineno=line)  # what is set within is forgotten after it


class Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        repeats = isinstance(left, SEQUENCES) or isinstance(right, SEQUENCES)
        largest = LONGEST_REPEAT if repeats else LARGEST_PRODUCT
        if operator == "**" or _size(left) * _size(right) > largest:
            raise SecurityError(f"a result of {operator} would be too large")
        return super().call_binop(context, operator, left, right)


def sandbox(now: Callable[[], datetime] = datetime.now) -> Sandbox:
    environment = Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda form: now().strftime(form)
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write JSON as models are trained with it; jinja's own tojson escapes <, >, & and '."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: object) -> NoReturn:
    raise Objection(str(message))


def _size(value: object) -> int:
    if isinstance(value, SEQUENCES):
        return len(value)
    return abs(value) if isinstance(value, int) else 1
