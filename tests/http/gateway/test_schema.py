"""The schema of config.toml, as editors read it."""

from typing import Any

import msgspec

from bessemer.http.gateway.provider import Provider
from bessemer.http.gateway.schema import ConfigTables, ProviderTable


def described(table: type[msgspec.Struct]) -> dict[str, Any]:
    schemas, (schema,) = {}, ({},)
    (schema,), schemas = msgspec.json.schema_components([table])
    name = schema["$ref"].rpartition("/")[2]
    properties: dict[str, Any] = schemas[name.rpartition("/")[2]]["properties"]
    return properties


def test_every_key_of_a_provider_is_described_and_reaches_it() -> None:
    keys = described(ProviderTable)
    assert {*keys} == {*Provider.__dataclass_fields__} - {"name"}
    assert all("description" in str(about) for about in keys.values())


def test_defaults_are_those_of_a_provider() -> None:
    table, provider = ProviderTable(url="http://a"), Provider(name="a", url="http://a")
    for name in ProviderTable.__struct_fields__:
        assert getattr(table, name) == getattr(provider, name), name


def test_a_schema_takes_no_key_that_it_does_not_have() -> None:
    schema = msgspec.json.schema(ConfigTables)
    tables = schema["$defs"]
    assert all(each["additionalProperties"] is False for each in tables.values())
