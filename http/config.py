"""Every setting, declared once; the only reader of the environment. Flags win over it."""

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from .log import LEVELS

EXIT_USAGE = 2  # what shells and argparse mean by a usage error
UNITS = {
    "": 1, "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip
YES = frozenset({"1", "true", "yes", "on"})
NO = frozenset({"", "0", "false", "no", "off"})

T = TypeVar("T")


class UsageError(Exception):
    """A user's mistake at start: one sentence that says what is wrong and how to mend it."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a field of Config comes from; `parse` raises ValueError saying what it wants."""

    parse: Callable[[str], Any]
    default: str
    environment: tuple[str, ...]
    flag: str
    metavar: str
    help: str
    repeated: bool = False  # the flag may be; the environment separates by commas
    switch: bool = False  # the flag takes no value


def setting(default: str, parse: Callable[[str], T], environment: str, flag: str, help: str) -> T:
    """A field of Config with its Setting; the metavar is the second word of `flag`."""
    name, _, metavar = flag.partition(" ")
    value = parse(default)
    source = Setting(
        parse,
        default,
        tuple(environment.split()),
        name,
        metavar,
        help,
        repeated=isinstance(value, tuple),
        switch=isinstance(value, bool),
    )
    return field(default=value, repr=name != "--api-key", metadata={"setting": source})


def whole(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"\d{1,10}", text.strip()) or not least <= int(text) <= most:
            raise ValueError(f"a whole number from {least} to {most}")
        return int(text)

    return parse


def whole_or_auto(least: int, most: int, *only: int) -> Callable[[str], int]:
    """0 stands for auto."""
    wants = " or ".join(map(str, only)) or f"a whole number from {least} to {most}"

    def parse(text: str) -> int:
        if text.strip().lower() == "auto":
            return 0
        try:
            value = whole(least, most)(text)
        except ValueError:
            value = 0
        if not value or (only and value not in only):
            raise ValueError(f"{wants}, or auto")
        return value

    return parse


def choice(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.strip().lower() not in allowed:
            raise ValueError(" or ".join(allowed))
        return text.strip().lower()

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


def memory(text: str) -> int | None:
    try:
        return None if text.strip().lower() == "auto" else size(text)
    except ValueError as wants:
        raise ValueError(f"{wants}, or auto") from None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a command was asked to do."""

    # fmt: off
    models: tuple[str, ...] = setting(
        "", texts, "BESSEMER_MODELS", "--model MODEL",
        "A directory or a Hugging Face id, NAME=MODEL to name it; may be repeated. "
        "Without one: the built-in demonstration model.",
    )
    host: str = setting(
        "127.0.0.1", word, "BESSEMER_HOST", "--host HOST",
        "The address to listen on.",
    )
    port: int = setting(
        "8000", whole(0, 65535), "BESSEMER_PORT", "--port PORT",
        "The port to listen on; 0 takes a free one.",
    )
    max_tokens: int = setting(
        "32768", whole(1), "BESSEMER_MAX_TOKENS", "--max-tokens N",
        "The longest answer, in tokens; also what a request gets that names no length.",
    )
    api_key: tuple[str, ...] = setting(
        "", texts, "BESSEMER_API_KEY", "--api-key KEY",
        "Keys of which a client must send one, separated by commas.",
    )
    rate_limit: int = setting(
        "0", whole(0), "BESSEMER_RATE_LIMIT", "--rate-limit N",
        "Requests a minute that one client may make; 0 is no limit.",
    )
    timeout: float = setting(
        "300", seconds, "BESSEMER_TIMEOUT", "--timeout SECONDS",
        "The longest a request may take.",
    )
    grace: float = setting(
        "10", seconds, "BESSEMER_GRACE", "--grace SECONDS",
        "How long answers may go on once the server is told to stop.",
    )
    body_limit: int = setting(
        "10MiB", size, "BESSEMER_BODY_LIMIT", "--body-limit BYTES",
        "The largest body of a request.",
    )
    kv_cache: int | None = setting(
        "auto", memory, "BESSEMER_KV_CACHE", "--kv-cache BYTES",
        "Memory for each model's KV cache; auto takes what fits.",
    )
    max_batch: int = setting(
        "64", whole(1, 4096), "BESSEMER_MAX_BATCH", "--max-batch N",
        "Sequences that are generated together.",
    )
    queue: int = setting(
        "256", whole(0), "BESSEMER_QUEUE", "--queue N",
        "Requests that may wait for their turn.",
    )
    chunk: int = setting(
        "256", whole(1, 65536), "BESSEMER_CHUNK", "--chunk N",
        "Prompt tokens that are read in one step.",
    )
    threads: int = setting(
        "auto", whole_or_auto(1, 256), "BESSEMER_THREADS", "--threads N",
        "Threads of each model on a CPU; auto shares out the physical cores.",
    )
    cpu_precision: str = setting(
        "fast", choice("fast", "exact"), "BESSEMER_CPU_PRECISION", "--cpu-precision KIND",
        "How a CPU multiplies quantized weights: fast rounds activations to 8 bits, "
        "exact keeps float32.",
    )
    kv_bits: int = setting(
        "auto", whole_or_auto(4, 16, 4, 8, 16), "BESSEMER_KV_BITS", "--kv-bits N",
        "Bits of a number in the KV cache: 4, 8 or 16; auto is 16, or 32 where weights are.",
    )
    metal: str = setting(
        "auto", choice("auto", "simulator", "checked", "off"), "BESSEMER_METAL", "--metal KIND",
        "Where Metal kernels run: auto, on a Mac's GPU; simulator, on a CPU model of Metal; "
        "checked, the same with every access checked; off, nowhere.",
    )
    metal_kv: str = setting(
        "tail", choice("tail", "in-place", "functional"), "BESSEMER_METAL_KV", "--metal-kv KIND",
        "How Metal kernels append to the KV cache: tail keeps new tokens apart, in-place writes "
        "through a pointer if the GPU passes a test of that, functional copies.",
    )
    check_weights: bool = setting(
        "", switch, "BESSEMER_CHECK_WEIGHTS", "--check-weights",
        "Refuse a model whose weights hold NaN or infinity; takes a moment more to load.",
    )
    cors_origin: tuple[str, ...] = setting(
        "", texts, "BESSEMER_CORS_ORIGIN", "--cors-origin ORIGIN",
        "A web page's origin that may call this server, or * for all; may be repeated.",
    )
    log_level: str = setting(
        "info", level, "BESSEMER_LOG_LEVEL", "--log-level LEVEL",
        f"What to log: {', '.join(LEVELS)}.",
    )
    offline: bool = setting(
        "", switch, "BESSEMER_OFFLINE HF_HUB_OFFLINE", "--offline",
        "Download nothing.",
    )
    heartbeat: float = setting(
        "5", seconds, "BESSEMER_HEARTBEAT", "--heartbeat SECONDS",
        "The longest silence in a stream before a sign of life is sent.",
    )
    # fmt: on
    hub_cache: Path = Path()  # where Hugging Face keeps what was downloaded


SETTINGS: Mapping[str, Setting] = {
    each.name: each.metadata["setting"] for each in fields(Config) if each.metadata
}


def read_config(
    flags: Mapping[str, str | bool | Sequence[str] | None], environment: Mapping[str, str]
) -> Config:
    """Flags (by field name; None or empty where not given) over environment over defaults."""
    given: dict[str, Any] = {"hub_cache": hub_cache(environment)}
    for name, source in SETTINGS.items():
        flag = flags.get(name)
        variable = next((v for v in source.environment if v in environment), None)
        if isinstance(flag, bool) and flag:
            given[name] = True
        elif isinstance(flag, str):
            given[name] = _parse(source, source.flag, flag)
        elif flag:
            assert isinstance(flag, Sequence)
            given[name] = tuple(part for text in flag for part in _parts(name, text))
        elif variable is not None:
            given[name] = _parse(source, variable, environment[variable])
    return Config(**given)


def _parts(name: str, text: str) -> tuple[str, ...]:
    """A path may have a comma in its name, a key or an origin cannot."""
    return (text,) if name == "models" else texts(text)


def _parse(source: Setting, where: str, text: str) -> object:
    try:
        return source.parse(text)
    except ValueError as wants:
        raise UsageError(f"{where} is {text!r}, but must be {wants}") from None


def hub_cache(environment: Mapping[str, str]) -> Path:
    """As huggingface_hub finds it (its constants.py), without importing it."""
    base = environment.get("XDG_CACHE_HOME") or "~/.cache"
    home = environment.get("HF_HOME") or f"{base}/huggingface"
    return Path(environment.get("HF_HUB_CACHE") or f"{home}/hub").expanduser()


def warning(config: Config) -> str | None:
    """What is worth saying before a server starts."""
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
