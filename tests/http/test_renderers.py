"""Chat templates and formats of calls that a user gives."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bessemer.http.config import Config, UsageError
from bessemer.http.renderers import Chosen, chat_templates, chosen, open_renderer, tool_parsers
from tests.translate.test_answer import RENDERER


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


class Host:
    """A template's process that says what is wrong with it, and keeps what it was started with."""

    def __init__(self, fault: str | None) -> None:
        self.fault = fault
        self.started: list[tuple[str | None, bool]] = []

    async def start(
        self, text: str | None, specials: dict[str, str], told: bool, calls: str
    ) -> str | None:
        assert calls == "auto"
        self.started.append((text, told))
        return self.fault


def test_a_template_that_a_user_gives_must_work_and_a_model_s_own_may_not() -> None:
    def opened(own: str | None, fault: str | None, told: bool = False) -> tuple[str | None, bool]:
        host: Any = Host(fault)
        asyncio.run(open_renderer("m", RENDERER.tokenizer, Chosen(own), host, told))
        (start,) = host.started
        return start

    for fault in (None, "it is broken"):
        assert [opened(None, fault, told)[1] for told in (False, True)] == [False, True]
    assert opened("{{ x }}", None) == ("{{ x }}", True)
    with pytest.raises(UsageError, match="m: its --chat-template cannot be used: it is broken"):
        opened("{{ x }}", "it is broken")


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
