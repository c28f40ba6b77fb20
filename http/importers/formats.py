"""The programs whose settings can be read, and how a file of each is told from the others."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkstemp
from typing import Any

from ..config import UsageError
from . import higgs, llama_swap, mlx_router, mlx_stack
from .document import load
from .draft import Draft, has, shown
from .toml_text import toml_text

OWN = ("providers", "tiers", "engine", "aliases")  # tables of our config.toml


@dataclass(frozen=True, slots=True)
class Foreign:
    """A kind of file: what it is called, keys that only it has, and what carries it over."""

    title: str
    signs: tuple[str, ...]
    carry: Callable[[Draft, dict[str, Any]], None]


# The first of which a file has a sign counts.
FORMATS: Mapping[str, Foreign] = {
    "llama-swap": Foreign(
        "llama-swap's configuration",
        ("models.*.cmd", "peers.*.proxy", "healthCheckTimeout", "startPort"),
        llama_swap.carry,
    ),
    "mlx-stack": Foreign(
        "mlx-stack's stack file", ("tiers[].vllm_flags", "tiers[].source"), mlx_stack.carry_stack
    ),
    "mlx-stack-config": Foreign(
        "mlx-stack's config.yaml", tuple(mlx_stack.SETTINGS), mlx_stack.carry_settings
    ),
    "mlx-router": Foreign(
        "mlx-router's config.json",
        ("defaults.*", "server.ip", "models.*.required_memory_gb", "models.*.chat_template"),
        mlx_router.carry,
    ),
    "higgs": Foreign(
        "Higgs's config.toml",
        (
            *(
                "provider.*.url",
                "models[].path",
                "routes[].provider",
                "default.provider",
                "local.*",
            ),
            *("auto_router.*", "retention.*", "logging.metrics", "server.*"),
        ),
        higgs.carry,
    ),
}


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of a file: its text as a config.toml, and why keys are not in it."""

    title: str
    text: str
    carried: int
    left: Mapping[str, str]


def import_file(path: Path, known_as: str = "") -> Imported:
    """Read another program's file, of the format named or found. Raises UsageError."""
    if known_as and known_as not in FORMATS:
        raise UsageError(f"--from is {known_as!r}, but must be one of {', '.join(FORMATS)}")
    document = load(path)
    foreign, draft = FORMATS[known_as or _format_of(document, path)], Draft()
    foreign.carry(draft, document)
    draft.finished()
    left = {shown(key): why for key, why in draft.left.items()}
    return Imported(foreign.title, toml_text(draft.tables()), len(draft.sources()), left)


def _format_of(document: Mapping[str, Any], path: Path) -> str:
    if own := [name for name in OWN if isinstance(document.get(name), dict)]:
        raise UsageError(
            f"{path} has the table {own[0]}, as Bessemer's own files have; see --config"
        )
    for name, foreign in FORMATS.items():
        if any(has(document, sign) for sign in foreign.signs):
            return name
    titles = ", ".join(foreign.title for foreign in FORMATS.values())
    raise UsageError(f"{path} is none of these: {titles}")


def write(text: str, path: Path, force: bool) -> None:
    """Write a file that its owner alone may read, for it may hold keys. Raises UsageError."""
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    if not force and path.exists():
        raise UsageError(f"{path} is there already; --force writes over it")
    new, name = mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(new, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except OSError:
        os.unlink(name)
        raise
