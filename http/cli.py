"""The commands, which import what is heavy where it is needed: `bessemer --help` is quick."""

import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import typer

from ..engine.command_line import INTERRUPTED, StatusLine, fail, guarded, say
from ..engine.settings import Settings
from ..engine.subcommand import (
    INTO,
    STYLE,
    Bits,
    GroupSize,
    Layout,
    Lossy,
    Mixed,
    quantize_flags,
)
from .config import SETTINGS, Config, UsageError, read_config, unknown_variables
from .gateway.config_command import config as config_app
from .keys import VARIABLE, hide, keys
from .waiter import has_status_line

if TYPE_CHECKING:
    from ..engine.answer_wire import Link

# What `run` takes: no server's settings, nor what concerns many requests; in the order of --help.
FIRST = ("models", "chat_template", "max_tokens", "kv_cache", "kv_bits")
MANY = ("max_batch", "queue")
MODEL = [name for name in Settings.__struct_fields__ if name in SETTINGS and name not in MANY]
ENGINE = dict.fromkeys([*FIRST, *MODEL, "offline", "log_level"])

FORWARD: Any = {  # all that follows a command's name, -h too, goes to its module
    "add_help_option": False,
    "context_settings": {"allow_extra_args": True, "ignore_unknown_options": True},
}
SHOW_CURSOR = "\x1b[?25h"
PATIENCE = 0.7  # seconds for a child to end that was told to, unless it has something to write

F = TypeVar("F", bound=Callable[..., Any])

ConfigPath = Annotated[
    str,
    typer.Option(
        metavar="FILE",
        help="The settings' file; else config.toml in ~/.config/bessemer, or in "
        "BESSEMER_CONFIG_DIR, if it is there.",
        show_default=False,
    ),
]
Profile = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="Read config.NAME.toml of that directory.", show_default=False
    ),
]

app = typer.Typer(
    name="bessemer", **STYLE, help="Run open-weight language models behind one endpoint."
)


def main(arguments: Sequence[str] | None = None, link: "Link | None" = None) -> int:
    """Run a command and return its exit code; a user's mistake is one sentence on stderr.

    `link`: to the process that answers, where this one is what asks (see launcher.py).
    """
    argv = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    return guarded("bessemer", lambda: _run(argv, link))


def _run(arguments: list[str], link: "Link | None") -> int:
    obj = arguments, link
    try:
        for each in arguments:
            _require_text("the argument", each)
        return int(app(arguments, prog_name="bessemer", standalone_mode=False, obj=obj) or 0)
    except typer.TyperException as error:
        return fail("bessemer", error.format_message())
    except UsageError as error:
        return fail("bessemer", str(error))
    except typer.Abort:  # how typer passes on a KeyboardInterrupt
        return INTERRUPTED


def _require_text(what: str, value: str) -> None:
    """Refuse bytes that are no text, which Python hands on as halves of characters."""
    try:
        value.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(value).decode("latin-1")
        raise UsageError(f"{what} {shown!r} is not in UTF-8, but perhaps in Latin-1") from None


def _standard_input() -> str:
    """Read a prompt, in UTF-8 whatever the locale says."""
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"standard input is not UTF-8 (byte {error.start} is 0x{error.object[error.start]:02x})"
            "; convert it, as iconv -f latin1 -t utf-8 does for Latin-1"
        ) from None


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
            *("--version", "-V"),
            callback=show_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    for said in unknown_variables(os.environ):
        say(f"bessemer: warning: {said}\n")


@app.command()
@with_settings(*SETTINGS)
def serve(
    config: ConfigPath = "",
    profile: Profile = "",
    **flags: Any,
) -> int:
    """Answer the OpenAI, Anthropic and Ollama APIs over HTTP."""
    from .gateway import config_file
    from .gateway.settings import GatewaySettings, gateway_settings

    environment = {**os.environ}
    path = config_file.find(environment, config, profile)

    def reread() -> tuple[Config, GatewaySettings]:
        file = config_file.read(path, environment)
        return read_config(flags, environment, file.settings()), gateway_settings(file, environment)

    settings, gateway = reread()
    hide([key for text in flags["api_key"] or () for key in keys(text)], os.environ)
    os.environ.pop(VARIABLE, None)  # no child needs it
    from .serve import serve as start

    return start(settings, gateway, reread if path else None)


@app.command()
@with_settings(*ENGINE)
def run(
    context: typer.Context,
    prompt: Annotated[str, typer.Argument(help="The prompt; - reads it from standard input.")],
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, max=100, help="0 is greedy.")] = None,
    top_p: Annotated[float | None, typer.Option(min=0, max=1, help="Nucleus sampling.")] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=-(2**63), max=2**64 - 1, help="The same seed gives the same text; -1 is any."
        ),
    ] = None,
    **flags: Any,
) -> int:
    """Answer one prompt without a server."""
    config = read_config(flags, os.environ)
    arguments, link = context.obj
    if link is None:
        from .launcher import launch

        launch(arguments)
    text = _standard_input() if prompt == "-" else prompt
    if not text.strip():
        raise UsageError("the prompt is empty; give a text, or - to read it from standard input")
    status = StatusLine(has_status_line())  # first, as the imports take a moment
    status.say(f"loading {', '.join(config.models) or 'the default model'} ...")
    try:
        from ..translate.chat import GenerationOptions
        from .oneshot import run as answer

        drawn = None if seed == -1 else seed
        options = GenerationOptions(temperature=temperature, top_p=top_p, seed=drawn)
        return answer(config, text, options, system, link, status)
    except UsageError:
        status.clear()
        raise


