"""Settings whose keys have been found."""

from pathlib import Path

import pytest

from bessemer.http.config import UsageError
from bessemer.http.gateway.config_file import read
from bessemer.http.gateway.settings import GatewaySettings, gateway_settings

SECRET = "sk-very-secret"
WHOLE = f"""\
[providers.a]
url = "http://a"
api_key = "env:A_KEY"
format = "anthropic"
models = ["m"]
headers = {{x = "y"}}

[providers.b]
url = "http://b"
api_key = "{SECRET}"

[providers.c]
url = "http://c"

[keys.alice]
key = "env:ALICE"
"""


def settings(tmp_path: Path, text: str = WHOLE, **environment: str) -> GatewaySettings:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return gateway_settings(read(path, {}), environment)


def test_keys_are_found_and_shown_to_nobody(tmp_path: Path) -> None:
    found = settings(tmp_path, A_KEY=SECRET, ALICE=SECRET)
    assert [each.api_key for each in found.providers.values()] == [SECRET, SECRET, None]
    a = found.providers["a"]
    assert (a.name, a.url, a.format, a.models) == ("a", "http://a", "anthropic", ("m",))
    assert a.headers == {"x": "y"} and found.keys["alice"][0] == SECRET
    assert SECRET not in repr(a) and SECRET not in repr(found.providers["b"])


def test_a_key_that_is_not_there_is_told_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"line 3: providers.a.api_key is env:A_KEY, but the env"):
        settings(tmp_path)
    with pytest.raises(UsageError, match=r"line 16: keys.alice.key is env:ALICE, but the env"):
        settings(tmp_path, A_KEY="x")


def test_spending_is_kept_beside_the_file_where_there_is_a_budget(tmp_path: Path) -> None:
    assert settings(tmp_path, A_KEY="x", ALICE="y").spending == ""
    limited = settings(tmp_path, f"{WHOLE}budget = 5", A_KEY="x", ALICE="y")
    assert limited.spending == str(tmp_path / "usage.sqlite")
