"""Where a provider's key is kept."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bessemer.http.gateway.secret import secret

KEY = "sk-very-secret"


def test_a_key_is_found_where_it_is_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"\ufeff{KEY}\n", "utf-8")
    assert secret(KEY, {}) == secret(f" {KEY} ", {}) == KEY
    assert secret("env:A", {"A": f"{KEY}\n"}) == KEY
    assert secret(f"file:{path}", {}) == KEY
    assert secret("sk:env:A", {"A": "x"}) == "sk:env:A"  # another's key may have colons


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("env:A", "is env:A, but the environment has no A"),
        ("env:", "names nothing after env:"),
        ("file: ", "names nothing after file:"),
        ("file:/nowhere/key", "could not be read: No such file"),
        ("env:EMPTY", "the environment has no EMPTY"),
        ("env:TWO", "has a character that no header carries"),
        (f"{KEY} x", "has a character that no header carries"),
        (f"{KEY}\r\nx: y", "has a character that no header carries"),
        ("", "is empty"),
    ],
)
def test_what_is_no_key_is_told_without_telling_one(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        secret(text, {"EMPTY": " ", "TWO": f"{KEY}\n{KEY}"})
    assert KEY not in str(caught.value)


def test_files_that_are_no_text_or_empty_are_told(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="not UTF-8"):
        secret(f"file:{path}", {})
    path.write_bytes(b"\n")
    with pytest.raises(ValueError, match="is empty in file:"):
        secret(f"file:{path}", {})


def test_the_keychain_is_asked_on_a_mac_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        known = command[3] == "openai"
        return subprocess.CompletedProcess(command, 0 if known else 44, f"{KEY}\n", "")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(ValueError, match="only macOS has"):
        secret("keychain:openai", {})
    monkeypatch.setattr(sys, "platform", "darwin")
    assert secret("keychain:openai", {}) == KEY
    with pytest.raises(ValueError, match="as other, where there is no such password"):
        secret("keychain:other", {})
    assert [each[1:] for each in asked] == [
        ["find-generic-password", "-s", name, "-w"] for name in ("openai", "other")
    ]
