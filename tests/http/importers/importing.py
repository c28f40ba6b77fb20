"""What a file of another program's becomes: read by its format, and by our own config.toml's."""

import tomllib
from pathlib import Path
from typing import Any

from bessemer.http.config import Config, read_config
from bessemer.http.gateway import config_file
from bessemer.http.importers.formats import import_file


def imported(folder: Path, name: str, text: str) -> tuple[dict[str, Any], dict[str, str], Config]:
    """Return the tables of a file, why its other keys are left out, and the settings it makes."""
    source, result = folder / name, folder / "result.toml"
    source.write_text(text)
    found = import_file(source)
    result.write_text(found.text)
    return tomllib.loads(found.text), dict(found.left), settings_of(result)


def settings_of(path: Path) -> Config:
    """Return the settings that a config.toml makes, as `bessemer serve` reads it."""
    file = config_file.read(path, {})
    return read_config({}, {}, file.settings())
