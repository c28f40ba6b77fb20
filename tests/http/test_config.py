"""Settings: where they come from, which source wins, and what a mistake is called."""

import os
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from bessemer.engine.settings import Settings
from bessemer.http.config import SETTINGS, Config, UsageError, hub_cache, read_config, size, warning


def test_defaults() -> None:
    config = read_config({}, {})
    assert config == Config(hub_cache=config.hub_cache)
    assert (config.host, config.port, config.models) == ("127.0.0.1", 8000, ())
    assert (config.max_tokens, config.timeout, config.grace) == (32768, 300.0, 10.0)
    assert (config.body_limit, config.model.kv_cache, config.offline) == (10 * 2**20, 0, False)
    assert (config.model.max_batch, config.model.queue, config.model.chunk) == (64, 256, 256)
    assert (config.rate_limit, config.api_key, config.heartbeat) == (0, (), 5.0)


def test_defaults_are_the_documented_ones() -> None:
    help = " ".join((Path(__file__).parents[2] / "http" / "README.md").read_text().split())
    for source in SETTINGS.values():
        default = f"default {source.default}; " if source.default else ""
        assert f"[{default}{source.environment[0]}" in help, source.flag
        assert source.metavar or source.switch


def test_every_field_has_one_flag_and_its_own_variable() -> None:
    names = {each.name for each in fields(Config)} | set(Settings.__struct_fields__)
    assert names - set(SETTINGS) == {"hub_cache", "model", "one_answer"}
    flags = [source.flag for source in SETTINGS.values()]
    variables = [v for source in SETTINGS.values() for v in source.environment]
    assert len(set(flags)) == len(flags) and len(set(variables)) == len(variables)
    assert all(source.environment[0].startswith("BESSEMER_") for source in SETTINGS.values())
    assert all(source.help.endswith(".") for source in SETTINGS.values())
    assert SETTINGS["models"].flag == "--model" and SETTINGS["max_batch"].flag == "--max-batch"


VALUES: list[tuple[str, Any, str, Any]] = [
    ("models", ["a", "b=c,d"], "a, b=c,", ("a", "b=c,d")),
    ("tool_parser", ["hermes", "b=auto"], "hermes, b=auto", ("hermes", "b=auto")),
    ("chat_template", ["x.jinja", "b=y"], "x.jinja, b=y", ("x.jinja", "b=y")),
    ("host", "::1", "::1", "::1"),
    ("port", "0", "0", 0),
    ("max_tokens", "7", " 7 ", 7),
    ("api_key", ["a,b", "c"], "a,b,c", ("a", "b", "c")),
    ("share_prefixes", True, "1", True),
    ("rate_limit", "60", "60", 60),
    ("timeout", "1.5", "1.5", 1.5),
    ("grace", "1", "1", 1.0),
    ("body_limit", "1KiB", "1 kib", 1024),
    ("kv_cache", "2GB", "2GB", 2 * 10**9),
    ("kv_cache", "auto", "auto", 0),
    ("max_batch", "1", "1", 1),
    ("queue", "0", "0", 0),
    ("chunk", "32", "32", 32),
    ("threads", "2", "2", 2),
    ("threads", "auto", "AUTO", 0),
    ("cpu_precision", "exact", "EXACT", "exact"),
    ("cpu_tier", "plain", "Plain", "plain"),
    ("kv_bits", "8", "8", 8),
    ("kv_bits", "auto", "auto", 0),
    ("metal", "simulator", "Simulator", "simulator"),
    ("metal_kv", "in-place", "in-place", "in-place"),
    ("async_scheduling", "on", "On", "on"),
    ("check_weights", True, "yes", True),
    ("parse_special", True, "yes", True),
    ("cors_origin", ["*"], "*", ("*",)),
    ("log_level", "DEBUG", "debug", "debug"),
    ("offline", True, "yes", True),
    ("context_overflow", "truncate", "Truncate", "truncate"),
    ("attribution", "keep", "Keep", "keep"),
    ("heartbeat", "0.5", "0.5", 0.5),
    ("allowed_host", ["a.b", "c"], "a.b,c", ("a.b", "c")),
    ("watchdog", "2.5", "2.5", 2.5),
    ("stream_format", "json_lines", "JSON_lines", "json_lines"),
    ("stream_chunk_size", "8", "8", 8),
    ("responses_store", "a.db", "a.db", "a.db"),
    ("responses_size", "1GB", "1GB", 10**9),
    ("responses_age", "7", "7", 7),
]


