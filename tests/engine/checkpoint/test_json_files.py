"""JSON files: a flaw is named with the file, and so is what the system says of it."""

from pathlib import Path

import pytest

from bessemer.engine.checkpoint.json_files import not_a_file, read_object


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
    with pytest.raises(ValueError, match=r"folder cannot be read \(Is a directory\); name a file$"):
        read_object(folder, ValueError)
    assert not_a_file(folder) == f"{folder} is a directory, where a file was expected"
