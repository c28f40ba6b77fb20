"""A long agent's session, and a stream behind another client's long prompt, on a random model.

python -P -m bessemer.bench.serving.long_prompts

The session is of Claude Code's shape: blocks of a system prompt, of which the first is new with
each request, tools, a tool's result. Counted are the tokens that the second turn has computed,
beside those that are new in it. The stream is measured to its first byte, while the first prompt
is read.
"""

import http.client
import json
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from statistics import median
from typing import Annotated, Any
from urllib.request import urlopen

from rich.table import Table
from typer import Option

from bessemer.bench.command import FAILED, command
from bessemer.bench.compare.show import console
from bessemer.bench.contestants.servers import free_port
from bessemer.bench.models.shapes import ModelShape
from bessemer.bench.models.synthetic import Storage, checkpoint
from bessemer.bench.serving.lifecycle import running, until

SERVE = f"{shlex.quote(sys.executable)} -P -m bessemer serve --log-level error"
PAGE = 32
MAX_TTFB = 100.0  # milliseconds to the first byte, at most
LONG = "iron steel furnace river bridge engine copper signal valley "
OTHER = "127.0.0.2", 0  # another client's address
SHAPE: Mapping[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 4096,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
}
CACHED = {"cache_control": {"type": "ephemeral"}}


def session(words: int) -> dict[str, Any]:
    """Return the first request of a session, but for the line that changes."""
    tools = [
        {
            "name": f"Tool{at}",
            "description": LONG * 4,
            "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}},
        }
        for at in range(24)
    ]
    system = [
        {"type": "text", "text": "You are Claude Code, Anthropic's official CLI for Claude."},
        {"type": "text", "text": LONG * (words // 9), **CACHED},
    ]
    reminder = {"type": "text", "text": "<system-reminder>\nToday is Monday.\n</system-reminder>"}
    asked = {"type": "text", "text": "Read the file a.py.", **CACHED}
    return {
        "model": "",
        "max_tokens": 40,
        "temperature": 0,
        "system": system,
        "tools": tools,
        "metadata": {"user_id": "user_1"},
        "messages": [{"role": "user", "content": [reminder, asked]}],
    }


def stamped(body: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return a request as it is sent: with a first line that no other has."""
    line = f"x-anthropic-billing-header: cc_version=2.1.37.{number:03x}; cch={number:05x};"
    return {**body, "system": [{"type": "text", "text": line}, *body["system"]]}


def post(port: int, path: str, body: Any, source: tuple[str, int] | None = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, 900, source_address=source)
    with closing(connection):
        connection.request("POST", path, json.dumps(body))
        answer = json.loads(connection.getresponse().read())
    if "error" in answer:
        raise SystemExit(answer["error"]["message"])
    return answer


def ready(port: int) -> bool:
    with urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as response:
        return b'"ready"' in response.read()


def second_turn(port: int, words: int) -> tuple[int, int, int]:
    """Return the tokens of a second turn, those of them that are new, and those computed."""
    body = session(words)
    first = post(port, "/v1/messages?beta=true", stamped(body, 1))
    call = {"type": "tool_use", "id": "toolu_1", "name": "Tool1", "input": {"path": "a.py"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": LONG * 20, **CACHED}
    said = [
        {"role": "assistant", "content": [*first["content"], call]},
        {"role": "user", "content": [result]},
    ]
    body["messages"] += said
    usage = post(port, "/v1/messages?beta=true", stamped(body, 2))["usage"]
    whole, before = (sum_of(each) for each in (usage, first["usage"]))
    return whole, whole - before, whole - usage["cache_read_input_tokens"]


def sum_of(usage: Mapping[str, int]) -> int:
    """Return the tokens of a prompt, cached or not."""
    names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    return sum(usage[name] for name in names)


@contextmanager
def reading(port: int, words: int) -> Iterator[http.client.HTTPResponse]:
    """Yield the stream of another client's long prompt, once some of it is read."""
    body = {
        "prompt": f"{time.time()} {LONG * (words // 9)}",
        "max_tokens": 1,
        "stream": True,
        "return_progress": True,
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, 900, source_address=OTHER)
    with closing(connection):
        connection.request("POST", "/v1/completions", json.dumps(body))
        with connection.getresponse() as response:
            while b'"processed"' not in (line := response.readline()) or b'"processed":0' in line:
                pass
            yield response


def first_bytes(port: int, words: int, times: int) -> list[float]:
    """Return the milliseconds to the first byte of streams behind such a prompt."""
    taken = []
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1, "stream": True}
    with reading(port, words):
        for _ in range(times):
            with closing(http.client.HTTPConnection("127.0.0.1", port, 900)) as connection:
                connection.connect()
                began = time.perf_counter()
                connection.request("POST", "/v1/chat/completions", json.dumps(body))
                connection.sock.recv(1)
                taken.append((time.perf_counter() - began) * 1e3)
                connection.sock.close()
    return taken


# fmt: off
@command(__doc__)
def main(
    words: Annotated[int, Option(min=9, help="Of a prompt; 2.5 tokens each.")] = 10200,
    times: Annotated[int, Option(min=1, help="Streams behind the long prompt.")] = 9,
) -> int:
    # fmt: on
    """Print both figures; exit 1 where one is missed."""
    shape = ModelShape("tiny-long", SHAPE, int(SHAPE["num_hidden_layers"]))
    model, table = checkpoint(shape, Storage(0, 64, "float32"), 1), Table("", "")
    held, taken = True, list[float]()
    for kind in ("drop", "keep"):
        port = free_port()
        line = f"{SERVE} --model tiny={shlex.quote(str(model))} --attribution {kind}"
        with running(line, port):
            until(partial(ready, port), time.perf_counter())
            whole, new, computed = second_turn(port, words)
            said = f"{computed} computed of {whole}, {new} new"
            table.add_row(f"second turn, --attribution {kind}", said)
            if kind == "drop":
                held = computed <= new + 2 * PAGE
                taken = first_bytes(port, words, times)
    held = held and median(taken) <= MAX_TTFB
    spread = f"{median(taken):.1f} ms, {min(taken):.1f} to {max(taken):.1f}"
    table.add_row("first byte behind a long prompt", spread)
    console().print(table)
    return 0 if held else FAILED


if __name__ == "__main__":
    sys.exit(main())
