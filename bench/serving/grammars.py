"""What grammars cost: masks beside free answers, forced tokens at once, schemas compiled.

python -P -m bessemer.bench.serving.grammars --model smollm2-135m-instruct

The engine runs in this process; a pair takes turns in every round, so the ratio counts. Free
answers and held ones have as many tokens. Where much is forced, a bias of nothing makes an answer
go token by token.
"""

import json
import time
from collections.abc import Mapping
from statistics import median
from typing import Annotated, Any

from rich.table import Table
from typer import Option

from bessemer.bench.command import command
from bessemer.bench.compare.show import console
from bessemer.engine.grammar.compiler import Compiler
from bessemer.engine.request import Constraint, Request, Sampling, Token
from bessemer.engine.serving import LoadedModel, load
from bessemer.engine.settings import Settings
from bessemer.http.hub import BUILT_IN, resolve

FREE_TEXT: Mapping[str, Any] = {"type": "array", "items": {"type": "string"}, "minItems": 99}
NAMES = ("overall_sentiment", "customer_satisfaction", "delivery_quality", "likelihood_to_return")
STRICT: Mapping[str, Any] = {
    "type": "object",
    "properties": {name: {"enum": ["low", "medium", "high"]} for name in NAMES},
    "required": NAMES,
    "additionalProperties": False,
}
KINDS = ("string", "integer", "boolean", "number")
NO_BIAS = {0: 0.0}  # which makes an answer go token by token


def held(schema: Mapping[str, Any]) -> Constraint:
    return Constraint(grammar="json_schema", definition=json.dumps(schema))


def seconds(
    model: LoadedModel,
    streams: int,
    constraint: Constraint | None,
    bias: Mapping[int, float] | None = None,
) -> float:
    """Return the seconds that a token of each stream takes, once all have their first."""
    prompt = model.tokenizer.encode("A short example of JSON:\n", special=False)
    for number in range(streams):
        sampling = Sampling(temperature=0.6, seed=number, logit_bias={**(bias or {})})
        fields: dict[str, Any] = {"sampling": sampling, "constraint": constraint}
        model.engine.submit(
            Request(id=number, tokens=[*prompt, number], max_tokens=96, ignore_eos=True, **fields)
        )
    begun, first, tokens = set[int](), 0.0, 0
    for event in model.engine.run():
        if not isinstance(event, Token):
            continue
        if first:
            tokens += len(event.tokens)
        begun.add(event.request)
        if not first and len(begun) == streams:
            first = time.perf_counter()
    return (time.perf_counter() - first) * streams / tokens


def compiled(model: LoadedModel) -> list[float]:
    """Return the seconds that new schemas of 100 properties take, once the tokenizer is built."""
    compiler = Compiler(model.tokenizer, model.vocabulary)
    times = []
    for number in range(6):
        properties = {f"p{number}_{i}": {"type": KINDS[i % 4]} for i in range(100)}
        begun = time.perf_counter()
        compiler.compile(
            held({"type": "object", "properties": properties, "required": [*properties]}), None
        )
        times.append(time.perf_counter() - begun)
    return times[1:]


# fmt: off
@command(__doc__)
def main(
    model: Annotated[str, Option(help="As `bessemer serve` takes it.")] = str(BUILT_IN),
    rounds: Annotated[int, Option(min=1, help="Of each pair.")] = 5,
) -> int:
    # fmt: on
    """Print what grammars cost."""
    loaded = load(resolve(model, offline=True), Settings(), 8 * 10**9)
    table = Table("", "streams", "plain, ms a token", "held, ms a token", "plain / held")
    for name, streams, schema, bias in (
        ("masks; plain is free", 8, FREE_TEXT, {}),
        ("forced at once; plain is token by token", 1, STRICT, NO_BIAS),
        ("forced at once; plain is token by token", 8, STRICT, NO_BIAS),
    ):
        plain = held(schema) if bias else None
        seconds(loaded, streams, held(schema))  # compiles it, and the kernels
        pairs = [
            (seconds(loaded, streams, plain, bias=bias), seconds(loaded, streams, held(schema)))
            for _ in range(rounds)
        ]
        columns = [median(side) * 1e3 for side in zip(*pairs, strict=True)]
        ratio = median(left / right for left, right in pairs)
        table.add_row(name, str(streams), *(f"{ms:.2f}" for ms in columns), f"{ratio:.3f}")
    console().print(table)
    times = ", ".join(f"{each * 1e3:.1f}" for each in compiled(loaded))
    console().print(f"100 properties compiled: {times} ms")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
