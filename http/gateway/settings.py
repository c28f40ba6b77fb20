"""The gateway's settings once all that they name has been found."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .config_file import ConfigFile
from .provider import Provider
from .schema import NO_TABLES, ConfigTables, KeyTable
from .secret import secret


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """A configuration's tables, with the providers' and the clients' keys as they are."""

    tables: ConfigTables = NO_TABLES
    providers: Mapping[str, Provider] = field(default_factory=dict)
    keys: Mapping[str, tuple[str, KeyTable]] = field(default_factory=dict, repr=False)
    spending: str = ""  # the file of what keys have spent; without one it is forgotten


NO_GATEWAY = GatewaySettings()


def gateway_settings(file: ConfigFile, environment: Mapping[str, str]) -> GatewaySettings:
    """Find the keys that a file names. Raises UsageError, which tells none."""
    tables = file.tables
    providers = {name: _provider(name, file, environment) for name in tables.providers}
    keys = {
        name: (_secret(table.key, ("keys", name, "key"), file, environment), table)
        for name, table in tables.keys.items()
    }
    limited = any(table.budget is not None for table in tables.keys.values())
    spending = str(file.path.absolute().with_name("usage.sqlite")) if limited else ""
    return GatewaySettings(tables, providers, keys, spending)


def _provider(name: str, file: ConfigFile, environment: Mapping[str, str]) -> Provider:
    table = file.tables.providers[name]
    values = {each: getattr(table, each) for each in table.__struct_fields__}
    if table.api_key is not None:
        place = ("providers", name, "api_key")
        values["api_key"] = _secret(table.api_key, place, file, environment)
    if table.models is not None:
        values["models"] = tuple(table.models)
    return Provider(name=name, **values)


def _secret(
    text: str, key: tuple[str, ...], file: ConfigFile, environment: Mapping[str, str]
) -> str:
    try:
        return secret(text, environment)
    except ValueError as problem:
        raise file.mistake(key, str(problem)) from None
