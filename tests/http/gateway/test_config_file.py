"""config.toml as users write it: read, overridden, and refused by file, line and key."""

from pathlib import Path

import pytest

from bessemer.http.config import UsageError, read_config, unknown_variables
from bessemer.http.gateway.config_file import ConfigFile, find, line_of, read

WHOLE = """\
[server]
port = 8123
cors_origin = ["http://a", "http://b"]

[engine]
kv_cache = "512MB"

[[models]]
path = "guide"
name = "g"
tool_parser = "hermes"

[providers.openai]
url = "https://api.openai.com/v1"
api_key = "env:OPENAI_API_KEY"

[providers."my.anthropic"]
url = "https://api.anthropic.com"
format = "anthropic"
idle_timeout = 5

[aliases]
"gpt-4" = "g"

[[routes]]
pattern = "^claude-"
provider = "my.anthropic"

[[routes]]
pattern = "^gpt-"
provider = "openai"
fallbacks = ["my.anthropic/claude-x", "g"]

[default]
provider = "local"

[tiers.fast]
targets = ["g", "openai/gpt-mini"]
"""


def file_of(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def read_text(tmp_path: Path, text: str, **environment: str) -> ConfigFile:
    return read(file_of(tmp_path, text), environment)


def test_a_file_s_settings_are_defaults_under_the_environment_and_flags(tmp_path: Path) -> None:
    file = read_text(tmp_path, WHOLE)
    config = read_config({}, {}, file.settings())
    assert (config.port, config.cors_origin) == (8123, ("http://a", "http://b"))
    assert config.models == ("g=guide",) and config.tool_parser == ("g=hermes",)
    assert config.model.kv_cache == 512_000_000
    assert read_config({}, {"BESSEMER_PORT": "9"}, file.settings()).port == 9
    assert read_config({"port": "7"}, {"BESSEMER_PORT": "9"}, file.settings()).port == 7
    assert read_config({"models": ["a"]}, {}, file.settings()).models == ("a",)


def test_nested_variables_go_over_the_file_whatever_their_case(tmp_path: Path) -> None:
    said = {
        "BESSEMER_SERVER__PORT": "9",
        "BESSEMER_PROVIDERS__OPENAI__MAX_CONCURRENCY": "3",
        "BESSEMER_PROVIDERS__OTHER__URL": "http://other",
        "BESSEMER_ROUTES__0__MODEL": "claude-z",
        "BESSEMER_TIERS__FAST__TARGETS": '["g"]',
        "BESSEMER_PROVIDERS__OPENAI__API_KEY": "123",
    }
    file = read_text(tmp_path, WHOLE, **said)
    openai, other = file.tables.providers["openai"], file.tables.providers["other"]
    assert (openai.max_concurrency, openai.api_key) == (3, "123")
    assert other.url == "http://other" and file.tables.routes[0].model == "claude-z"
    assert file.tables.tiers["fast"].targets == ["g"]
    assert read_config({}, said, file.settings()).port == 9
    assert unknown_variables({**said, "BESSEMER_CONFIG_DIR": "x"}) == []
    with pytest.raises(UsageError, match="names no entry of the list: it has 2, from 0"):
        read_text(tmp_path, WHOLE, BESSEMER_ROUTES__7__MODEL="m")
    with pytest.raises(UsageError, match="port is no table"):
        read_text(tmp_path, WHOLE, BESSEMER_SERVER__PORT__X="m")
    with pytest.raises(UsageError, match="TARGETS__0__X: 0 is no table"):
        read_text(tmp_path, WHOLE, BESSEMER_TIERS__FAST__TARGETS__0__X="m")


def test_a_variable_may_be_an_entry_of_a_list(tmp_path: Path) -> None:
    whole = read_text(tmp_path, WHOLE, BESSEMER_ROUTES__1='{pattern = "x", provider = "local"}')
    assert whole.tables.routes[1].pattern == "x"
    part = read_text(tmp_path, WHOLE, BESSEMER_TIERS__FAST__TARGETS__1="g2")
    assert part.tables.tiers["fast"].targets == ["g", "g2"]


def test_a_variable_s_mistake_names_the_variable(tmp_path: Path) -> None:
    said = {"BESSEMER_PROVIDERS__OPENAI__URL": "ftp://x"}
    with pytest.raises(UsageError) as caught:
        read_text(tmp_path, WHOLE, **said)
    assert str(caught.value).startswith("BESSEMER_PROVIDERS__OPENAI__URL: providers.openai.url")
    with pytest.raises(UsageError, match=r"^BESSEMER_SERVER__PORT: server.port is 'x', but must"):
        read_config({}, {}, read_text(tmp_path, WHOLE, BESSEMER_SERVER__PORT="x").settings())


MISTAKES = [
    ("port = 8123", "prt = 1", 2, "server.prt is no key; did you mean port?"),
    ("port = 8123", "port = 99999", 2, "server.port is '99999', but must be a whole number from 0"),
    ("port = 8123", 'rate_limit = ["1"]', 2, "server.rate_limit is a list, but must be one value"),
    ("port = 8123", "port = []", 2, "server.port is a list, but must be one value"),
    ("port = 8123", "host = {a = 1}", 2, "server.host must be a text, a number, true or false"),
    ("port = 8123", "api_key = [[1]]", 2, "server.api_key must be a text, a number, true or"),
    ("port = 8123", "host = 2020-01-02", 2, "server.host must be a text, a number, true or false"),
    ("kv_cache", "kv_cach", 6, "engine.kv_cach is no key; did you mean kv_cache?"),
    ('name = "g"', 'nme = "g"', 10, "models[0].nme is no key; did you mean name?"),
    ('path = "guide"\n', "", 8, "models[0] needs the key path"),
    ('path = "guide"', 'path = " "', 9, "models[0].path is blank"),
    ('url = "https://api.openai', 'url = "ftp://', 14, "providers.openai.url must begin with http"),
    ("api_key = ", "max_concurrency = -1 #", 15, "max_concurrency must be at least 0"),
    ("api_key = ", 'api_key = "" #', 15, "providers.openai.api_key is blank"),
    ('"anthropic"\n', '"antropic"\n', 19, "format must be anthropic or ollama or openai or resp"),
    ("idle_timeout = 5", "idle_timeout = nan", 20, "idle_timeout must be greater than 0"),
    ("idle_timeout = 5", "strip_auth = true\npass_auth = true", 21, "opposite of strip_auth"),
    ("[aliases]", "[alias]", 22, "alias is no key; did you mean aliases?"),
    ('"gpt-4" = "g"', '"gpt-4" = 5', 22, "aliases must be a string, not an integer"),
    ('"gpt-4" = "g"', '"gpt-4" = "opnai/x"', 23, "is 'opnai/x'; did you mean openai?"),
    ('pattern = "^claude-"\n', "", 25, "routes[0] needs a pattern or a description"),
    ('"^gpt-"', '"("', 30, "routes[1].pattern is no regular expression: missing )"),
    ('"^gpt-"', '"a"\ndescription = "b"', 29, "has a description, and so needs a name"),
    ('provider = "openai"', 'provider = "opnai"', 31, "no such provider; did you mean openai?"),
    ('provider = "local"', 'provider = "x"', 35, "default.provider is 'x', but there is no such"),
    ('["g", "openai/gpt-mini"]', "[]", 38, "tiers.fast.targets must not be empty"),
    ('["g", "openai/gpt-mini"]', '["fast"]', 38, "targets[0] is a tier; name the models"),
    ("targets = [", "weights = [1]\ntargets = [", 38, "weights has 1 for 2 targets"),
    ("targets = [", 'choice = "weighted"\ntargets = [', 38, "and weights belong together"),
    ("[tiers.fast]", "[tiers.openai]", 13, "providers.openai has the name of a tier"),
    ("[providers.openai]", "[providers.local]", 13, "may not be called local"),
    ("[aliases]", "[auto_router]\nenabled = true\n[aliases]", 22, "and none has one"),
]


@pytest.mark.parametrize(("there", "instead", "line", "said"), MISTAKES, ids=lambda each: str(each))
def test_h37_a_mistake_is_told_by_file_line_and_key(
    there: str, instead: str, line: int, said: str, tmp_path: Path
) -> None:
    """H3.7, and the siblings of its mistakes."""
    assert there in WHOLE
    with pytest.raises(UsageError) as caught:
        read_config({}, {}, read_text(tmp_path, WHOLE.replace(there, instead, 1)).settings())
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'config.toml'}, line {line}: ") and said in message


