"""The commands, which import what is heavy where it is needed: `bessemer --help` is quick."""

import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import typer

from ..engine.settings import Settings
from .config import EXIT_USAGE, SETTINGS, UsageError, read_config

# What `run` takes: no server's settings, nor what concerns many requests; in the order of --help.
FIRST = ("models", "max_tokens", "kv_cache", "kv_bits")
MANY = ("max_batch", "queue")
MODEL = [name for name in Settings.__struct_fields__ if name not in MANY]
ENGINE = dict.fromkeys([*FIRST, *MODEL, "offline", "log_level"])

MIXED = "mixed_2_6, mixed_3_4, mixed_3_6, mixed_4_6"  # the recipes of mlx_lm
MODES = "affine, mxfp4, mxfp8, nvfp4"
QUANTIZE = {
    "--bits": "2, 3, 4, 5, 6, 8",
    "--group-size": "32, 64, 128",
    "--mixed": MIXED,
    "--mode": MODES,
}

FORWARD: Any = {  # all that follows a command's name, -h too, goes to its module
    "add_help_option": False,
    "context_settings": {"allow_extra_args": True, "ignore_unknown_options": True},
}
PATIENCE = 0.5  # seconds for a child to end that was told to

F = TypeVar("F", bound=Callable[..., Any])

app = typer.Typer(
    name="bessemer",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Run open-weight language models behind one endpoint.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; a user's mistake is one sentence on stderr."""
    argv = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        return int(app(argv, prog_name="bessemer", standalone_mode=False) or 0)
    except typer.TyperException as error:
        return fail(error.format_message())
    except UsageError as error:
        return fail(str(error))
    except typer.Abort:
        return 1


def fail(message: str) -> int:
    line = " ".join(message.split()).rstrip(".")
    print(f"bessemer: {line}.", file=sys.stderr)
    return EXIT_USAGE


def with_settings(*names: str) -> Callable[[F], F]:
    """Give a command, which takes them as keywords, a flag for each of these settings."""

    def decorate(function: F) -> F:
        declared = inspect.signature(function, eval_str=True).parameters.values()
        plain = [each for each in declared if each.kind is not inspect.Parameter.VAR_KEYWORD]
        flags = [parameter(name) for name in names]
        cast(Any, function).__signature__ = inspect.Signature([*plain, *flags])
        return function

    return decorate


def parameter(name: str) -> inspect.Parameter:
    source = SETTINGS[name]
    default = f"default {source.default}; " if source.default else ""
    flag = typer.Option(
        source.flag,
        help=f"{source.help} [{default}{', '.join(source.environment)}]",
        metavar=source.metavar or None,
        show_default=False,
    )
    kind = bool if source.switch else list[str] if source.repeated else str
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=False if source.switch else None,
        annotation=Annotated[kind if source.switch else kind | None, flag],
    )


def show_version(show: bool) -> None:
    if show:
        version()
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


@app.command()
@with_settings(*SETTINGS)
def serve(**flags: Any) -> int:
    """Answer the OpenAI and Anthropic APIs over HTTP."""
    config = read_config(flags, os.environ)
    from .serve import serve as start

    return start(config)


@app.command()
@with_settings(*ENGINE)
def run(
    prompt: Annotated[str, typer.Argument(help="The prompt; - reads it from standard input.")],
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, help="0 is greedy.")] = None,
    top_p: Annotated[float | None, typer.Option(min=0, max=1, help="Nucleus sampling.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same text.")] = None,
    **flags: Any,
) -> int:
    """Answer one prompt without a server."""
    config = read_config(flags, os.environ)
    text = sys.stdin.read() if prompt == "-" else prompt
    if not text.strip():
        raise UsageError("the prompt is empty; give a text, or - to read it from standard input")
    from ..translate.chat import GenerationOptions
    from .oneshot import run as answer

    return answer(
        config, text, GenerationOptions(temperature=temperature, top_p=top_p, seed=seed), system
    )


@app.command(**FORWARD)
def bench(context: typer.Context) -> int:
    """Measure speed and memory, alone or beside others."""
    return in_child("bessemer.bench.compare.cli", context.args)


@app.command(**FORWARD)
def kernels(context: typer.Context) -> int:
    """List the operations' kernels, profile one, or time them all."""
    return in_child("bessemer.bench.kernels.cli", context.args)


@app.command()
@with_settings("offline")
def quantize(
    source: Annotated[str, typer.Argument(help="A directory, or a Hugging Face id.")],
    into: Annotated[str, typer.Argument(help="The directory to write, which must be new.")],
    bits: Annotated[
        int | None, typer.Option(help="Bits of a weight: 2, 3, 4 (the default), 5, 6 or 8.")
    ] = None,
    group_size: Annotated[
        int | None, typer.Option(help="Weights a scale: 32, 64 (the default) or 128.")
    ] = None,
    mixed: Annotated[str | None, typer.Option(help=f"More bits where they count: {MIXED}.")] = None,
    mode: Annotated[str, typer.Option(help=f"The layout: {MODES}.")] = "affine",
    **flags: Any,
) -> int:
    """Write a checkpoint in fewer bits, for Bessemer and mlx_lm."""
    config = read_config(flags, os.environ)
    recipe = {"--bits": bits, "--group-size": group_size, "--mixed": mixed, "--mode": mode}
    _check_recipe({flag: value for flag, value in recipe.items() if value is not None})
    if Path(into).exists():
        raise UsageError(f"{into} exists already; name a new directory")
    from . import hub

    path = hub.resolve(source, config.offline, config.hub_cache)
    where = [str(path.absolute()), str(Path(into).absolute())]
    how = map(str, (bits or 4, group_size or 64, mode, mixed or ""))
    return in_child("bessemer.engine.checkpoint.quantize", [*where, *how])


def _check_recipe(recipe: dict[str, int | str]) -> None:
    for flag, value in recipe.items():
        if str(value) not in QUANTIZE[flag].split(", "):
            raise UsageError(f"{flag} is {value}; choose one of {QUANTIZE[flag]}")
    if "--mixed" in recipe and "--bits" in recipe:
        raise UsageError("--mixed says the bits, so leave --bits out")
    for flag in ("--bits", "--group-size", "--mixed"):
        if flag in recipe and recipe["--mode"] != "affine":
            raise UsageError(f"{flag} goes with --mode affine alone, not with {recipe['--mode']}")


def in_child(module: str, arguments: Sequence[str]) -> int:
    """Run a module that may import mlx, as this process never does; return its exit code."""
    process = subprocess.Popen([sys.executable, "-P", "-m", module, *arguments])
    before = signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
    try:
        code = process.wait()
    except KeyboardInterrupt:
        try:  # a terminal interrupts the whole group, anybody else only us
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            code = process.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
    return code if code >= 0 else 128 - code


@app.command()
def version() -> None:
    """Print the version."""
    from importlib import metadata

    print(f"bessemer {metadata.version('bessemer')}")
