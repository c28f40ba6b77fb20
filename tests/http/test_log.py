"""The log: what is a line, what is left out, and that a stuck reader holds nobody up."""

import io
import re
import threading

import pytest

from bessemer.http import log as logging_
from bessemer.http.log import Log

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z "


def lines(stream: io.BytesIO) -> list[str]:
    return stream.getvalue().decode().splitlines()


def test_an_access_line() -> None:
    stream = io.BytesIO()
    with Log("info", stream) as log:
        log.access("127.0.0.1", "GET /v1/models", 200, 0.00123, 45, "req_1")
    [line] = lines(stream)
    assert re.fullmatch(STAMP + r'127\.0\.0\.1 "GET /v1/models" 200 1\.2 ms 45 B req_1', line)


@pytest.mark.parametrize(
    ("level", "count"), [("debug", 4), ("info", 4), ("warning", 2), ("error", 1)]
)
def test_levels(level: str, count: int) -> None:
    stream = io.BytesIO()
    with Log(level, stream) as log:
        log.info("i")
        log.access("127.0.0.1", "GET /", 200, 0, 0, "req_1")
        log.warning("w")
        log.error("e")
    assert len(lines(stream)) == count
    assert lines(stream)[-1].endswith("error: e")


def test_an_error_brings_its_traceback() -> None:
    stream = io.BytesIO()
    with Log("error", stream) as log:
        try:
            raise KeyError("why")
        except KeyError as error:
            log.error("POST / failed", error)
    assert "error: POST / failed\nTraceback" in stream.getvalue().decode()
    assert lines(stream)[-1] == "KeyError: 'why'"


def test_order_is_kept_and_nothing_is_lost() -> None:
    stream = io.BytesIO()
    with Log("info", stream) as log:
        for number in range(5000):
            log.info(str(number))
    assert [line.split()[1] for line in lines(stream)] == [str(n) for n in range(5000)]


class Stuck(io.BytesIO):
    """A reader that takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.free = threading.Event()

    def write(self, data: object) -> int:
        self.entered.set()
        self.free.wait()
        return super().write(data)  # type: ignore[arg-type]


def test_a_stuck_reader_costs_lines_but_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging_, "BACKLOG", 10)
    stream = Stuck()
    with Log("info", stream) as log:
        log.info("first")
        stream.entered.wait()
        for number in range(25):
            log.info(str(number))
        stream.free.set()
    assert len(lines(stream)) == 12
    assert lines(stream)[-1].endswith("warning: 15 lines of this log were dropped")


def test_a_closed_stderr_is_no_error() -> None:
    stream = io.BytesIO()
    stream.close()
    with Log("info", stream) as log:
        log.info("into the void")


def test_lines_are_not_left_in_a_buffer() -> None:
    written = io.BytesIO()
    with Log("info", io.BufferedWriter(written)) as log:  # type: ignore[arg-type]  # as stderr's
        log.info("i")
    assert len(lines(written)) == 1


def test_lone_surrogates() -> None:
    stream = io.BytesIO()
    with Log("info", stream) as log:
        log.info("a\ud800b")
    assert lines(stream)[0].endswith("a\\ud800b")
