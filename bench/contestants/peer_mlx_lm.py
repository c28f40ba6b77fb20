"""mlx_lm as a contestant; run as a file by any interpreter that has it, so it imports nothing else.

That is why it is no typer command; child.py starts it, without arguments. It takes orders as
bessemer.bench.contestants.ours does. Weights: "stored" leaves them as they are, "float32" makes
scales, norms and biases float32 (its fast path on a CPU), "dense" all of it.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import mlx.core as mx

generating = import_module("mlx_lm.generate")  # where types are checked there is no mlx_lm
caching = import_module("mlx_lm.models.cache")
loading = import_module("mlx_lm.utils")

FIRST_WORD = 16
PREFILL_STEP = 512  # 2048 is its default, which only costs memory here


class MlxLmRun:
    def __init__(self, order: dict[str, Any]) -> None:
        self.model, config = loading.load_model(Path(order["path"]))
        if order["weights"] == "dense":
            self.model = loading.dequantize_model(self.model)
        if order["weights"] != "stored":
            self.model.set_dtype(mx.float32)
        mx.eval(self.model.parameters())
        self.vocabulary = config["vocab_size"]

    def random_tokens(self, count: int, seed: int) -> list[int]:
        key = mx.random.key(seed)
        low = min(FIRST_WORD, self.vocabulary - 1)
        ids: Any = mx.random.randint(low, self.vocabulary, (max(count, 1),), key=key).tolist()
        return list(ids)

    def decode(self, order: dict[str, Any]) -> dict[str, float]:
        """Time one stream after random keys and values: real ones would take hours to compute."""
        cache = self.cache(order["context"])
        prompt = mx.array(self.random_tokens(1, order["context"]))
        tokens = order["tokens"]
        steps = generating.generate_step(
            prompt, self.model, max_tokens=tokens + 1, prompt_cache=cache
        )
        next(steps)
        began = time.perf_counter()
        for _ in range(tokens):
            next(steps)
        seconds = time.perf_counter() - began
        steps.close()
        mx.synchronize()
        return {"seconds": seconds, "tokens": tokens}

    def cache(self, context: int) -> list[Any]:
        cache: list[Any] = caching.make_prompt_cache(self.model)
        if context > 1:
            self.model(mx.array([self.random_tokens(1, 0)]), cache=cache)
            mx.eval([each.state for each in cache])
            for each in cache:
                each.update_and_fetch(*_noise(each, context - 2))
            mx.eval([each.state for each in cache])
        return cache

    def prefill(self, order: dict[str, Any]) -> dict[str, float]:
        prompt = mx.array(self.random_tokens(order["tokens"], order["seed"]))
        began = time.perf_counter()
        steps = generating.generate_step(
            prompt, self.model, max_tokens=0, prefill_step_size=PREFILL_STEP
        )
        for _ in steps:
            pass
        seconds = time.perf_counter() - began
        mx.synchronize()
        return {"seconds": seconds, "tokens": order["tokens"]}

    def batch(self, order: dict[str, Any]) -> dict[str, float]:
        streams, tokens = order["streams"], order["tokens"]
        batch = generating.BatchGenerator(
            self.model, completion_batch_size=streams, prefill_batch_size=streams
        )
        seeds = range(order["seed"], order["seed"] + streams)
        prompts = [self.random_tokens(order["context"], seed) for seed in seeds]
        numbers = batch.insert(prompts, [1 << 20] * streams)
        waiting = set(numbers)
        while waiting:
            waiting -= {answer.uid for answer in batch.next_generated()}
        count, began = 0, time.perf_counter()
        while count < streams * tokens:
            count += len(batch.next_generated())
        seconds = time.perf_counter() - began
        batch.remove(numbers)
        batch.close()
        mx.synchronize()
        return {"seconds": seconds, "tokens": count}


def _noise(cache: Any, count: int) -> Iterator[mx.array]:
    """Yield random keys and values as the cache holds them, for `count` more tokens."""
    for array in (cache.keys, cache.values):
        shape = (*array.shape[:2], max(count, 1), array.shape[3])
        yield mx.random.normal(shape).astype(array.dtype)


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    run = None
    for line in sys.stdin:
        order = json.loads(line)
        answer: dict[str, Any]
        try:
            if order["do"] == "load":
                run = MlxLmRun(order)
                versions = {"mlx": metadata.version("mlx"), "python": sys.version.split()[0]}
                answer = {"ok": {"version": metadata.version("mlx-lm"), "settings": versions}}
            else:
                answer = {"ok": getattr(run, order["do"])(order)}
        except (ValueError, OSError, RuntimeError, MemoryError, AttributeError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
