"""Decodes seeded bodies of every endpoint by the thousand, and says which were dear.

A body's fields are valid, nearly valid or hostile, after the types that its decoder reads. Nothing
but a Refusal of the 4xx kind may come of it. The cost is CPU time, and memory for some of them.
"""

import heapq
import json
import math
import os
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from random import Random
from typing import Annotated, Any

import msgspec.inspect as kinds
from typer import Option

from bessemer.bench.command import FAILED, command
from bessemer.engine.request import Refusal
from bessemer.translate import (
    anthropic_request,
    openai_chat,
    openai_completions,
    openai_embeddings,
    rerank,
)
from bessemer.translate.errors import anthropic_error, openai_error
from bessemer.translate.fields import IGNORED, RequestDecoder

CHUNK = 5_000  # bodies for which values are drawn anew
DEAREST = 3  # bodies an endpoint and a measure
LARGE = 1_000  # a body with fewer bytes counts as one with these, where a cost is one a byte
SAMPLED = 1_000  # one body of so many has its memory measured
TEXTS = ("", "a", "user", "assistant", "system", "text", "auto", "none", "type", "é", "😀", "\0")
NUMBERS = ("0", "-0", "1", "-1", "1e308", "1e999", "-1e-400", "NaN", "Infinity", "1.5", "01")
BIG_NUMBERS = (str(2**31), str(2**63), str(2**64), "9" * 400)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A decoder, the struct and the table that it reads, and the errors that it may have."""

    decode: Callable[[bytes], object]
    fields: RequestDecoder[Any]
    request: type[Any]
    error: Callable[[Refusal], bytes]


def _anthropic(refusal: Refusal) -> bytes:
    return anthropic_error(refusal, "req_1")


ENDPOINTS: Mapping[str, Endpoint] = {
    "chat": Endpoint(
        openai_chat.decode_request, openai_chat.DECODER, openai_chat.ChatRequest, openai_error
    ),
    "completions": Endpoint(
        openai_completions.decode_request,
        openai_completions.DECODER,
        openai_completions.CompletionRequest,
        openai_error,
    ),
    "messages": Endpoint(
        anthropic_request.decode_request,
        anthropic_request.DECODER,
        anthropic_request.MessagesRequest,
        _anthropic,
    ),
    "count_tokens": Endpoint(
        anthropic_request.decode_count,
        anthropic_request.DECODER,
        anthropic_request.MessagesRequest,
        _anthropic,
    ),
    "embeddings": Endpoint(
        openai_embeddings.decode_request,
        openai_embeddings.DECODER,
        openai_embeddings.EmbeddingRequest,
        openai_error,
    ),
    "rerank": Endpoint(
        rerank.decode_request, rerank.RERANK_DECODER, rerank.RerankRequest, openai_error
    ),
    "score": Endpoint(rerank.decode_score, rerank.SCORE_DECODER, rerank.ScoreRequest, openai_error),
}


def valid(kind: kinds.Type, chance: Random) -> bytes:
    """Return JSON that a type admits, or nearly always does."""
    match kind:
        case kinds.UnionType(types):
            return valid(chance.choice(types), chance)
        case kinds.StructType(_, fields):
            return _object(
                (each.encode_name, _word(each.encode_name, chance) or valid(each.type, chance))
                for each in fields
                if each.required or chance.random() < 0.2
            )
        case kinds.ListType(inner):
            count = max(kind.min_length or 0, chance.choice((1, 1, 2, 4)))
            return b"[" + b",".join(valid(inner, chance) for _ in range(count)) + b"]"
        case kinds.DictType(key, value):
            quoted = isinstance(key, kinds.IntType)
            keys = [str(chance.randrange(300)) if quoted else text(chance) for _ in range(3)]
            return _object((each, valid(value, chance)) for each in keys)
        case kinds.LiteralType(values):
            return json.dumps(chance.choice(values)).encode()
        case kinds.IntType() | kinds.FloatType():
            return number(kind, chance)
        case kinds.StrType():
            return json.dumps(text(chance) or "a").encode()
        case kinds.BoolType():
            return chance.choice((b"true", b"false"))
        case kinds.NoneType():
            return b"null"
        case _:
            return chance.choice((b"null", b"{}", b"[]", b'"x"', b"1", b'{"type":"text"}', b"true"))


def _word(name: str, chance: Random) -> bytes:
    """Return what a decoder mostly wants of a string that its type leaves open."""
    if name == "role":
        return chance.choice((b'"user"', b'"assistant"', b'"system"'))
    return b'"text"' if name == "type" else b""


def number(kind: kinds.IntType | kinds.FloatType, chance: Random) -> bytes:
    """Return a number, often one at a bound of its type."""
    least = next((n for n in (kind.ge, kind.gt) if n is not None), -9)
    most = next((n for n in (kind.le, kind.lt) if n is not None), 9)
    if isinstance(kind, kinds.IntType):
        return str(chance.choice((least, most, int(least) + 1, int(most) // 2))).encode()
    return str(chance.choice((least, most, (least + most) / 2))).encode()


def text(chance: Random) -> str:
    return chance.choice(TEXTS) * chance.choice((1, 1, 1, 3, 30))


def _object(items: Iterator[tuple[str, bytes]]) -> bytes:
    return b"{" + b",".join(json.dumps(name).encode() + b":" + each for name, each in items) + b"}"


def near(kind: kinds.Type, chance: Random) -> bytes:
    """Return JSON that a type may not admit: of another type, past a bound, or cut."""
    shape = chance.randrange(4)
    if shape == 0:
        return chance.choice((*NUMBERS, *BIG_NUMBERS)).encode()
    if shape == 1:
        return chance.choice((b"null", b"true", b"[]", b"{}", b'""', b'"\\ud800"', b'"\xff"'))
    one = valid(kind, chance)
    return one[: chance.randrange(len(one))] if shape == 2 else b"[" + one + b"]"


def hostile(kind: kinds.Type, chance: Random) -> bytes:
    """Return JSON that is much: of elements, levels, keys, bytes or digits."""
    count = int(10 ** chance.uniform(1, 5 if chance.random() < 0.02 else 2.5))
    match chance.randrange(8):
        case 0:
            return b"[" + b",".join([valid(kind, chance)] * min(count, 5_000)) + b"]"
        case 1:
            each = [valid(_inner(kind), chance) for _ in range(4)]
            return b"[" + b",".join(each[i % 4] for i in range(min(count, 50_000))) + b"]"
        case 2:
            opened, closed = chance.choice(((b"[", b"]"), (b'{"a":', b"}")))
            return opened * count + b"1" + closed * chance.choice((count, count - 1))
        case 3:
            same = chance.random() < 0.5
            names = ("5" if same else str(i) for i in range(count))
            return _object((name, b"1") for name in names)
        case 4:
            piece = chance.choice((b"a", b"\\n", b"\\u00e9", "é".encode(), "😀".encode(), b"\\\\"))
            return b'"' + piece * count + b'"'
        case 5:
            return chance.choice((b"9", b"0.1", b"1e", b"-", b"1.0")) * count
        case 6:
            return b"[" + b",".join([chance.choice((b"1", b'""', b"[]", b"{}"))] * count) + b"]"
        case _:
            return b" " * count + valid(kind, chance)


def _inner(kind: kinds.Type) -> kinds.Type:
    """Return the type of a list's items, where a type may be a list."""
    types = kind.types if isinstance(kind, kinds.UnionType) else (kind,)
    return next((each.item_type for each in types if isinstance(each, kinds.ListType)), kind)


