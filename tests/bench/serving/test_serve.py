"""The load generator against a real server: it counts what was served, and says what failed."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bessemer.bench.serving.lean import streams
from bessemer.bench.serving.serve import load, quantile
from tests.http.running import Server, serving


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("--max-tokens", "50") as running:
        yield running


def test_it_counts_tokens_streams_and_errors(server: Server) -> None:
    row = load(server.url, "bessemer-guide", 3, 5, 12, 1)
    assert (row.streams, row.tokens, row.errors) == (3, 36, 0)
    assert row.throughput > 0 and row.server_us is not None and row.ttft_p95 >= row.ttft_p50 > 0
    wrong = load(server.url, "no-such-model", 2, 5, 12, 1)
    assert (wrong.tokens, wrong.errors) == (0, 2)


def test_a_refusal_and_a_dead_port_are_errors(server: Server) -> None:
    (reply,) = streams(server.url, "/v1/chat/completions", [{"model": "x"}])
    assert reply.status == 400 and "messages" in reply.error
    with pytest.raises(ConnectionError):
        streams("http://127.0.0.1:1", "/", [{}])


def test_the_command_prints_json(server: Server) -> None:
    arguments = ["--streams", "2", "--tokens", "4", "--rounds", "1", "--seconds", "0.3", "--json"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "bessemer.bench.serving.serve", server.url, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    report = json.loads(done.stdout)
    assert [row["tokens"] for row in report["loads"]] == [8]
    assert {row["connections"] for row in report["small"]} == {1, 8}
    assert report["pss"][server.url] > 10_000_000


def test_quantiles() -> None:
    assert [quantile(range(100), share) for share in (0, 0.5, 0.95, 1)] == [0, 50, 95, 99]