def entry(config: Config, name: str) -> Any:
    return getattr(config.model if name in Settings.__struct_fields__ else config, name)


@pytest.mark.parametrize(("name", "flag", "variable", "value"), VALUES)
def test_flags_and_variables(name: str, flag: Any, variable: str, value: Any) -> None:
    assert entry(read_config({name: flag}, {}), name) == value
    environment = {SETTINGS[name].environment[0]: variable}
    value = ("a", "b=c") if name == "models" else value
    assert entry(read_config({name: None}, environment), name) == value


def test_every_setting_is_tried() -> None:
    assert {name for name, _, _, _ in VALUES} == set(SETTINGS) - {"api_key_file"}  # test_keys.py


def test_flags_win_over_the_environment() -> None:
    environment = {"BESSEMER_PORT": "1", "BESSEMER_MODELS": "a,b", "BESSEMER_OFFLINE": "0"}
    flags: dict[str, Any] = {"port": "2", "models": ["c"], "offline": True}
    config = read_config(flags, environment)
    assert (config.port, config.models, config.offline) == (2, ("c",), True)
    config = read_config({"port": None, "models": [], "offline": False}, environment)
    assert (config.port, config.models, config.offline) == (1, ("a", "b"), False)


@pytest.mark.parametrize("text", ["1", "ON", "True"])
def test_hugging_face_s_own_switch_counts(text: str) -> None:
    assert read_config({}, {"HF_HUB_OFFLINE": text}).offline
    assert not read_config({}, {"HF_HUB_OFFLINE": text, "BESSEMER_OFFLINE": "0"}).offline


@pytest.mark.parametrize(
    ("name", "text", "wants"),
    [
        ("port", "65536", "a whole number from 0 to 65535"),
        ("port", "-1", "a whole number from 0 to 65535"),
        ("port", "8e3", "a whole number from 0 to 65535"),
        ("max_tokens", "0", "a whole number from 1 to 2147483647"),
        ("timeout", "0", "a number of seconds above 0"),
        ("timeout", "nan", "a number of seconds above 0"),
        ("timeout", "inf", "a number of seconds above 0"),
        ("kv_cache", "8XB", "a number of bytes such as 512MB or 8GiB, or auto"),
        ("body_limit", "0", "a number of bytes such as 512MB or 8GiB"),
        ("body_limit", "I", "a number of bytes such as 512MB or 8GiB"),
        ("threads", "0", "a whole number from 1 to 256, or auto"),
        ("cpu_precision", "float", "auto or fast or exact"),
        ("cpu_tier", "sse", "auto or avx512 or avx2 or neon or plain"),
        ("kv_bits", "5", "4 or 8 or 16, or auto"),
        ("kv_bits", "0", "4 or 8 or 16, or auto"),
        ("max_batch", "4097", "a whole number from 1 to 4096"),
        ("metal", "gpu", "auto or simulator or checked or apple-like or off"),
        ("metal_kv", "both", "tail or in-place or functional"),
        ("log_level", "loud", "one of debug, info, warning, error"),
        ("host", " ", "a word"),
    ],
)
def test_mistakes(name: str, text: str, wants: str) -> None:
    source = SETTINGS[name]
    for where, flags, environment in (
        (source.flag, {name: text}, {}),
        (source.environment[0], {}, {source.environment[0]: text}),
    ):
        with pytest.raises(UsageError) as caught:
            read_config(flags, environment)
        assert str(caught.value) == f"{where} is {text!r}, but must be {wants}"


def test_a_bad_switch() -> None:
    with pytest.raises(UsageError, match="BESSEMER_OFFLINE is 'maybe', but must be 1 or 0"):
        read_config({}, {"BESSEMER_OFFLINE": "maybe"})


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1", 1), ("10B", 10), ("1k", 1024), ("1KB", 1000), ("1kib", 1024), ("1.5M", 3 * 2**19),
        ("2GB", 2 * 10**9), ("2GiB", 2**31), ("1 TiB", 2**40),
    ],
)  # fmt: skip
def test_sizes(text: str, count: int) -> None:
    assert size(text) == count


