"""Bench's command lines in the style of http/cli.py: typer, -h, one sentence for a mistake."""

import inspect
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import MISSING, fields
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Protocol, TypeVar, cast, get_args, get_origin, get_type_hints

import typer

from bessemer.bench.compare.contest import CaseFailed, Unavailable
from bessemer.engine.command_line import fail, guarded
from bessemer.engine.remedies import remedy
from bessemer.engine.subcommand import STYLE
from bessemer.http.config import UsageError

FAILED = 1
MISTAKES = (Unavailable, UsageError, CaseFailed)  # whose text is a sentence for the user
NONE: Mapping[str, Any] = MappingProxyType({})

F = TypeVar("F", bound=Callable[..., Any])


class Main(Protocol):
    """A command line as a function of its arguments (default: the process's) to an exit code."""

    def __call__(self, arguments: Sequence[str] | None = None) -> int: ...


def application(description: str) -> typer.Typer:
    """Return an app without commands; it is run by `run`."""
    return typer.Typer(help=description, **STYLE)


def run(
    app: typer.Typer,
    name: str,
    arguments: Sequence[str],
    prog_name: str | None = None,
    mistakes: tuple[type[Exception], ...] = MISTAKES,
) -> int:
    """Return the exit code; what a user got wrong is one sentence of `name` on stderr.

    A command finds the arguments as they were typed in its context's `obj`.
    """

    def work() -> int:
        try:
            return int(
                app(arguments, prog_name=prog_name, standalone_mode=False, obj=arguments) or 0
            )
        except typer.TyperException as error:
            return fail(name, error.format_message())
        except mistakes as error:
            return fail(name, str(error))

    return guarded(name, work)


def command(description: str | None) -> Callable[[Callable[..., int]], Main]:
    """Make a module's main() of a function whose parameters are the flags.

    The description is the module's docstring; a paragraph that shows how to call it is left out,
    as the usage says that.
    """
    paragraphs = [each for each in (description or "").split("\n\n") if "python " not in each[:12]]

    def decorate(function: Callable[..., int]) -> Main:
        app = application("")
        app.command(help="\n\n".join(paragraphs))(with_flags(())(function))
        name = Path(inspect.getfile(function)).stem

        def main(arguments: Sequence[str] | None = None) -> int:
            return run(app, name, list(sys.argv[1:] if arguments is None else arguments))

        return main

    return decorate


def with_flags(flags: Iterable[inspect.Parameter]) -> Callable[[F], F]:
    """Show these parameters to typer for a function that takes them as keywords."""

    def decorate(function: F) -> F:
        declared = inspect.signature(function, eval_str=True).parameters.values()
        plain = [each for each in declared if each.kind is not inspect.Parameter.VAR_KEYWORD]
        cast(Any, function).__signature__ = inspect.Signature([*map(readable, plain), *flags])
        return function

    return decorate


def flags_of(
    kind: type,
    defaults: Mapping[str, Any] = NONE,
    helps: Mapping[str, str] = NONE,
    without: Collection[str] = (),
) -> Iterator[inspect.Parameter]:
    """Yield the parameters for a dataclass's fields that are typer's, but for those `without`.

    `defaults` and `helps` stand in for the fields' own. What is inherited comes last.
    """
    hints = get_type_hints(kind, include_extras=True)
    for each in sorted(fields(kind), key=lambda each: each.name not in kind.__annotations__):
        hint = hints[each.name]
        if each.name in without or get_origin(hint) is not Annotated:
            continue
        annotation, option = get_args(hint)[:2]
        option = copy(option)
        option.help = helps.get(each.name, option.help)
        default = inspect.Parameter.empty if each.default is MISSING else each.default
        parameter = inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=defaults.get(each.name, default),
            annotation=Annotated[annotation, option],
        )
        yield readable(parameter)


def readable(parameter: inspect.Parameter) -> inspect.Parameter:
    """Return a parameter that typer can read: a tuple is parsed from a text, also its default."""
    kind, *options = get_args(parameter.annotation) or (parameter.annotation,)
    if get_origin(kind) is not tuple:
        return parameter
    return parameter.replace(
        default=",".join(map(str, parameter.default)), annotation=Annotated[str, options[0]]
    )


def writable(flag: str, name: str) -> Path:
    """Return the path of a file that can be written, before the work for it. Raises Unavailable."""
    path = Path(name).expanduser() if name.startswith("~/") else Path(name)
    new = not path.exists()
    try:
        path.open("ab").close()
        if new:
            path.unlink()
    except OSError as error:
        raise Unavailable(f"{flag} {path} cannot be written: {error.strerror}") from None
    return path


def keep(flag: str, path: Path, content: str | bytes) -> None:
    """Write a file, which is the old one or none where the new is not whole. Raises Unavailable."""
    data = content if isinstance(content, bytes) else content.encode()
    device = path.exists() and not path.is_file()
    part = path if device else path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(data)
        part.replace(path.resolve())
    except OSError as error:
        if not device:
            part.unlink(missing_ok=True)
        reason = f"{error.strerror}); {remedy(error)}"
        raise Unavailable(f"{flag} {path} cannot be written ({reason}") from None


def one_of(*allowed: str) -> Callable[[str], str]:
    """Return a parser of a text that must be one of these."""

    def parse(text: str) -> str:
        if text not in allowed:
            raise typer.BadParameter(f"{text!r} is not one of {', '.join(allowed)}")
        return text

    return parse


def numbers(text: str) -> tuple[int, ...]:
    """Parse whole numbers, separated by commas; ValueError for anything else."""
    values = tuple(int(part) for part in text.split(","))
    if min(values) < 0:
        raise ValueError
    return values


def names(text: str) -> tuple[str, ...]:
    """Parse names, separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


NUMBERS: Any = {"parser": numbers, "metavar": "N,N"}
NAMES: Any = {"parser": names, "metavar": "A,B"}
