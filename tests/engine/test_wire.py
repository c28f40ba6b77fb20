"""Messages survive the wire however their bytes are cut."""

import random
from typing import Any

import pytest
from msgspec.structs import replace

from bessemer.engine.memory import Plan
from bessemer.engine.request import (
    Embed,
    Embedded,
    GenerationDefaults,
    Rank,
    Ranked,
    Refusal,
    Refused,
    Request,
    Sampling,
    Started,
    StepReport,
    Token,
    TokenLogprobs,
)
from bessemer.engine.settings import Settings
from bessemer.engine.wire import (
    VERSION,
    Cancel,
    Configure,
    LoadFailed,
    Pulse,
    Ready,
    StepResult,
    Submit,
    WireError,
    server_channel,
    worker_channel,
)

REQUEST = Request(
    id=2**40,
    tokens=list(range(3000)),
    max_tokens=9,
    stop=["\x00", "é"],
    allowed_token_ids=[0, 2**31 - 1],
    bad_words=[[1], [2, 3]],
    sampling=Sampling(seed=2**64 - 1, logit_bias={3: -1.5}),
    logprobs=0,
    client="é",
)
TO_WORKER = [
    Configure(VERSION, "/models/é", 10**12, Settings(threads=2, metal_kv="in-place")),
    Submit([REQUEST, REQUEST]),
    Submit([replace(REQUEST, id=n, sampling=Sampling(seed=n)) for n in range(3)]),
    Submit([replace(REQUEST, id=n, tokens=[n], min_tokens=n) for n in range(3)]),
    Submit([REQUEST, replace(REQUEST, stop=[]), replace(REQUEST, prompt_logprobs=2)]),
    Submit([REQUEST, Embed(id=3, inputs=["x"]), Embed(id=3, inputs=["x"]), REQUEST]),
    Submit([Embed(id=1, inputs=["é", [0, 2**31 - 1]], dimensions=3, prompt="q", truncate=True)]),
    Submit([Embed(id=1, inputs=["x"], client="a")]),
    Submit([REQUEST, Rank(id=2, query="?", documents=["", "x"], client="b")]),
    Cancel([1, 2**40]),
]
TO_SERVER = [
    Ready(VERSION, Plan(1, 2, 3, 4, 5, 6), "llama", GenerationDefaults(), 7),
    Ready(
        VERSION,
        Plan(1, 2, 3, 4, 5, 6),
        "llama",
        GenerationDefaults(
            sampling=Sampling(top_k=3), stop=["é"], min_tokens=1, max_tokens=2, max_length=3
        ),
        7,
    ),
    LoadFailed("no"),
    Pulse("reading weights", 2**40, 1.5),
    StepResult(
        [
            Started(1, 64),
            Token(1, [5], "stop", "END", 0, [TokenLogprobs(5, -0.5, [(5, -0.5)])]),
            Refused.of(2, Refusal(503, "overloaded", "later", retry_after=1)),
            Embedded(3, [1, 0], bytes(range(256)) * 100, 12, False),
            Ranked(4, [0], [-1e-30], 7, True),
        ],
        StepReport(1e-5, 0.25, 1e-4, 300, 64, 256, 900, 1000, 3, 8, 2**40),
    ),
    StepResult([], StepReport()),
]


def with_lists(message: Any) -> Any:
    """Return a message with lists of ids for the arrays that requests come with."""
    if not isinstance(message, Submit):
        return message
    return Submit(
        [_with_lists(each) if isinstance(each, Request) else each for each in message.requests]
    )


def _with_lists(request: Request) -> Request:
    allowed = request.allowed_token_ids
    return replace(
        request,
        tokens=list(request.tokens),
        allowed_token_ids=None if allowed is None else list(allowed),
    )


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_messages_both_ways_at_any_split(step: int) -> None:
    server, worker = server_channel(), worker_channel()
    for sender, receiver, messages in (
        (server, worker, TO_WORKER),
        (worker, server, TO_SERVER),
    ):
        data = b"".join(map(sender.frame, messages))
        pieces = [data[at : at + step] for at in range(0, len(data), step)]
        received = [m for piece in pieces for m in receiver.feed(piece)]
        assert list(map(with_lists, received)) == messages


def test_which_events_are_the_last() -> None:
    refused = Refused.of(1, Refusal(400, "bad", "wrong"))
    last = (
        refused,
        Token(1, [], "length"),
        Embedded(1, [0], b"", 1, True),
        Ranked(1, [], [], 1, True),
    )
    for event in last:
        assert event.over
    for event in (Started(1, 0), Token(1, [5]), Embedded(1, [0], b"", 1, False)):
        assert not event.over


def test_a_refusal_comes_back_as_it_went() -> None:
    refusal = Refusal(400, "bad", "wrong", "field", 3)
    back = Refused.of(1, refusal).refusal()
    assert vars(back) == vars(refusal)


def test_nonsense_is_an_error_and_never_a_crash() -> None:
    chance = random.Random(4)
    for _ in range(300):
        body = chance.randbytes(chance.randint(1, 40))
        with pytest.raises(WireError):
            list(server_channel().feed(len(body).to_bytes(4, "little") + body))
