"""Suites of JSON schemas through the whole server, beside llguidance alone: what is let through.

A model writes each document as well as it may: one that comes whole and ends is let through.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llguidance
import pytest

from tests.http.copying_checkpoint import turns, write
from tests.http.running import Server, serving

ROOT = Path(__file__).parents[2]
FETCHED = ROOT / "build" / "schemas"  # by `make test-long`; MaskBench is to be put there by hand
SUITES = {
    "JSON-Schema-Test-Suite": "jsonschema-*/json/tests/draft2020-12/*.json",
    "MaskBench": "maskbench/data/*.json",  # of github.com/guidance-ai/jsonschemabench
}
LENGTHS = (512, 1024, 2048, 4096)  # of prompts, a model each; longer documents are left out
SAMPLE = 100  # schemas of MaskBench
CASE: list[dict[str, Any]] = [
    {
        "schema": {"type": "object", "properties": {"ü": {"type": "integer", "maximum": 9}}},
        "tests": [
            {"data": {"ü": 7}, "valid": True},
            {"data": {"ü": 10}, "valid": False},
            {"data": [], "valid": False},
        ],
    },
    {"schema": {"not": {}}, "tests": [{"data": 1, "valid": False}]},
]


@dataclass(frozen=True)
class Found:
    """What came of the schemas: those that compiled, and documents let through by whether valid.

    `different` are those that llguidance alone takes in another way.
    """

    schemas: int
    compiled: int
    documents: Mapping[bool, int]
    let_through: Mapping[bool, int]
    different: list[str]
    reasons: Mapping[str, int]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("copying")
    models = [f"--model={length}={write(folder / str(length), length)}" for length in LENGTHS]
    with serving(*models, "--threads", "1") as running:
        yield running


def through(server: Server, schema: Any, text: str) -> bool | str:
    """Return whether a document is let through, or why the schema is refused."""
    length = next(each for each in LENGTHS if len(text.encode()) < each - 16)
    body = {
        "model": str(length),
        "messages": turns(text, length),
        "temperature": 0,
        "max_tokens": len(text.encode()) + 8,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "x", "strict": True, "schema": schema},
        },
    }
    status, reply, _ = server.ask("POST", "/v1/chat/completions", body, timeout=600)
    if status == 400:
        return str(reply["error"]["message"])
    assert status == 200, reply
    (choice,) = reply["choices"]
    return choice["message"]["content"] == text and choice["finish_reason"] == "stop"


def alone(schema: Any, text: str) -> bool | None:
    """Return whether llguidance lets a document through; None where it refuses the schema."""
    grammar = json.dumps({"grammars": [{"json_schema": schema}]})
    matcher = llguidance.LLMatcher(llguidance.LLTokenizer("byte"), grammar, log_level=0)
    if matcher.is_error():
        return None
    ids = [*text.encode()]
    return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()


def run(server: Server, groups: list[dict[str, Any]]) -> Found:
    """Send all documents of all schemas, eight at a time."""
    asked = [
        (index, group["schema"], json.dumps(test["data"], ensure_ascii=False), test["valid"])
        for index, group in enumerate(groups)
        for test in group["tests"]
    ]
    asked = [each for each in asked if len(each[2].encode()) < max(LENGTHS) - 16]
    with ThreadPoolExecutor(8) as pool:
        outcomes = [*pool.map(lambda each: through(server, each[1], each[2]), asked)]
    compiled: set[int] = set()
    documents, let_through = Counter[bool](), Counter[bool]()
    reasons: dict[int, str] = {}
    different: list[str] = []
    for (index, schema, text, valid), outcome in zip(asked, outcomes, strict=True):
        if isinstance(outcome, str):
            reasons[index] = outcome
        else:
            compiled.add(index)
            documents[valid] += 1
            let_through[valid] += outcome
        if (None if isinstance(outcome, str) else outcome) != (other := alone(schema, text)):
            different.append(f"{json.dumps(schema)[:300]} {text[:60]} {outcome}, not {other}")
    counts = Counter(reasons.values())
    return Found(len(groups), len(compiled), documents, let_through, different, counts)


def test_documents_are_let_through_and_refused(server: Server) -> None:
    found = run(server, CASE)
    assert (found.schemas, found.compiled, found.different) == (2, 1, [])
    assert found.documents == {True: 1, False: 2} and found.let_through == {True: 1, False: 0}
    assert ['"not"' in reason for reason in found.reasons] == [True]


@pytest.mark.long
@pytest.mark.parametrize("name", SUITES)
def test_a_suite_comes_out_as_llguidance_alone_has_it(server: Server, name: str) -> None:
    paths = sorted(FETCHED.glob(SUITES[name]))
    if not paths:
        pytest.skip(f"{name} is not in {FETCHED.relative_to(ROOT)}")
    files = [json.loads(path.read_text()) for path in paths[:: max(len(paths) // SAMPLE, 1)]]
    groups = [group for each in files for group in (each if isinstance(each, list) else [each])]
    found = run(server, groups)
    print(f"{name}: {found.compiled} of {found.schemas} schemas compiled")
    print(f"valid documents {found.let_through[True]} of {found.documents[True]} let through")
    print(f"others {found.let_through[False]} of {found.documents[False]}")
    for reason, count in Counter(found.reasons).most_common():
        print(f"  {count} {reason}")
    for each in found.different:
        print(f"  different: {each}")
    assert found.let_through[False] == 0
    assert not found.different
