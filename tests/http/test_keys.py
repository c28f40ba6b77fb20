"""API keys from flags, variables and files: never none by a blank, and never in sight."""

import os
import subprocess
from pathlib import Path

import psutil
import pytest

from bessemer.http.config import UsageError, read_config, unknown_variables, warning
from bessemer.http.keys import without_keys
from tests.http.running import COMMAND, serving


@pytest.mark.parametrize("text", ["", " , ", ",", "\t", "se\ncret", "secret\x7f", "secret" * 1000])
def test_what_is_no_key_is_a_mistake_that_tells_no_key(text: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("" if "\n" in text else text.replace(",", "#"))
    for flags, environment in (
        ({"api_key": [text]}, {}),
        ({"api_key": ["good", text]}, {}),
        ({}, {"BESSEMER_API_KEY": text}),
        ({"api_key_file": str(file)}, {}),
        ({"api_key_file": str(tmp_path / "none")}, {"BESSEMER_API_KEY": "good"}),
        ({}, {"BESSEMER_API_KEY_FILE": ""}),
    ):
        with pytest.raises(UsageError) as caught:
            read_config(flags, environment)
        assert "secret" not in str(caught.value)


def test_keys_of_a_file_stand_beside_the_others(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("\ufeff# who\n\n one \r\ntwo, with a comma\nklíč\n")
    config = read_config({}, {"BESSEMER_API_KEY_FILE": str(file), "BESSEMER_API_KEY": "a,b"})
    assert config.api_key == ("a", "b", "one", "two, with a comma", "klíč")
    file.chmod(0o644)
    assert "chmod 600" in str(warning(config))
    file.chmod(0o600)
    assert warning(config) is None


def test_a_file_of_keys_in_another_encoding_is_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_bytes(b"secret\xff")
    with pytest.raises(UsageError, match="but must be a file in UTF-8") as caught:
        read_config({"api_key_file": str(file)}, {})
    assert "secret" not in str(caught.value)


def test_a_key_may_be_as_long_as_a_header_takes() -> None:
    assert read_config({"api_key": ["k" * 4096]}, {}).api_key == ("k" * 4096,)
    with pytest.raises(UsageError, match="4096 bytes at most"):
        read_config({"api_key": ["é" * 2048 + "k"]}, {})


def test_an_empty_variable_is_none_and_an_unknown_one_is_named() -> None:
    assert read_config({}, {"BESSEMER_PORT": ""}) == read_config({}, {})
    (said,) = unknown_variables({"BESSEMER_PROT": "1", "BESSEMER_PORT": "1", "OTHER": ""})
    assert said == "the environment's BESSEMER_PROT is no setting; did you mean BESSEMER_PORT?"


def test_arguments_without_keys() -> None:
    given = ["serve", "--api-key", "a", "--port", "1", "--api-key=b", "--api-key-file", "f"]
    assert without_keys(given) == ["serve", "--port", "1", "--api-key-file", "f"]


def test_a_key_of_the_flag_is_in_no_command_line_and_in_no_child() -> None:
    with serving("--api-key", "klíč-1,two", "--api-key=three") as server:
        process = psutil.Process(server.process.pid)
        assert "three" not in " ".join(process.cmdline()) and "--api-key" not in process.cmdline()
        for child in process.children(recursive=True):
            assert "BESSEMER_API_KEY" not in child.environ()
        for key, status in (("three", 200), ("two", 200), ("four", 401)):
            headers = {"authorization": f"Bearer {key}"}
            assert server.ask("GET", "/v1/models", headers=headers)[0] == status


def test_a_blank_key_ends_the_command() -> None:
    done = subprocess.run(
        [*COMMAND, "serve", "--port", "0"],
        env=os.environ | {"BESSEMER_API_KEY": " , "},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "BESSEMER_API_KEY" in done.stderr
