"""Measures OpenAI-compatible endpoints by URL, side by side in interleaved rounds.

python -m bessemer.bench.serving.serve URL [URL ...] [--streams 1,8,64] [--tokens 64] [--rounds 3]

Per number of streams: time to first token, gaps between tokens, total tokens a second, errors;
then small requests a second (GET /v1/models; with wrk where it is installed) and, for a local
server, its process's CPU time per streamed token and the memory of its process tree.
"""

import argparse
import asyncio
import json
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

from rich.console import Console
from rich.table import Table

from bessemer.bench.serving import lean
from bessemer.bench.serving.client import Reply, hammer, stream
from bessemer.bench.serving.processes import Cost, cost, listener

CHAT = "/v1/chat/completions"
WORDS = ("iron", "steel", "furnace", "river", "bridge", "engine", "copper", "signal", "valley")


@dataclass(frozen=True, slots=True)
class Load:
    """One round at one number of streams; milliseconds, and tokens a second over all streams."""

    url: str
    streams: int
    ttft_p50: float
    ttft_p95: float
    gap_p50: float
    gap_p95: float
    throughput: float
    tokens: int
    errors: int
    server_us: float | None  # server process CPU per streamed token, microseconds
    worker_us: float | None


@dataclass(frozen=True, slots=True)
class Small:
    url: str
    connections: int
    per_second: float
    client: str


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


def prompt(number: int, words: int) -> str:
    """Different from its first word on, so that no prefix cache helps."""
    return " ".join([f"{number}.", *(WORDS[(number + i) % len(WORDS)] for i in range(words))])


def load(
    url: str, model: str, streams: int, words: int, tokens: int, seed: int, plain: bool = False
) -> Load:
    """`streams` requests at once, each answered with exactly `tokens` tokens where it can be.

    The plain client only reads sockets while it measures, and so takes the least of a shared CPU.
    """
    bodies = [body(model, prompt(seed + n, words), tokens) for n in range(streams)]
    process = listener(urlsplit(url).port or 80)
    before = cost(process) if process else None
    began = time.perf_counter()
    replies = lean.streams(url, CHAT, bodies) if plain else asyncio.run(together(url, bodies))
    seconds = time.perf_counter() - began
    spent = cost(process).since(before) if process and before else None
    return summary(url, replies, seconds, spent)


async def together(url: str, bodies: Sequence[dict[str, Any]]) -> list[Reply]:
    return await asyncio.gather(*(stream(url, CHAT, each) for each in bodies))


def body(model: str, text: str, tokens: int) -> dict[str, Any]:
    return {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
    }


def summary(url: str, replies: Sequence[Reply], seconds: float, spent: Cost | None) -> Load:
    good = [reply for reply in replies if reply.pieces and not reply.error]
    tokens = sum(reply.tokens or len(reply.pieces) for reply in good)
    firsts = [reply.ttft * 1e3 for reply in good]
    gaps = [gap * 1e3 for reply in good for gap in reply.gaps]
    return Load(
        url,
        len(replies),
        quantile(firsts, 0.5),
        quantile(firsts, 0.95),
        quantile(gaps, 0.5),
        quantile(gaps, 0.95),
        tokens / seconds,
        tokens,
        len(replies) - len(good),
        spent.server_cpu / tokens * 1e6 if spent and tokens else None,
        spent.children_cpu / tokens * 1e6 if spent and tokens else None,
    )


def small(url: str, connections: int, seconds: float) -> Small:
    """GET /v1/models as often as it goes."""
    if shutil.which("wrk") and seconds >= 1:
        target = f"{url.rstrip('/')}/v1/models"
        arguments = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", target]
        output = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
        found = re.search(r"Requests/sec:\s+([\d.]+)", output)
        assert found and "Non-2xx" not in output, output
        return Small(url, connections, float(found[1]), "wrk")
    answers, errors = asyncio.run(hammer(url, "/v1/models", connections, seconds))
    assert not errors, f"{errors} answers were no 200"
    return Small(url, connections, answers / seconds, "bench.client")


def first_model(url: str) -> str:
    with urlopen(f"{url.rstrip('/')}/v1/models", timeout=30) as response:
        return str(json.load(response)["data"][0]["id"])


def median(rows: Sequence[Load]) -> Load:
    """Field by field over the rounds; tokens and errors are summed."""
    values: dict[str, Any] = {}
    for name, value in asdict(rows[0]).items():
        column = [getattr(row, name) for row in rows]
        if name in ("url", "streams"):
            values[name] = value
        elif name in ("tokens", "errors"):
            values[name] = sum(column)
        else:
            known = [each for each in column if each is not None]
            values[name] = statistics.median(known) if known else None
    return Load(**values)


def loads_table(rows: Sequence[Load]) -> Table:
    table = Table("endpoint", "streams", "TTFT p50/p95 ms", "gap p50/p95 ms", "tok/s", "errors")
    table.add_column("server us/tok")
    for row in rows:
        server = "-" if row.server_us is None else f"{row.server_us:.0f}"
        table.add_row(
            row.url,
            str(row.streams),
            f"{row.ttft_p50:.1f} / {row.ttft_p95:.1f}",
            f"{row.gap_p50:.1f} / {row.gap_p95:.1f}",
            f"{row.throughput:.1f}",
            str(row.errors),
            server,
        )
    return table


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    urls: list[str] = arguments.urls
    models = {url: arguments.model or first_model(url) for url in urls}
    loads = []
    for streams in arguments.streams:
        rounds: dict[str, list[Load]] = {url: [] for url in urls}
        for turn in range(arguments.rounds + 1):  # the first warms up and is not counted
            for url in urls:
                seed = turn * 1000 + streams * 100_000
                wanted = (url, models[url], streams, arguments.words, arguments.tokens, seed)
                row = load(*wanted, plain=arguments.lean)
                if turn:
                    rounds[url].append(row)
        loads += [median(rows) for rows in rounds.values()]
    smalls = [
        max((small(url, n, arguments.seconds) for _ in range(2)), key=lambda s: s.per_second)
        for n in arguments.connections
        for url in urls
    ]
    processes = {url: listener(urlsplit(url).port or 80) for url in urls}
    memory = {url: cost(each).pss for url, each in processes.items() if each}
    return {"loads": loads, "small": smalls, "pss": memory}


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures OpenAI-compatible endpoints.")
    parser.add_argument("urls", nargs="+", metavar="URL")
    parser.add_argument("--model", help="the model to ask for (the first that is listed)")
    parser.add_argument("--streams", type=numbers, default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--words", type=int, default=30, help="words of each prompt")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each answer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=numbers, default=[1, 8])
    parser.add_argument("--seconds", type=float, default=5, help="of hammering small requests")
    parser.add_argument("--lean", action="store_true", help="a client that only reads sockets")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    found = measure(parser.parse_args())
    if "--json" in sys.argv:
        json.dump(found, sys.stdout, default=asdict, indent=1)
        return 0
    console = Console()
    console.print(loads_table(found["loads"]))
    table = Table("endpoint", "connections", "GET /v1/models per second", "client")
    for row in found["small"]:
        table.add_row(row.url, str(row.connections), f"{row.per_second:.0f}", row.client)
    console.print(table)
    for url, size in found["pss"].items():
        console.print(f"{url}: {size / 1e6:.0f} MB (PSS of the process tree)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
