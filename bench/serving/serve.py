"""Measures OpenAI-compatible endpoints by URL, side by side in interleaved rounds.

Per number of streams: time to first token, gaps between tokens, total tokens a second, errors;
then small requests a second (GET /v1/models; with wrk where it is installed) and, for a local
server, its process's CPU time per streamed token and the memory of its process tree.
"""

import json
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit
from urllib.request import urlopen

from rich.console import Console
from rich.table import Table
from typer import Argument, Option

from bessemer.bench.command import NUMBERS, command, flags_of, with_flags
from bessemer.bench.serving import lean
from bessemer.bench.serving.lean import Reply
from bessemer.bench.serving.processes import ProcessCost, cost, listener

CHAT = "/v1/chat/completions"
VOCABULARY = ("iron", "steel", "furnace", "river", "bridge", "engine", "copper", "signal", "valley")


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
class SmallRequests:
    """GETs that an endpoint answered in a second."""

    url: str
    connections: int
    per_second: float
    client: str


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


def prompt(number: int, words: int) -> str:
    """Return a prompt that is new from its first word on, so that no prefix cache helps."""
    size = len(VOCABULARY)
    return " ".join([f"{number}.", *(VOCABULARY[(number + i) % size] for i in range(words))])


def load(url: str, model: str, streams: int, words: int, tokens: int, seed: int) -> Load:
    """Send `streams` requests at once, each for exactly `tokens` tokens where that can be had."""
    bodies = [body(model, prompt(seed + n, words), tokens) for n in range(streams)]
    process = listener(urlsplit(url).port or 80)
    before = cost(process) if process else None
    began = time.perf_counter()
    replies = lean.streams(url, CHAT, bodies)
    seconds = time.perf_counter() - began
    spent = cost(process).since(before) if process and before else None
    return summary(url, replies, seconds, spent)


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


def summary(url: str, replies: Sequence[Reply], seconds: float, spent: ProcessCost | None) -> Load:
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


def small(url: str, connections: int, seconds: float) -> SmallRequests:
    """Send GET /v1/models as often as it goes."""
    if shutil.which("wrk") and seconds >= 1:
        target = f"{url.rstrip('/')}/v1/models"
        arguments = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", target]
        output = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
        rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
        assert rate and "Non-2xx" not in output, output
        return SmallRequests(url, connections, float(rate[1]), "wrk")
    answers, spent = lean.gets(url, "/v1/models", connections, seconds)
    return SmallRequests(url, connections, answers / spent, "bench.serving.lean")


def first_model(url: str) -> str:
    with urlopen(f"{url.rstrip('/')}/v1/models", timeout=30) as response:
        return str(json.load(response)["data"][0]["id"])


def median(rows: Sequence[Load]) -> Load:
    """Return the median of each field over the rounds; tokens and errors are summed."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """The endpoints, and how much is asked of them."""

    # fmt: off
    urls: Annotated[list[str], Argument(metavar="URL")]
    model: Annotated[str, Option(
        help="The model to ask for.", show_default="the first that is listed",
    )] = ""
    streams: Annotated[tuple[int, ...], Option(
        **NUMBERS, help="Requests at once.",
    )] = (1, 2, 4, 8, 16, 32, 64)
    words: Annotated[int, Option(help="Words of each prompt.")] = 30
    tokens: Annotated[int, Option(help="Tokens of each answer.")] = 64
    rounds: Annotated[int, Option(help="How often all is measured.")] = 3
    connections: Annotated[tuple[int, ...], Option(
        **NUMBERS, help="For small requests.",
    )] = (1, 8)
    seconds: Annotated[float, Option(help="Of hammering small requests.")] = 5
    json: Annotated[bool, Option("--json", help="Print JSON instead of tables.")] = False
    # fmt: on


def measure(options: ServeOptions) -> dict[str, Any]:
    urls = options.urls
    models = {url: options.model or first_model(url) for url in urls}
    loads = []
    for streams in options.streams:
        rounds: dict[str, list[Load]] = {url: [] for url in urls}
        for round_ in range(options.rounds + 1):  # the first warms up and is not counted
            for url in urls:
                seed = round_ * 1000 + streams * 100_000
                request = (url, models[url], streams, options.words, options.tokens, seed)
                row = load(*request)
                if round_:
                    rounds[url].append(row)
        loads += [median(rows) for rows in rounds.values()]
    smalls = [
        max((small(url, n, options.seconds) for _ in range(2)), key=lambda s: s.per_second)
        for n in options.connections
        for url in urls
    ]
    processes = {url: listener(urlsplit(url).port or 80) for url in urls}
    memory = {url: cost(each).pss for url, each in processes.items() if each}
    return {"loads": loads, "small": smalls, "pss": memory}


@command(__doc__)
@with_flags(flags_of(ServeOptions))
def main(**values: Any) -> int:
    options = ServeOptions(**values)
    report = measure(options)
    if options.json:
        json.dump(report, sys.stdout, default=asdict, indent=1)
        return 0
    console = Console()
    console.print(loads_table(report["loads"]))
    table = Table("endpoint", "connections", "GET /v1/models per second", "client")
    for row in report["small"]:
        table.add_row(row.url, str(row.connections), f"{row.per_second:.0f}", row.client)
    console.print(table)
    for url, size in report["pss"].items():
        console.print(f"{url}: {size / 1e6:.0f} MB (PSS of the process tree)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