class Bodies:
    """A source of an endpoint's bodies: fields with values drawn once, put together many times."""

    def __init__(self, endpoint: Endpoint, chance: Random) -> None:
        shape = kinds.type_info(endpoint.request)
        assert isinstance(shape, kinds.StructType)
        types: dict[str, kinds.Type] = {f.encode_name: f.type for f in shape.fields}
        required = [f.encode_name for f in shape.fields if f.required]
        required += ["max_tokens"] * (endpoint.request is anthropic_request.MessagesRequest)
        for name in (*endpoint.fields.unbuilt, *IGNORED, "unheard_of"):
            types.setdefault(name.partition(".")[0], kinds.AnyType())
        self._values = {
            name: (
                [valid(kind, chance) for _ in range(40)],
                [near(kind, chance) for _ in range(12)],
                [hostile(kind, chance) for _ in range(8)],
            )
            for name, kind in types.items()
        }
        honoured = [f.encode_name for f in shape.fields]
        self._required, self._names = required, [*honoured * 4, *types]
        self._chance = chance

    def draw(self) -> tuple[bytes, str]:
        """Return a body, and which fields it has that are not simply valid."""
        chance = self._chance
        names = [*self._required, *chance.choices(self._names, k=chance.choice((0, 1, 2, 3, 6)))]
        if chance.random() < 0.02:
            names = names[1:]
        odd, items = [], []
        strict = chance.random() < 0.5  # at most one field is odd, so that it is reached
        for name in names:
            which = chance.choices((0, 1, 2), (8, 1, 2))[0] if not (strict and odd) else 0
            if which:
                odd.append(f"{('near', 'much')[which - 1]} {name}")
            items.append(b'"%s":%s' % (name.encode(), chance.choice(self._values[name][which])))
        body = b"{" + b",".join(items) + b"}"
        if chance.random() < 0.02:
            place = chance.randrange(len(body))
            rest = body[place:] if chance.random() < 0.5 else b""
            body = body[:place] + chance.choice((b"\0", b"\xff", b"[", b'"', b"\xef\xbb")) + rest
        return body, ", ".join(odd)


@dataclass(frozen=True, slots=True, order=True)
class Dear:
    """A body and its cost: seconds, or seconds a byte, or bytes of memory."""

    cost: float
    length: int
    shape: str
    start: bytes