def test_every_unit_of_a_size() -> None:
    for place, unit in enumerate(("", "K", "M", "G", "T")):
        decimal, binary = 3 * 1000**place, 3 * 1024**place
        sizes = [size(f"3{unit}{rest}") for rest in ("B", "", "iB")[: 3 if unit else 2]]
        assert sizes == [decimal, binary, binary][: len(sizes)]


def test_defaults_are_shown_as_a_user_would_write_them() -> None:
    shown = {name: field.default for name, field in SETTINGS.items()}
    assert {name: shown[name] for name in ("kv_cache", "max_batch", "parse_special")} == {
        "kv_cache": "auto",
        "max_batch": "64",
        "parse_special": "",
    }
    assert shown["body_limit"] == "10MiB"


KEY = "BESSEMER_API_KEY"


def test_keys_are_not_printed() -> None:
    assert "secret" not in repr(read_config({"api_key": ["secret"]}, {}))
    for flags, environment in (({"api_key": ["secret\a"]}, {}), ({}, {KEY: "secret\a"})):
        with pytest.raises(UsageError, match="is wrong, but must be keys without") as caught:
            read_config(flags, environment)
        assert "secret" not in str(caught.value)


def test_where_hugging_face_keeps_its_cache() -> None:
    assert hub_cache({}) == Path("~/.cache/huggingface/hub").expanduser()
    assert hub_cache({"XDG_CACHE_HOME": "/x"}) == Path("/x/huggingface/hub")
    assert hub_cache({"XDG_CACHE_HOME": "/x", "HF_HOME": "/h"}) == Path("/h/hub")
    assert hub_cache({"HF_HOME": "/h", "HF_HUB_CACHE": "/c"}) == Path("/c")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_no_warning_on_the_loopback(host: str) -> None:
    assert warning(Config(host=host)) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "my-mac.local"])
def test_a_warning_where_others_can_reach_it(host: str) -> None:
    text = warning(Config(host=host))
    assert text is not None and host in text and "--api-key" in text
    assert warning(Config(host=host, api_key=("k",))) is None


FIELD = """
    eager: Annotated[int, Flag("N", "Steps that are taken early.", max=9, auto=True)] = 3
"""
FIELD_IN_USE = """
from bessemer.engine.settings import Settings
from bessemer.engine.wire import VERSION, Configure, server_channel, worker_channel
from bessemer.http.cli import main
from bessemer.http.config import read_config

for model in (
    read_config({"eager": "7"}, {"BESSEMER_EAGER": "8"}).model,
    read_config({}, {"BESSEMER_EAGER": "8"}).model,
    read_config({"eager": "auto"}, {}).model,
):
    frame = server_channel().frame(Configure(VERSION, "/m", 1, model))
    (configure,) = worker_channel().feed(frame)
    print(configure.settings.eager)
main(["serve", "--eager", "10"])
main(["serve", "--help"])
main(["run", "--help"])
"""


def test_a_new_setting_is_its_field_and_its_use(tmp_path: Path) -> None:
    """Add one line to a copy of the package: it is a flag that reaches a worker."""
    package = tmp_path / "bessemer"
    for folder in ("kernels", "architectures", "engine", "translate", "http"):
        ignored = shutil.ignore_patterns("__pycache__", "guide")
        shutil.copytree(Path(__file__).parents[2] / folder, package / folder, ignore=ignored)
    declared = package / "engine" / "settings.py"
    declared.write_text(declared.read_text() + FIELD)
    done = subprocess.run(
        [sys.executable, "-c", FIELD_IN_USE],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[:3] == ["7", "8", "0"]
    assert "--eager is '10', but must be a whole number from 0 to 9, or auto." in done.stderr
    help = " ".join(done.stdout.split())
    entry = "--eager N Steps that are taken early. [default 3; BESSEMER_EAGER]"
    assert help.count(entry) == 2  # of serve and of run
