"""Which program's a file is, and what holds for the files of all of them."""

import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bessemer.http.config import UsageError
from bessemer.http.importers import higgs, llama_swap, mlx_router, mlx_stack
from bessemer.http.importers.draft import Draft, Key, Rules
from bessemer.http.importers.formats import FORMATS, import_file, write
from bessemer.http.importers.toml_text import toml_text

from .importing import settings_of

FILES = [
    ("a.toml", "[provider.a]\nurl = 'http://a'", "Higgs's config.toml"),
    ("a.toml", "[[models]]\npath = 'm'", "Higgs's config.toml"),
    ("a.toml", "[server]\nport = 1", "Higgs's config.toml"),
    ("a.json", '{"server": {"ip": "::1"}}', "mlx-router's config.json"),
    ("a.json", '{"models": {"m": {"required_memory_gb": 1}}}', "mlx-router's config.json"),
    ("a.yaml", "litellm-port: 1", "mlx-stack's config.yaml"),
    ("a.yaml", "tiers: [{name: a, model: b, source: c}]", "mlx-stack's stack file"),
    ("a.yaml", "models: {m: {cmd: x}}", "llama-swap's configuration"),
    ("a.json", '{"peers": {"p": {"proxy": "http://a"}}}', "llama-swap's configuration"),
]


@pytest.mark.parametrize(("name", "text", "title"), FILES)
def test_a_file_is_known_by_its_keys(name: str, text: str, title: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert import_file(tmp_path / name).title == title


def test_a_flag_says_what_a_file_is(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("[server]\nport = 1\n")
    assert import_file(path, "mlx-router").text == "[server]\nport = 1\n"
    with pytest.raises(UsageError, match="--from is 'other', but must be one of llama-swap, mlx-s"):
        import_file(path, "other")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[package]\nname = 'x'", "is none of these: llama-swap's configuration, mlx-stack's"),
        ("", "is none of these"),
        ("[providers.a]\nurl = 'http://a'", "has the table providers, as Bessemer's own files"),
    ],
)
def test_other_files_are_told(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        import_file(path)
    assert str(caught.value).startswith(f"{path} {said}")


def test_a_file_is_written_for_its_owner_and_over_none(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config.toml"
    write("a = 1\n", path, force=False)
    assert path.read_text() == "a = 1\n" and stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(UsageError, match="is there already; --force writes over it"):
        write("b = 1\n", path, force=False)
    assert path.read_text() == "a = 1\n"
    link = tmp_path / "link.toml"
    link.symlink_to(path)
    write("b = 1\n", link, force=True)
    assert link.is_symlink() and path.read_text() == "b = 1\n"
    with pytest.raises(OSError):
        write("c = 1\n", path.parent, force=True)
    assert [each.name for each in tmp_path.rglob("*") if each.is_file()].count("config.toml") == 1
    assert not list(tmp_path.rglob(".*"))


# Whole files made of the keys that rules know, and of values that are right, odd or impossible.
WORDS = st.sampled_from(
    [
        *("a", "b/c", "a b", "local", "higgs", "openai", "openrouter", "auto", "", "1", "\u00e9=x"),
        *("http://x", "http://x:${PORT}", "llama-server -m x.gguf", "vllm serve q/r", "${env.K}"),
        *("${m}", "warm", "pin", "spillover", "("),
    ]
)
SCALARS = st.one_of(
    WORDS, st.integers(-1, 10), st.booleans(), st.none(), st.floats(), st.text(max_size=5)
)
VALUES = st.one_of(
    SCALARS, st.lists(SCALARS, max_size=3), st.dictionaries(WORDS, SCALARS, max_size=2)
)
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
# What goes with another key without being its source.
WITH_OTHERS = ("name", "model", "provider")


def below(key: str, *rules: Rules) -> Rules:
    return {f"{key}.{inner}": rule for each in rules for inner, rule in each.items()}


KEYS: Mapping[str, Rules] = {
    "higgs": {**higgs.RULES, **below("models[]", higgs.MODEL)},
    "mlx-router": {**mlx_router.RULES, **below("models.*", mlx_router.MODEL)},
    "mlx-stack": {**mlx_stack.STACK, **below("tiers[]", mlx_stack.TIER)},
    "mlx-stack-config": mlx_stack.SETTINGS,
    "llama-swap": {
        **llama_swap.RULES,
        **below("models.*", llama_swap.MODEL, llama_swap.LOCAL, llama_swap.REMOTE),
        **below("peers.*", llama_swap.PEER),
        **below("selectors.*", llama_swap.SELECTOR),
    },
}


@st.composite
def documents(draw: Callable[[Any], Any], rules: Rules) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for key in draw(st.lists(st.sampled_from(sorted(rules)), max_size=14)):
        steps = [draw(WORDS) if step == "*" else step for step in key.split(".")]
        table = document
        for step in steps[:-1]:
            name, is_list, _ = step.partition("[]")
            found = table.setdefault(name, [] if is_list else {})
            if isinstance(found, list) and (not found or draw(st.booleans())):
                found.append({})
            table = found[-1] if isinstance(found, list) else found
            if not isinstance(table, dict):
                break
        else:
            table[steps[-1].removesuffix("[]")] = draw(VALUES)
    return document


def leaves(value: Any, at: Key = ()) -> Iterator[Key]:
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for name, each in inner:
        if isinstance(each, dict | list):
            yield from leaves(each, (*at, name))
        elif each is not None:
            yield (*at, name)


@pytest.mark.parametrize("name", FORMATS)
def test_no_key_is_lost_and_the_result_is_always_sound(name: str) -> None:
    @settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
    @given(documents(KEYS[name]))
    def carry(document: dict[str, Any]) -> None:
        draft = Draft()
        FORMATS[name].carry(draft, document)
        draft.finished()
        with TemporaryDirectory() as folder:
            path = Path(folder, "config.toml")
            path.write_text(toml_text(draft.tables()), encoding="utf-8")
            settings_of(path)
        told = {*draft.left, *draft.sources()}
        for leaf in leaves(document):
            known = any(leaf[:end] in told for end in range(1, len(leaf) + 1))
            assert known or leaf[-1] in WITH_OTHERS or "macros" in leaf, leaf

    carry()