@pytest.mark.parametrize("key", ["path", "name"])
def test_h37_models_are_told_apart(key: str, tmp_path: Path) -> None:
    two = '[[models]]\npath = "a"\nname = "x"\n[[models]]\npath = "b"\nname = "y"\n'
    same = two.replace('"b"', '"a"') if key == "path" else two.replace('"y"', '"x"')
    assert read_text(tmp_path, two).settings()["models"][1] == ["x=a", "y=b"]
    with pytest.raises(UsageError, match=rf"line \d: models\[1\].{key} is '.', which another"):
        read_text(tmp_path, same)


def test_h37_routes_are_told_apart(tmp_path: Path) -> None:
    route = '[[routes]]\nname = "a"\ndescription = "d"\nprovider = "local"\n'
    with pytest.raises(UsageError, match=r"line 6: routes\[1\].name is 'a', which another one"):
        read_text(tmp_path, route + route)


def test_what_is_no_toml_or_no_text_is_told(tmp_path: Path) -> None:
    path = file_of(tmp_path, "[server\n")
    with pytest.raises(UsageError, match=r"config.toml is no TOML: .* \(at line 1, column 8\)"):
        read(path, {})
    path.write_bytes(b"[server]\nhost = '\xff'")
    with pytest.raises(UsageError, match=r"config.toml is not UTF-8 \(at byte 17\)"):
        read(path, {})
    path.unlink()
    with pytest.raises(UsageError, match="could not be read: No such file"):
        read(path, {})
    path.write_bytes(b"\xef\xbb\xbf[server]\nport = 1")
    assert read(path, {}).tables.server == {"port": 1}


def test_the_file_is_the_one_named_a_profile_s_or_the_usual_one(tmp_path: Path) -> None:
    environment = {"BESSEMER_CONFIG_DIR": str(tmp_path)}
    assert find(environment) is None
    usual = file_of(tmp_path, "")
    work = tmp_path / "config.work.toml"
    work.write_text("")
    assert find(environment) == usual and find(environment, profile="work") == work
    assert find({}, file=str(work)) == work
    assert find({"XDG_CONFIG_HOME": str(tmp_path.parent)}) is None
    with pytest.raises(UsageError, match=r"no file .*; .* has config.toml, config.work.toml"):
        find(environment, profile="home")
    with pytest.raises(UsageError, match="name two files"):
        find(environment, str(work), "work")


def test_lines_are_found_by_the_innermost_table(tmp_path: Path) -> None:
    text = '[a]\nb.c = 1\n[[d]]\n[[d]]\n"e f" = 2 # [x]\n[d.g]\nh = 3\n'
    keys = {("a",): 1, ("a", "b", "c"): 2, ("d", 0): 3, ("d", 1, "e f"): 5, ("d", "g", "h"): 7}
    for key, line in keys.items():
        assert line_of(text, key) == line
    assert line_of(text, ("a", "x", "y")) == 1 and line_of(text, ("z",)) is None
