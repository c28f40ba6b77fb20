"""The sandbox in which a checkpoint's templates run, with what transformers gives them."""

import json
import re
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from types import BuiltinMethodType
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Concat, Node, Scope
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

# `*` in a template draws rules and indents; more is an attack.
LONGEST_REPEAT, LARGEST_PRODUCT = 1_000_000, 2**64
LONGEST_TEXT = 2**26  # characters
SEQUENCES = (str, bytes, list, tuple)
# Formats with a width of seven digits, or of an argument's choosing.
WIDE = re.compile(r"\d{7}|\{[^{}]*:[^{}]*\{|%[^a-zA-Z%]*\*")

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


class BoundedGenerator(CodeGenerator):
    """A compiler of templates that has the results of `~` looked at."""

    def visit_Concat(self, node: Concat, frame: Frame) -> None:
        self.write("environment.bounded(")
        super().visit_Concat(node, frame)
        self.write(")")


class Sandbox(ImmutableSandboxedEnvironment):
    """An environment that refuses single operations whose results would be too large."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})
    code_generator_class = BoundedGenerator

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if not SMALL[operator](left, right):
            raise SecurityError(f"a result of {operator} would be too large")
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, obj: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(obj, BuiltinMethodType) and isinstance(obj.__self__, str | bytes):
            _check_call(obj.__name__, obj.__self__, args)
        return super().call(context, obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        call = super().wrap_str_format(value)
        if call is not None:
            _check_call("format", value.__self__, ())
        return call

    def bounded(self, text: str) -> str:
        if len(text) > LONGEST_TEXT:
            raise SecurityError("a result of ~ is too large")
        return text


def sandbox(now: Callable[[], datetime] = datetime.now) -> Sandbox:
    environment = Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    for name in BOUNDED_FILTERS:
        environment.filters[name] = _bounded(name, environment.filters[name])
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


def _small_product(left: Any, right: Any) -> bool:
    repeats = isinstance(left, SEQUENCES) or isinstance(right, SEQUENCES)
    return _size(left) * _size(right) <= (LONGEST_REPEAT if repeats else LARGEST_PRODUCT)


def _small_sum(left: Any, right: Any) -> bool:
    return not isinstance(left, SEQUENCES) or _size(left) + _size(right) <= LONGEST_TEXT


def _small_format(left: Any, right: Any) -> bool:
    return not isinstance(left, str) or not WIDE.search(left)


# Whether the result of an operation is small enough, by its operands.
SMALL: dict[str, Callable[[Any, Any], bool]] = {
    "*": _small_product,
    "**": lambda left, right: False,
    "+": _small_sum,
    "%": _small_format,
}
BOUNDED_FILTERS = ("center", "format", "indent", "join", "replace", "tojson")


def _bounded(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    passed = 1 if hasattr(call, "jinja_pass_arg") else 0  # jinja puts an argument of its own first

    @wraps(call)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        own, (value, *rest) = args[:passed], args[passed:]
        if name == "join" and not isinstance(value, SEQUENCES):
            value = list(value)  # to be looked at and then used
        _check_call(name, value, (*rest, *kwargs.values()))
        return call(*own, value, *rest, **kwargs)

    return bounded


def _check_call(name: str, value: Any, args: tuple[Any, ...]) -> None:
    """Refuse a method of a text, or a filter, whose result would be too large."""
    size = 0
    wide = name == "format" and isinstance(value, str) and WIDE.search(value)
    if wide or any(isinstance(arg, int) and abs(arg) > LONGEST_REPEAT for arg in args):
        size = LONGEST_TEXT + 1
    elif name == "replace" and len(args) > 1 and isinstance(value, str) and value:
        size = value.count(str(args[0])) * len(str(args[1]))
    elif name == "join":
        size = _joined_size(value, args)
    if size > LONGEST_TEXT:
        raise SecurityError(f"a result of {name} would be too large")


def _joined_size(value: Any, args: tuple[Any, ...]) -> int:
    """Return the characters that texts joined by a text have; as a method the text comes first."""
    parts, glue = (args[0], value) if isinstance(value, str) and args else (value, *args, "")[:2]
    if isinstance(parts, str):
        return len(parts) * (len(str(glue)) + 1)
    if not isinstance(parts, list | tuple):
        return 0
    return sum(len(part) + len(str(glue)) for part in parts if isinstance(part, str))