@dataclass(slots=True)
class Findings:
    """The outcomes of a chunk: how many, what must not be, and the dearest by each measure."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    dearest: dict[tuple[str, str], list[Dear]] = field(default_factory=dict)

    def note(self, endpoint: str, measure: str, dear: Dear) -> None:
        heap = self.dearest.setdefault((endpoint, measure), [])
        heapq.heappush(heap, dear)
        if len(heap) > DEAREST:
            heapq.heappop(heap)

    def is_dear(self, endpoint: str, measure: str, cost: float) -> bool:
        heap = self.dearest.get((endpoint, measure), [])
        return len(heap) < DEAREST or cost > heap[0].cost

    def add(self, other: "Findings") -> None:
        self.outcomes += other.outcomes
        self.wrong += other.wrong
        for (endpoint, measure), heap in other.dearest.items():
            for dear in heap:
                self.note(endpoint, measure, dear)


def outcome(endpoint: Endpoint, body: bytes) -> str:
    """Decode a body, and encode its error; return the error's code, or nothing."""
    try:
        endpoint.decode(body)
    except Refusal as refusal:
        endpoint.error(refusal)
        assert 400 <= refusal.status < 500, refusal.status
        assert refusal.message.endswith(".") and len(refusal.message) < 400, refusal.message
        return refusal.code
    return ""


def seconds(endpoint: Endpoint, body: bytes) -> float:
    """Return the CPU time that a body takes."""
    start = time.thread_time_ns()
    outcome(endpoint, body)
    return (time.thread_time_ns() - start) / 1e9


def memory(endpoint: Endpoint, body: bytes) -> float:
    """Return the most bytes that decoding a body holds."""
    tracemalloc.start()
    try:
        outcome(endpoint, body)
        return float(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


def explore(seed: int, chunk: int, count: int) -> Findings:
    """Decode `count` bodies, the same for the same seed and chunk."""
    chance, findings = Random(f"{seed} {chunk}"), Findings()
    sources = {name: Bodies(endpoint, chance) for name, endpoint in ENDPOINTS.items()}
    names = list(ENDPOINTS)
    for number in range(count):
        name = names[number % len(names)]
        body, shape = sources[name].draw()
        try:
            _try(name, body, shape, findings, measured=number % SAMPLED == 0)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            findings.wrong.append(f"{name}: {error!r}: {body[:200]!r} ({shape})")
    return findings


def _try(name: str, body: bytes, shape: str, findings: Findings, measured: bool) -> None:
    endpoint = ENDPOINTS[name]
    start = time.thread_time_ns()
    code = outcome(endpoint, body)
    cost = (time.thread_time_ns() - start) / 1e9
    findings.outcomes[code or "valid"] += 1
    found = (len(body), shape, body[:200])
    measures = {"seconds": 1, "seconds a byte": max(LARGE, len(body))}
    for measure, size in measures.items():
        if findings.is_dear(name, measure, cost / size):
            cost = min(cost, *(seconds(endpoint, body) for _ in range(3)))  # a pause is no cost
            findings.note(name, measure, Dear(cost / size, *found))
    if measured:
        share = memory(endpoint, body) / measures["seconds a byte"]
        findings.note(name, "memory a byte", Dear(share, *found))


# fmt: off
@command(__doc__)
def main(
    number: Annotated[int, Option(help="Bodies to decode.")] = 1_000_000,
    seed: Annotated[int, Option(help="Another number gives other bodies.")] = 1,
    jobs: Annotated[int, Option(help="Processes that decode.")] = os.cpu_count() or 1,
) -> int:
    # fmt: on
    findings = Findings()
    counts = [min(CHUNK, number - start) for start in range(0, number, CHUNK)]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for chunk in pool.map(explore, [seed] * len(counts), range(len(counts)), counts):
            findings.add(chunk)
    return report(findings)


def report(findings: Findings) -> int:
    """Print what came of the bodies and the dearest; return 1 if anything was wrong."""
    for (endpoint, measure), heap in sorted(findings.dearest.items()):
        for dear in sorted(heap, reverse=True):
            print(f"{endpoint}: {_cost(measure, dear.cost)}, {dear.length} bytes ({dear.shape})")
            print(f"    {dear.start!r}")
    for code, count in findings.outcomes.most_common():
        print(f"{count:9} {code}")
    print(f"{sum(findings.outcomes.values())} bodies, {len(findings.wrong)} wrong")
    print(*findings.wrong[:20], sep="\n")
    return FAILED if findings.wrong else 0


def _cost(measure: str, cost: float) -> str:
    match measure:
        case "seconds":
            return f"{cost * 1e3:.2f} ms"
        case "seconds a byte":
            return f"{cost * 1e9:.0f} ns a byte"
        case _:
            return f"{math.ceil(cost)} bytes of memory a byte"


if __name__ == "__main__":
    sys.exit(main())
