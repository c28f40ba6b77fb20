"""`bessemer config`: what is set and from where, whether it can be meant, and what others had."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ...engine.command_line import say
from ...engine.subcommand import STYLE
from ..config import read_config

File = Annotated[
    str,
    typer.Option(
        "--config", metavar="FILE", help="Another file than the usual one.", show_default=False
    ),
]
Profile = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="config.NAME.toml of the usual directory.", show_default=False
    ),
]

config = typer.Typer(name="config", **STYLE, help="Show, check and import settings.")


@config.command("list")
def list_settings(
    file: File = "",
    profile: Profile = "",
    every: Annotated[bool, typer.Option("--all", help="Those at their defaults too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print what is set, its value and where that is from; keys are hidden."""
    from . import config_file, listing

    found = config_file.read(config_file.find(os.environ, file, profile), os.environ)
    rows = [row for row in listing.rows(found, os.environ) if every or not row.at_default]
    if as_json:
        print(json.dumps([{"key": r.key, "value": r.value, "source": r.source} for r in rows]))
        return
    table = [(row.key, _shown(row.value), row.source) for row in rows]
    widths = [max((len(line[i]) for line in table), default=0) for i in range(2)]
    for key, value, source in table:
        print(f"{key:<{widths[0]}}  {value:<{min(widths[1], 40)}}  {source}")


def _shown(value: Any) -> str:
    plain = isinstance(value, str) and value.isprintable() and value
    return plain or json.dumps(value)


@config.command()
def path(file: File = "", profile: Profile = "") -> None:
    """Print the file that is read, or would be if it were there."""
    from . import config_file

    found = config_file.find(os.environ, file, profile)
    if found is None:
        found = config_file.directory(os.environ) / "config.toml"
        say(f"bessemer: {found} is not there, so defaults and the environment count\n")
    print(found)


@config.command()
def schema() -> None:
    """Print the JSON Schema of config.toml, for editors."""
    from .json_schema import json_schema

    print(json.dumps(json_schema(), indent=2))


@config.command()
def check(file: File = "", profile: Profile = "") -> None:
    """Read it all, and say in a line what there is, or what is wrong."""
    from . import config_file

    path = config_file.find(os.environ, file, profile)
    found = config_file.read(path, os.environ)
    read_config({}, os.environ, found.settings())
    tables = found.tables
    parts = [
        _counted(len(tables.server) + len(tables.engine), "setting"),
        _counted(len(tables.models), "model"),
        _counted(len(tables.providers), "provider"),
        _counted(len(tables.aliases), "alias", "aliases"),
        _counted(len(tables.routes), "route"),
        _counted(len(tables.tiers), "tier"),
    ]
    where = path or "no file; the environment"
    print(f"{where}: {', '.join(filter(None, parts)) or 'nothing is set'}")


def _counted(number: int, one: str, many: str = "") -> str:
    return "" if not number else f"1 {one}" if number == 1 else f"{number} {many or one + 's'}"


@config.command("import")
def import_settings(
    file: Annotated[str, typer.Argument(help="The settings of another program.", metavar="FILE")],
    into: Annotated[
        str, typer.Option(metavar="FILE", help="The file to write; else it is printed.")
    ] = "",
    known_as: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="NAME",
            help="What the file is: higgs, llama-swap, mlx-router, mlx-stack (its stack file) or "
            "mlx-stack-config; else it is found from what is in it.",
        ),
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Write over a file.")] = False,
) -> None:
    """Make a config.toml of Higgs's, llama-swap's, mlx-router's or mlx-stack's settings.

    What is not carried over is said on standard error, key by key.
    """
    from ..importers.formats import import_file, write

    found = import_file(Path(file).expanduser(), known_as)
    if into:
        write(found.text, Path(into).expanduser(), force)
    else:
        print(found.text, end="")
    keys = _counted(found.carried, "key") or "no key"
    left = f"; left out, in whole or in part: {len(found.left)}" if found.left else ""
    say(f"bessemer: {file} is {found.title}: {keys} carried over{left}\n")
    for key, why in found.left.items():
        say(f"  {key}: {why}\n")
