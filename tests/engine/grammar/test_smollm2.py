"""A real model writes what schemas ask for (H5.15), beside others that are held to nothing.

schemas.json has forms of everyday data, and schemas of the JSON-Schema-Test-Suite (commit 44401e0,
MIT licence, copyright 2012 Julian Berman) that a small model comes to the end of.
"""

import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bessemer.engine.request import Constraint, Request, Sampling, Token
from bessemer.engine.serving import LoadedModel, load
from bessemer.engine.settings import Settings
from bessemer.http.gguf_models import packaged

SCHEMAS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "schemas.json").read_text())
ASK = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
FREE = ("Name three rivers.", "Write a line of a poem.")
MOST = 160  # tokens


@cache
def model() -> LoadedModel:
    path = packaged("smollm2-135m-instruct")
    assert path is not None
    return load(path, Settings(), 2 << 30)


def request(number: int, text: str, **more: Any) -> Request:
    tokens = model().tokenizer.encode(ASK.format(text), special=False)
    sampling = Sampling(temperature=0.6, seed=number)
    fields: dict[str, Any] = {"max_tokens": MOST} | more
    return Request(id=number, tokens=tokens, sampling=sampling, **fields)


def held(number: int) -> Request:
    schema = json.dumps(SCHEMAS[number]["schema"])
    constraint = Constraint(grammar="json_schema", definition=schema)
    text = f"Give me a short example of JSON for this schema: {schema}"
    return request(number, text, constraint=constraint)


def free(number: int) -> Request:
    kinds: list[dict[str, Any]] = [{"logprobs": 1}, {"stop": ["."]}]
    which = number % len(FREE)
    return request(1000 + which, FREE[which], max_tokens=30, **kinds[which])


def answered(requests: Iterable[Request]) -> dict[int, tuple[list[Token], str]]:
    for each in requests:
        model().engine.submit(each)
    tokens: dict[int, list[Token]] = {}
    for event in model().engine.run():
        if isinstance(event, Token):
            tokens.setdefault(event.request, []).append(event)
    decode = model().tokenizer.decode
    return {
        number: (events, decode([t for e in events for t in e.tokens if not e.hidden]))
        for number, events in tokens.items()
    }


@cache
def alone() -> list[list[Token]]:
    return [answered([free(number)])[1000 + number][0] for number in range(len(FREE))]


def check(numbers: Sequence[int]) -> int:
    """Have schemas fulfilled six at a time beside two free answers; count those that ended."""
    ended = 0
    for batch in (numbers[at : at + 6] for at in range(0, len(numbers), 6)):
        answers = answered([*map(held, batch), *map(free, range(len(FREE)))])
        for number, oracle in enumerate(alone()):
            assert answers[1000 + number][0] == oracle, "a neighbour, its log probabilities too"
        for number in batch:
            events, text = answers[number]
            if events[-1].finish == "stop":
                ended += 1
                jsonschema.validate(json.loads(text), SCHEMAS[number]["schema"])
    return ended


def test_answers_fulfil_their_schemas() -> None:
    assert check([13, 44, 60, 70, 88, 92]) >= 4


@pytest.mark.long
def test_answers_to_a_hundred_schemas_fulfil_them() -> None:
    assert len(SCHEMAS) == 100
    assert check(range(100)) >= 70