@app.command()
def route(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="The name that a request has for its model.")
    ],
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="What it asks: an auto-router reads that, in the server that runs."
        ),
    ] = None,
    config: ConfigPath = "",
    profile: Profile = "",
) -> int:
    """Say where a model's name leads, step by step."""
    from .gateway import config_file
    from .gateway.commands import show_route

    file = config_file.read(config_file.find(os.environ, config, profile), os.environ)
    return show_route(model, prompt, file.tables, read_config({}, os.environ, file.settings()))


@app.command(**FORWARD)
def bench(context: typer.Context) -> int:
    """Measure speed and memory, alone or beside others."""
    return in_child("bessemer.bench.compare.cli", context.args)


@app.command(**FORWARD)
def kernels(context: typer.Context) -> int:
    """List the operations' kernels, profile one, or time them all."""
    return in_child("bessemer.bench.kernels.cli", context.args)


@app.command(**FORWARD)
def doctor(context: typer.Context) -> int:
    """Look for what is wrong with this machine; today, with its GPU."""
    return in_child("bessemer.bench.report.cli", context.args, patience=10)


@app.command()
@with_settings("offline")
def quantize(
    source: Annotated[str, typer.Argument(help="A directory, or a Hugging Face id.")],
    into: Annotated[str, typer.Argument(help=INTO)],
    bits: Bits = None,
    group_size: GroupSize = None,
    mixed: Mixed = None,
    mode: Layout = "affine",
    **flags: Any,
) -> int:
    """Write a checkpoint in fewer bits, for Bessemer and mlx_lm."""
    config = read_config(flags, os.environ)
    try:
        recipe = quantize_flags(bits=bits, group_size=group_size, mixed=mixed, mode=mode)
    except ValueError as error:
        raise UsageError(str(error)) from None
    target = _new_directory(into)
    from . import hub

    path = hub.resolve(source, config.offline, config.hub_cache)
    where = [str(path.absolute()), str(target)]
    how = (word for flag in recipe.items() for word in flag)
    return in_child("bessemer.engine.checkpoint.quantize", [*where, *how])


@app.command()
@with_settings("offline")
def convert(
    source: Annotated[str, typer.Argument(help="A GGUF file, or OWNER/REPO:QUANT.")],
    into: Annotated[str, typer.Argument(help=INTO)],
    lossy: Lossy = False,
    **flags: Any,
) -> int:
    """Write a GGUF file as a directory for mlx_lm, of the same numbers unless --lossy."""
    config, target = read_config(flags, os.environ), _new_directory(into)
    from . import hub

    path = hub.resolve(source, config.offline, config.hub_cache)
    where = [str(path.absolute()), str(target)]
    return in_child("bessemer.engine.gguf.convert", [*where, *(["--lossy"] if lossy else [])])


def _new_directory(into: str) -> Path:
    """Return where a command writes to, which must not be there. Raises UsageError."""
    if not into.strip() or Path(into).exists():
        raise UsageError(f"{into or repr(into)} exists already; name a new directory")
    return Path(into).absolute()


def in_child(module: str, arguments: Sequence[str], patience: float = PATIENCE) -> int:
    """Run a module that may import mlx, as this process never does; return its exit code.

    patience: seconds that it has for its end.
    """
    process = _deaf([sys.executable, "-P", "-m", module, *arguments])
    before = signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
    try:
        code = process.wait()
    except KeyboardInterrupt:
        _end(process, patience)
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    return code if code >= 0 else 128 - code


def _deaf(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a process that ignores Ctrl-C, also while it imports, and leaves it to us."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return subprocess.Popen(arguments)
    finally:
        signal.signal(signal.SIGINT, before)


def _end(process: subprocess.Popen[bytes], patience: float) -> None:
    """Tell a process to end; where it does not soon, kill it and all that it started."""
    import psutil

    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for each in family:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()
        if sys.stderr.isatty():
            print(SHOW_CURSOR, end="", file=sys.stderr)  # which a progress bar hides


app.add_typer(config_app)


@app.command()
def version() -> None:
    """Print the version."""
    from importlib import metadata

    print(f"bessemer {metadata.version('bessemer')}")


def ask() -> int:
    """Be the process of launcher.py that asks: three pipes come before its arguments."""
    from ..engine.answer_wire import asker_link
    from ..engine.lifeline import follow

    asked, asks, launcher = map(int, sys.argv[1:4])
    follow(launcher, lambda: os._exit(1))
    return main(sys.argv[4:], asker_link(asked, asks))


if __name__ == "__main__":
    os._exit(ask())
