"""A part of a step in a process of its own: its findings as lines of JSON, on what was stdout.

processes.py runs `python -P -m bessemer.bench.report.child` with an order in JSON.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from typing import Any, TextIO

from bessemer.bench.report.finding import How, Item, Outcome, Work

FAILED = (RuntimeError, ValueError)  # as MLX and the simulator raise: the next item may do better


def main() -> int:
    """Try the items of a part, but for those that were tried before."""
    order: dict[str, Any] = json.loads(sys.argv[1])
    with os.fdopen(os.dup(1), "w", buffering=1) as lines:
        os.dup2(2, 1)  # what prints, prints elsewhere
        for number, item in enumerate(_items(order)):
            if number >= order["done"]:
                _try(item, lines)
    return 0


def _items(order: dict[str, Any]) -> Iterator[Item]:
    module, _, name = order["work"].partition(":")
    work: Work = getattr(import_module(module), name)
    return work(order["part"], How(order["simulated"]))


def _try(item: Item, lines: TextIO) -> None:
    name, work = item
    print(json.dumps({"item": name}), file=lines)
    began = time.monotonic()
    try:
        outcome = work()
    except FAILED as error:
        outcome = Outcome("error", f"{type(error).__name__}: {error}")
    said = asdict(outcome) | {"seconds": time.monotonic() - began}
    print(json.dumps(said, default=str), file=lines)


if __name__ == "__main__":
    sys.exit(main())
