"""Files of settings in three notations, and whatever else a path may lead to."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.http.config import UsageError
from bessemer.http.importers.document import load


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", "[a]\nb = [1, 2.5, true]\nc = 'x'"),
        ("a.json", '{"a": {"b": [1, 2.5, true], "c": "x"}}'),
        ("a.yaml", "a:\n  b: [1, 2.5, yes]\n  c: x"),
        ("a.yml", '{"a": {"b": [1, 2.5, true], "c": "x"}}'),
        ("config", "[a]\nb = [1, 2.5, true]\nc = 'x'"),
        ("config", "\ufeffa: {b: [1, 2.5, true], c: x}"),
    ],
)
def test_three_notations_are_read_by_suffix_or_by_trial(
    name: str, text: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    assert load(tmp_path / name) == {"a": {"b": [1, 2.5, True], "c": "x"}}


def test_dates_keys_and_halves_of_characters_become_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("2024: 2024-01-02\non: null\n1.5: [2024-01-02T03:04:05]\n")
    assert load(path) == {"2024": "2024-01-02", "True": None, "1.5": ["2024-01-02 03:04:05"]}
    (tmp_path / "a.json").write_text('{"a": "\\ud800b"}')
    assert load(tmp_path / "a.json") == {"a": "?b"}


MISTAKES: list[tuple[str, str | bytes, str]] = [
    ("a.toml", "[a\n", "is no TOML: Expected ']'"),
    ("a.json", "{,", "is no JSON: Expecting property name"),
    ("a.json", "[1]", "is no table in JSON"),
    ("a.json", "[" * 100_000, "is no JSON: it is nested too deeply"),
    ("a.json", '{"a": ' + "9" * 5000 + "}", "is no JSON: Exceeds the limit"),
    ("a.yaml", "a: [1", "is no YAML: expected ',' or ']', but got '<stream end>' (at line 1, col"),
    ("a.yaml", "a: 2024-13-45", "is no YAML: month must be in 1..12"),
    ("a.yaml", "a: !!python/object/apply:os.system [x]", "is no YAML: could not determine a const"),
    ("a.yaml", "a: &a {b: *a}", "is nested too deeply"),
    ("a.yaml", "a: " + "[" * 40 + "]" * 40, "is nested too deeply"),
    ("a.yaml", "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n"
        for a, b in zip("abcdefg", "bcdefgh", strict=True)
    ), "is too much for a file of settings"),
    ("a.yaml", "\x00", "is no YAML"),
    ("words", "some words", "is no table in JSON or TOML or YAML"),
    ("a.toml", b"a = '\xff'", "is not UTF-8 (at byte 5)"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "said"), MISTAKES, ids=lambda each: repr(each)[:30])
def test_what_is_broken_is_one_sentence(
    name: str, content: str | bytes, said: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path} {said}")


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="could not be read: No such file"):
        load(tmp_path / "a.toml")
    with pytest.raises(UsageError, match="could not be read: Is a directory"):
        load(tmp_path)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40) | st.binary(max_size=20), st.sampled_from(["json", "yaml", "toml", ""]))
def test_anything_is_tables_or_a_sentence(content: Any, suffix: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, f"any.{suffix}")
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        try:
            assert isinstance(load(path), dict)
        except UsageError as error:
            assert str(path) in str(error)
