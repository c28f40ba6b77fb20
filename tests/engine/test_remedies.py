"""What helps where the system refuses."""

import errno
from pathlib import Path

import pytest

from bessemer.engine.remedies import FREE_SPACE, remedy, unreadable


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, FREE_SPACE),
        (errno.EACCES, "give this user the right to it (see chmod)"),
        (errno.EIO, "see to that, or name another place"),
    ],
)
def test_what_helps(number: int, said: str) -> None:
    assert remedy(OSError(number, "refused")) == said


def test_an_error_without_a_number() -> None:
    assert remedy(OSError("odd")) == "see to that, or name another place"


def test_a_file_that_cannot_be_read() -> None:
    said = unreadable(Path("a"), PermissionError(errno.EACCES, "Permission denied"))
    assert (
        said == "a cannot be read (Permission denied); give this user the right to it (see chmod)"
    )
