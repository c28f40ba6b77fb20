"""A plugin of pytest that notes which lines of a module each test reaches, and how long it takes.

What other processes run is not seen. `-p tests.reach --reach MODULE OUT` writes JSON to OUT: of
each test its seconds and the lines.
"""

import json
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reach", nargs=2, metavar=("MODULE", "OUT"))


def pytest_configure(config: pytest.Config) -> None:
    module, out = config.getoption("--reach") or pytest.exit("--reach is missing")
    config.pluginmanager.register(Reach(module, Path(out)))


class Reach:
    def __init__(self, module: str, out: Path) -> None:
        self._tail = f"/{module}"
        self._out = out
        self._lines: set[int] = set()
        self._tests: dict[str, tuple[float, list[int]]] = {}

    def _called(self, frame: FrameType, _: str, __: Any) -> Any:
        return self._ran if frame.f_code.co_filename.endswith(self._tail) else None

    def _ran(self, frame: FrameType, _: str, __: Any) -> Any:
        self._lines.add(frame.f_lineno)
        return self._ran

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self._lines.clear()
        begin = time.monotonic()
        sys.settrace(self._called)
        threading.settrace(self._called)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            self._tests[item.nodeid] = time.monotonic() - begin, sorted(self._lines)

    def pytest_sessionfinish(self) -> None:
        self._out.write_text(json.dumps(self._tests))
