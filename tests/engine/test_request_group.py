"""Requests cross the wire with what they have in common once, and are then the same requests."""

from msgspec.structs import replace

from bessemer.engine.request import Request, Sampling
from bessemer.engine.wire import Submit, server_channel, worker_channel

LIKE = Request(
    id=0,
    tokens=[],
    max_tokens=9,
    stop=["x" * 50, "é"],
    stop_token_ids=[7],
    allowed_token_ids=[*range(40)],
    bad_words=[[1, 2]],
    sampling=Sampling(logit_bias={3: -1.5, 2**31 - 1: 4.0}, temperature=0.3),
    salt="s",
)


def choices(prompts: list[list[int]], n: int) -> list[Request]:
    """Return the requests of an answer as the server has them: choice i is of prompt i // n."""
    return [
        replace(
            LIKE,
            id=100 + i,
            tokens=prompts[i // n],
            min_tokens=i // n,
            prompt_logprobs=None if i % n else 3,
            sampling=replace(LIKE.sampling, seed=2**64 - 1 - i),
        )
        for i in range(len(prompts) * n)
    ]


def sent(requests: list[Request]) -> list[Request]:
    (message,) = worker_channel().feed(server_channel().frame(Submit([*requests])))
    return message.requests


def test_each_is_what_it_was() -> None:
    requests = choices([[5, 2**31 - 1], [6] * 3], 4)
    for before, after in zip(requests, sent(requests), strict=True):
        for name in Request.__struct_fields__:
            value = getattr(after, name)
            if name in ("tokens", "allowed_token_ids"):
                value = list(value)
            assert value == getattr(before, name), name


def test_what_they_have_in_common_is_one_object_and_is_sent_once() -> None:
    first, *others = sent(requests := choices([[*range(3000)], [6]], 64))
    for other in others:
        for name in ("stop", "stop_token_ids", "allowed_token_ids", "bad_words", "salt"):
            assert getattr(other, name) is getattr(first, name), name
        assert other.sampling.logit_bias is first.sampling.logit_bias
    assert len({id(each.tokens) for each in (first, *others)}) == 2
    one, all_of_them = (len(server_channel().frame(Submit([*r]))) for r in (requests[:1], requests))
    assert all_of_them - one < 20 * len(requests)


def test_those_that_differ_in_more_are_apart() -> None:
    requests = choices([[5]], 2)
    requests += [replace(requests[0], stop=["é"]), replace(requests[0], client="other")]
    requests += [replace(requests[0], sampling=Sampling(top_k=3))]
    assert [(r.stop, r.client, r.sampling.top_k) for r in sent(requests)] == [
        (r.stop, r.client, r.sampling.top_k) for r in requests
    ]


def test_all_ids_may_come_or_none() -> None:
    for allowed in (None, []):
        requests = [replace(each, allowed_token_ids=allowed) for each in choices([[5]], 2)]
        for each in sent(requests):
            got = each.allowed_token_ids
            assert (None if got is None else list(got)) == allowed
