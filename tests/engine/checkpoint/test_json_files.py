"""JSON files: a flaw is named with the file, and so is what the system says of it."""

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from bessemer.engine.checkpoint.json_files import is_gguf, is_pointer, not_a_file, read_object
from bessemer.engine.text.loading import load_tokenizer
from bessemer.http.config import UsageError
from bessemer.http.hub import resolve
from tests.engine.gguf.make_golden import GOLDEN


def test_a_flaw_is_named(tmp_path: Path) -> None:
    file, folder = tmp_path / "a.json", tmp_path / "folder"
    folder.mkdir()
    assert read_object(file, ValueError) is None and not_a_file(file) is None
    file.write_text('{"a": NaN}')
    assert read_object(file, ValueError) and not_a_file(file) is None
    for text, words in (("[]", "does not hold a JSON object"), ("{", "cannot be read .*again")):
        file.write_text(text)
        with pytest.raises(ValueError, match=words):
            read_object(file, ValueError)
    said = f"{folder} is a directory, where a file was expected"
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        read_object(folder, ValueError)
    assert not_a_file(folder) == said


def test_a_pointer_of_git_lfs_is_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 269\n")
    with pytest.raises(ValueError, match=r"is a git-lfs pointer, .*; run git lfs pull"):
        read_object(file, ValueError)


def test_a_gguf_file_stands_for_a_directory(tmp_path: Path) -> None:
    said = read_object(GOLDEN / "llama.gguf" / "config.json", ValueError)
    assert said is not None and said["model_type"] == "llama"
    (tmp_path / "folder.gguf").mkdir()
    names = ("m.gguf", "M.GGUF", "m.ggu", "gguf", "folder.gguf")
    assert [name for name in names if is_gguf(tmp_path / name)] == ["m.gguf", "M.GGUF"]


def pipe(path: Path) -> None:
    os.mkfifo(path)


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))  # its name may be no longer than some 100 letters


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (pipe, "is a named pipe, where a file was expected"),
        (bound, "is a socket, where a file was expected"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device, where a file was expected"),
        (lambda path: path.symlink_to("gone"), "is a link to gone, which is missing"),
    ],
)
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "m.gguf"])
def test_what_would_be_waited_for_is_not_opened(
    make: Callable[[Path], None], what: str, name: str, tmp_path: Path
) -> None:
    """Of each file of a model's: who opens a named pipe waits for somebody to write."""
    file = tmp_path / name
    if name != "config.json":
        (tmp_path / "config.json").write_text("{}")
    make(file)
    assert what in str(not_a_file(file)) and not is_pointer(file)
    given = file if name == "m.gguf" else tmp_path
    with pytest.raises((ValueError, UsageError), match=what) as caught:
        if name == "tokenizer.json":
            load_tokenizer(tmp_path)
        elif name == "config.json":
            read_object(file, ValueError)
        else:
            resolve(str(given), offline=True)
    assert "\n" not in str(caught.value)
