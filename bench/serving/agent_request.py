"""The time from an agent's request as it comes to its prompt's tokens, beside vllm-mlx's.

python -P -m bessemer.bench.serving.agent_request --tokenizer DIR

A session of many messages and tools, made up: each round decodes the body, renders it by the
model's template in that process of its own and tokenizes it, for a client that has sent nothing
before; then once more, one turn on. vllm-mlx's own types and methods, by an interpreter that has
them, do what its server does from a request's bytes to the ids that its scheduler is given: of a
stream it renders and tokenizes two more prompts, to find where the last user's words begin.
"""

import json
import random
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from bessemer.bench.command import FAILED, command
from bessemer.bench.serving.tokenizing import (
    WORDS,
    Contestant,
    Ways,
    interpreter,
    measure,
    peer,
    ratio,
    read_ways,
    seconds,
    show,
)
from bessemer.http.hub import BUILT_IN
from bessemer.translate.openai_chat import decode_request

LEAST = 3.0  # times as fast as vllm-mlx
# vllm-mlx 0.6.0 with continuous batching, a streamed request: from create_chat_completion over
# BatchedEngine.stream_chat to Scheduler.add_request, without what it logs.
THEIRS = """
import json, sys, time
from transformers import AutoTokenizer
from vllm_mlx.api.models import ChatCompletionRequest
from vllm_mlx.api.tool_calling import convert_tools_for_template
from vllm_mlx.api.utils import extract_multimodal_content
from vllm_mlx.engine.batched import BatchedEngine
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
engine = object.__new__(BatchedEngine)
engine._is_mllm, engine._processor, engine._model_name = False, None, "m"
engine._tokenizer = tokenizer
for line in sys.stdin:
    begun = time.perf_counter()
    request = ChatCompletionRequest.model_validate(json.loads(line))
    messages = extract_multimodal_content(request.messages, preserve_native_format=True)[0]
    tools = convert_tools_for_template(request.tools)
    extract_multimodal_content(messages)
    text = engine._apply_chat_template(messages, convert_tools_for_template(tools))
    assert engine._compute_prefix_boundary(messages, tools)
    ids = tokenizer.encode(text)
    print(json.dumps([time.perf_counter() - begun, ids]), flush=True)
"""


def tools(number: int, draw: random.Random) -> list[dict[str, Any]]:
    """Make up tools of five parameters each."""
    return [
        {
            "type": "function",
            "function": {
                "name": f"tool_{index}",
                "description": " ".join(draw.choices(WORDS, k=40)),
                "parameters": {
                    "type": "object",
                    "properties": {
                        f"argument_{each}": {
                            "type": draw.choice(("string", "integer", "boolean")),
                            "description": " ".join(draw.choices(WORDS, k=15)),
                        }
                        for each in range(5)
                    },
                    "required": ["argument_0", "argument_1"],
                },
            },
        }
        for index in range(number)
    ]


def turn(number: int, draw: random.Random) -> list[dict[str, Any]]:
    """Make up a call and what came of it."""
    arguments = json.dumps({"argument_0": " ".join(draw.choices(WORDS, k=8)), "argument_1": number})
    function = {"name": f"tool_{number % 5}", "arguments": arguments}
    call = {"id": f"call_{number}", "type": "function", "function": function}
    result = " ".join(draw.choices(WORDS, k=120))
    return [
        {"role": "assistant", "content": "I shall look.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": result},
    ]


def session(messages: int, number: int, seed: int = 1) -> dict[str, Any]:
    """Make up the request of an agent with so many messages and tools."""
    draw = random.Random(seed)
    begin = [
        {"role": "system", "content": " ".join(draw.choices(WORDS, k=800))},
        {"role": "user", "content": "Mend what is broken."},
    ]
    turns = [each for index in range(messages // 2 - 1) for each in turn(index, draw)]
    return {"model": "m", "messages": begin + turns, "tools": tools(number, draw), "stream": True}


def ours(ways: Ways, request: Mapping[str, Any]) -> Sequence[Contestant]:
    """Return ours, and the turn that follows it."""
    more = turn(len(request["messages"]), random.Random(2))
    after = json.dumps({**request, "messages": [*request["messages"], *more]}).encode()
    body = json.dumps(request).encode()

    def taken(body: bytes, number: int) -> float:
        return seconds(lambda: ways.prompt(replace(decode_request(body), client=str(number))))

    return [
        Contestant("Bessemer", lambda number: taken(body, number)),
        Contestant("the next turn", lambda number: taken(after, number)),
    ]


# fmt: off
@command(__doc__)
def main(
    directory: Annotated[Path, Option("--tokenizer", help="A model's directory.")] = BUILT_IN,
    messages: Annotated[int, Option(help="Of the session.")] = 200,
    tool_number: Annotated[int, Option("--tools", help="Of the session.")] = 50,
    rounds: Annotated[int, Option(help="Rounds that count.")] = 9,
    python: Annotated[str, Option(help="An interpreter that has vllm-mlx.")] = "",
) -> int:
    # fmt: on
    """Exit with 1 where it is not as many times faster as it should be."""
    request = session(messages, tool_number)
    with ExitStack() as stack:
        ways = stack.enter_context(read_ways(directory))
        ids = ways.prompt(decode_request(json.dumps(request).encode())).tokens
        contestants = [*ours(ways, request)]
        if python:
            theirs = stack.enter_context(interpreter(python, THEIRS, directory))
            contestants.append(peer("vllm-mlx", theirs, request, ids, 1 / LEAST))
        measure(contestants, rounds)
    show(contestants, f"{messages} messages, {tool_number} tools, {len(ids)} tokens")
    first, _, *others = contestants
    return FAILED if any(ratio(first, each) > 1 / LEAST for each in others) else 0


if __name__ == "__main__":
    raise SystemExit(main())
