"""What all commands have in common: their look, their streams and ends; flags of `quantize`."""

import os
import shlex
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from io import TextIOWrapper
from types import MappingProxyType
from typing import Annotated, Any

from typer import Option, Typer, TyperException

from .remedies import remedy

STYLE: Mapping[str, Any] = MappingProxyType({
    "add_completion": False,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
})  # fmt: skip

USAGE = 2  # what shells and argparse mean by a usage error
TERMINATED = 143
INTERRUPTED = 130  # a shell's exit code for Ctrl-C
BROKEN_PIPE = 1  # as typer ends where its reader has gone

MIXED = "mixed_2_6, mixed_3_4, mixed_3_6, mixed_4_6"  # the recipes of mlx_lm
MODES = "affine, mxfp4, mxfp8, nvfp4"
CHOICES: Mapping[str, str] = MappingProxyType(
    {"--bits": "2, 3, 4, 5, 6, 8", "--group-size": "32, 64, 128", "--mixed": MIXED, "--mode": MODES}
)
INTO = "The directory to write, which must be new."
Bits = Annotated[int | None, Option(help="Bits of a weight: 2, 3, 4 (the default), 5, 6 or 8.")]
GroupSize = Annotated[int | None, Option(help="Weights a scale: 32, 64 (the default) or 128.")]
Mixed = Annotated[str | None, Option(help=f"More bits where they count: {MIXED}.")]
Lossy = Annotated[
    bool,
    Option("--lossy", help="Round what MLX cannot hold, to 8 bits, and all scales to 16."),
]
Layout = Annotated[str, Option(help=f"The layout: {MODES}.")]


def quantize_flags(**values: int | str | None) -> dict[str, str]:
    """Return the flags that are set, checked; ValueError is a sentence for the user."""
    flags = {f"--{name.replace('_', '-')}": str(v) for name, v in values.items() if v is not None}
    for flag, value in flags.items():
        if value not in CHOICES[flag].split(", "):
            raise ValueError(f"{flag} is {value}; choose one of {CHOICES[flag]}")
    if "--mixed" in flags and "--bits" in flags:
        raise ValueError("--mixed says the bits, so leave --bits out")
    for flag in ("--bits", "--group-size", "--mixed"):
        if flag in flags and flags["--mode"] != "affine":
            raise ValueError(f"{flag} goes with --mode affine alone, not with {flags['--mode']}")
    return flags


def install(*packages: str) -> str:
    """Return the command that puts packages where this Python finds them."""
    return shlex.join([sys.executable, "-m", "pip", "install", *packages])


def guarded(name: str, work: Callable[[], int]) -> int:
    """Return the exit code of a command; what ends it from outside is a sentence, or nothing."""
    _open_streams()
    try:
        code = work()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return BROKEN_PIPE
    except OSError as error:
        _forget_stdout()
        where = "standard output, or a file," if error.filename is None else error.filename
        return fail(name, f"{where} cannot be used ({error.strerror or error}); {remedy(error)}")


def run_app(app: Typer, arguments: Sequence[str] | None) -> int:
    """Run a child's command and return its exit code; a mistake is one sentence on stderr."""

    def run() -> int:
        try:
            return int(app(arguments, standalone_mode=False) or 0)
        except TyperException as error:
            return fail("bessemer", error.format_message())
        except ValueError as error:
            return fail("bessemer", str(error))

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(TERMINATED))
    return guarded("bessemer", run)


def fail(name: str, message: str) -> int:
    """Say a user's mistake in one sentence; return the exit code."""
    sentence = " ".join(message.split()).rstrip(".")
    say(f"{name}: {sentence}{'' if sentence.endswith('?') else '.'}\n")
    return USAGE


def say(text: str) -> None:
    """Say something on stderr, if it takes that: it may be a full disk's."""
    with suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()


def _open_streams() -> None:
    """Open what a process was started without, and let no character be one that cannot be shown.

    Else the next socket would be standard output.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _forget_stdout() -> None:
    """Let go what standard output does not take: Python would try again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
