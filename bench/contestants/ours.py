"""Our engine as a contestant: a warm process that takes orders in lines of JSON.

It reads {"do": "load" | "decode" | ...} on its input, and is started by contestants/child.py.
"""

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bessemer.bench.compare.machine import cpu_tier, installed
from bessemer.bench.models.shapes import kv_values
from bessemer.engine import serving
from bessemer.engine.checkpoint.checkpoint import open_checkpoint
from bessemer.engine.request import Refusal, Refused, Request, Sampling, Token
from bessemer.engine.settings import Settings

GREEDY = Sampling(temperature=0)
FIRST_WORD = 16  # ids below are special in the tokenizers that we write


class EngineRun:
    """A loaded model, and measurements of it."""

    def __init__(self, order: dict[str, Any]) -> None:
        path, tier = Path(order["path"]), cpu_tier()
        config = open_checkpoint(path).config
        pool = order["pool_tokens"] * kv_values(config) * 4
        settings = Settings(
            kv_cache=pool,
            max_batch=max(order["streams"], 1),
            queue=1024,
            chunk=order["chunk"],
            threads=order["threads"],
            cpu_precision=order["precision"],
        )
        self.engine = serving.load(path, settings, psutil.virtual_memory().total).engine
        self.vocabulary = int(config["vocab_size"])
        self.number = 0
        self.settings = {
            "chunk": str(settings.chunk),
            "mlx": installed("mlx"),
            "threads": str(settings.threads or "auto"),
            "precision": settings.cpu_precision,
        }
        self.settings |= {"CPU tier": tier} if tier else {}

    def submit(self, tokens: Sequence[int], max_tokens: int) -> int:
        self.number += 1
        self.engine.submit(
            Request(
                id=self.number,
                tokens=list(tokens),
                max_tokens=max_tokens,
                ignore_eos=True,
                sampling=GREEDY,
            )
        )
        return self.number

    def step(self) -> Counter[int]:
        """Return the new tokens by request. Raises ValueError for a refusal."""
        tokens: Counter[int] = Counter()
        for event in self.engine.step():
            if isinstance(event, Refused):
                raise ValueError(event.message)
            if isinstance(event, Token):
                tokens[event.request] += len(event.tokens)
        return tokens

    def random_tokens(self, count: int, seed: int) -> list[int]:
        random = np.random.default_rng(seed)
        low = min(FIRST_WORD, self.vocabulary - 1)
        return [int(token) for token in random.integers(low, self.vocabulary, max(count, 1))]

    def batch(self, order: dict[str, Any]) -> dict[str, float]:
        """Time streams that decode together, from the step in which the last of them began."""
        streams, tokens = order["streams"], order["tokens"]
        waiting = {
            self.submit(self.random_tokens(order["context"], order["seed"] + stream), 1 << 20)
            for stream in range(streams)
        }
        running = set(waiting)
        while waiting:
            waiting -= set(self.step())
        count, began = 0, time.perf_counter()
        while count < streams * tokens:
            count += sum(self.step().values())
        seconds = time.perf_counter() - began
        for request in running:
            self.engine.cancel(request)
        return {"seconds": seconds, "tokens": count}

    def measure(self, order: dict[str, Any]) -> dict[str, float]:
        known: dict[str, Callable[[dict[str, Any]], dict[str, float]]] = {
            "decode": self.decode,
            "prefill": self.prefill,
            "batch": self.batch,
        }
        return known[order["do"]](order)

    def decode(self, order: dict[str, Any]) -> dict[str, float]:
        """Time one stream; its prompt is the same each round, so a long one is computed once."""
        return self.batch({**order, "streams": 1, "seed": order["context"]})

    def prefill(self, order: dict[str, Any]) -> dict[str, float]:
        """Time from the submission of a prompt that no cache knows to its first token."""
        prompt = self.random_tokens(order["tokens"], order["seed"])
        began = time.perf_counter()
        request = self.submit(prompt, 1)
        while not self.step()[request]:
            pass
        return {"seconds": time.perf_counter() - began, "tokens": len(prompt)}


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us by closing our input
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer
    run: EngineRun | None = None
    for line in sys.stdin:
        order = json.loads(line)
        answer: dict[str, Any]
        try:
            if order["do"] == "load":
                run = EngineRun(order)
                answer = {"ok": {"version": installed("bessemer"), "settings": run.settings}}
            else:
                assert run is not None
                answer = {"ok": run.measure(order)}
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            answer = {"error": str(error)}
        except Refusal as refusal:
            answer = {"error": refusal.message}
        print(json.dumps(answer), file=answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
