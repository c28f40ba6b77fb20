"""Rules carry keys over, or say why not; what the checks refuse goes with what needs it."""

from typing import Any

import pytest

from bessemer.http.gateway.config_file import ConfigMistake
from bessemer.http.importers.draft import DONE, Draft, Key, LeftOut, Rules, To, has, shown


def double(_: Draft, value: Any) -> Any:
    if not isinstance(value, int):
        raise LeftOut("is no number")
    return 2 * value


def noted(draft: Draft, at: Key, value: Any) -> None:
    draft.left[at] = f"seen {value}"


RULES: Rules = {
    "port": To("server.port", double),
    "peers.*.at": To("providers.*.url"),
    "ways[].to": To("routes[].provider"),
    "ways[].when": To("routes[].pattern"),
    "seen.*": noted,
    "gone": "there is none",
    "known": DONE,
}


def test_rules_say_what_becomes_of_each_key() -> None:
    draft = Draft()
    document = {
        "port": 4, "peers": {"a b": {"at": "http://a", "by": 1}}, "seen": {"x": 1, "y": None},
        "ways": [{"to": "local", "when": "x"}, 5], "gone": [1], "known": 1, "new": {"a": 1},
    }  # fmt: skip
    draft.carry(document, RULES)
    draft.finished()
    assert draft.tables() == {
        "server": {"port": 8},
        "providers": {"a-b": {"url": "http://a"}},
        "routes": [{"provider": "local", "pattern": "x"}],
    }
    unknown = "no such key is known here"
    assert draft.left == {
        ("peers", "a b"): "is called a-b here", ("peers", "a b", "by"): unknown,
        ("seen", "x"): "seen 1", ("ways", 1): unknown, ("gone",): "there is none",
        ("new",): unknown,
    }  # fmt: skip
    assert draft.sources() == {
        ("port",), ("peers", "a b", "at"), ("ways", 0, "to"), ("ways", 0, "when"),
    }  # fmt: skip


def test_a_conversion_may_refuse() -> None:
    draft = Draft()
    draft.carry({"port": "x"}, RULES, at=("here",))
    assert draft.left == {("here", "port"): "is no number"} and draft.tables() == {}


def test_the_first_value_of_a_key_counts() -> None:
    draft = Draft()
    for value, source in ((1, "a"), (2, "b"), (1, "c")):
        draft.put(("server", "port"), value, (source,))
    assert draft.tables() == {"server": {"port": 1}}
    assert draft.left == {("b",): "server.port has another value already"}
    assert draft.sources() == {("a",), ("c",)}


def test_entries_of_a_list_are_found_once_others_are_dropped() -> None:
    draft = Draft()
    ways = [{"to": "a", "when": "("}, {"to": "local", "when": "x"}, {"to": "local", "when": "["}]
    draft.carry({"ways": ways}, RULES)
    draft.finished()
    assert draft.tables() == {"routes": [{"provider": "local", "pattern": "x"}]}
    assert draft.left["ways", 2, "when"].startswith("is no regular expression")
    assert draft.left["ways", 2, "to"].startswith("goes with the rest of it: routes[1].pattern is")
    assert draft.sources() == {("ways", 1, "to"), ("ways", 1, "when")}


def test_a_mistake_that_no_key_made_is_told() -> None:
    """What is dropped has to be there, or nothing would end."""
    draft = Draft()
    with pytest.raises(ConfigMistake, match="at x is wrong"):
        draft._drop(ConfigMistake("at x", ("server", "x"), "is wrong"))


def test_models_are_there_once_for_each_path() -> None:
    draft = Draft()
    assert draft.model("p", "org/a b", ("1",)) == ("org-a-b", ("models", 0))
    assert draft.model("p", "again", ("2",)) == ("org-a-b", ("models", 0))
    assert draft.model("q", None, ("3",)) == ("q", ("models", 1))
    assert draft.model("r", "org-a-b", ("4",)) == ("org-a-b-2", ("models", 2))
    assert draft.tables() == {
        "models": [
            {"path": "p", "name": "org-a-b"}, {"path": "q"}, {"path": "r", "name": "org-a-b-2"},
        ],
        "aliases": {"org/a b": "org-a-b", "again": "org-a-b", "org-a-b": "org-a-b-2"},
    }  # fmt: skip
    assert [draft.leads(name) for name in ("again", "q", "a/b")] == ["org-a-b", "q", None]


def test_names_are_allowed_ones_and_no_other_s() -> None:
    draft = Draft()
    names = ["a b", "a-b", "\u00e9", "auto", "a b", "-", "x.y_z"]
    found = [draft.name("providers", name) for name in names]
    assert found == ["a-b", "a-b-2", "unnamed", "auto-provider", "a-b", "unnamed-2", "x.y_z"]
    assert draft.name("aliases", "a b") == "a b"


def test_keys_are_found_and_shown() -> None:
    document = {"a": [{"b": 1}, {"c d": {"e": None}}]}
    assert has(document, "a[].b") and has(document, "a[].*.e") and has(document, "*")
    assert not has(document, "a.b") and not has(document, "a[].b.c") and not has(document, "b")
    assert shown(("a", 1, "c d", "e.f")) == 'a[1]."c d"."e.f"'


def test_a_default_with_a_mistake_is_left_out_whole() -> None:
    """Its model alone would be one of this server's."""
    draft = Draft()
    draft.put(("default", "provider"), "nobody", ("p",))
    draft.put(("default", "model"), "m", ("m",))
    draft.finished()
    assert draft.tables() == {} and set(draft.left) == {("p",), ("m",)}
