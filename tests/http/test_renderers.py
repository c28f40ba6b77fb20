"""Chat templates and formats of calls that a user gives."""

from pathlib import Path

import pytest

from bessemer.http.config import Config, UsageError
from bessemer.http.renderers import Chosen, chat_templates, chosen, tool_parsers


def test_chat_templates_are_for_all_models_or_for_one(tmp_path: Path) -> None:
    models = {"a": tmp_path, "Org/b": tmp_path}
    for name in ("all", "one", "a=b"):
        (tmp_path / name).write_text(name)
    every, one, odd = (str(tmp_path / name) for name in ("all", "one", "a=b"))
    assert chat_templates((), models) == {}
    assert chat_templates((every,), models) == {"a": "all", "Org/b": "all"}
    for entries in ((f"a={one}", every), (every, f"a={one}")):
        assert chat_templates(entries, models) == {"a": "one", "Org/b": "all"}
    assert chat_templates((f"Org/b={one}",), models) == {"Org/b": "one"}
    assert chat_templates((odd,), models) == {"a": "a=b", "Org/b": "a=b"}
    for unknown in (f"c={one}", "~nobody-at-all/x.jinja"):
        with pytest.raises(UsageError, match=r"NAME one of a, Org/b"):
            chat_templates((unknown,), models)


def test_tool_parsers_are_for_all_models_or_for_one(tmp_path: Path) -> None:
    models = {"a": tmp_path, "Org/b": tmp_path}
    assert tool_parsers((), models) == {}
    assert tool_parsers(("hermes",), models) == {"a": "hermes", "Org/b": "hermes"}
    for entries in (("a=auto", "llama"), ("llama", "a=auto")):
        assert tool_parsers(entries, models) == {"a": "auto", "Org/b": "llama"}
    for entry, words in (
        ("hermess", "'hermess'; there are auto, apertus, .*hermes, .*xlam"),
        ("a=", "''; there are auto"),
        ("c=hermes", "the models are a, Org/b"),
    ):
        with pytest.raises(UsageError, match=words):
            tool_parsers((entry,), models)
    config = Config(hub_cache=tmp_path, tool_parser=("Org/b=kimi",))
    assert chosen(config, models) == {"a": Chosen(), "Org/b": Chosen(tool_parser="kimi")}
