"""The requests of an answer as they cross the wire: what they have in common, once."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from msgspec import Struct
from msgspec.structs import replace

from .request import AnyRequest, Request, Sampling


class PromptTokens(Struct, frozen=True, array_like=True):
    """A prompt's ids, four bytes each, and the lengths of an answer to it."""

    tokens: bytes
    max_tokens: int
    min_tokens: int


class Choice(Struct, frozen=True, array_like=True):
    """What a request has of its own; `prompt` numbers the group's."""

    id: int
    prompt: int
    seed: int
    prompt_logprobs: int | None


class RequestGroup(Struct, frozen=True, tag="group"):
    """Requests that are `like` one but for what their prompts and they themselves have."""

    like: Request
    allowed_token_ids: bytes | None
    prompts: list[PromptTokens]
    choices: list[Choice]


OWN = {"tokens", "max_tokens", "min_tokens", "prompt_logprobs"}
SHARED = tuple(f for f in Request.__struct_fields__ if f not in {*OWN, "id", "sampling"})
SETTINGS = tuple(f for f in Sampling.__struct_fields__ if f != "seed")
NO_TOKENS: list[int] = []


def pack(requests: Iterable[AnyRequest]) -> list[RequestGroup | AnyRequest]:
    """Return the requests, those that follow each other and have the same fields as a group."""
    groups = ([*alike] for _, alike in groupby(requests, _shared))
    return [_group(alike) if isinstance(alike[0], Request) else alike[0] for alike in groups]


def unpack(packed: Iterable[RequestGroup | AnyRequest]) -> Iterator[AnyRequest]:
    """Yield the requests, which refer to one object where they have it in common."""
    for each in packed:
        if isinstance(each, RequestGroup):
            yield from _members(each)
        else:
            yield each


def _shared(request: AnyRequest) -> object:
    """Return what is equal for requests of a group; the same objects are compared at once."""
    if not isinstance(request, Request):
        return object()
    settings = (getattr(request.sampling, name) for name in SETTINGS)
    return *(getattr(request, name) for name in SHARED), *settings


def _group(requests: Sequence[AnyRequest]) -> RequestGroup:
    prompts: dict[tuple[int, int, int], int] = {}
    packed: list[PromptTokens] = []
    choices: list[Choice] = []
    for each in requests:
        assert isinstance(each, Request)
        key = id(each.tokens), each.max_tokens, each.min_tokens
        if key not in prompts:
            prompts[key] = len(packed)
            packed.append(PromptTokens(_ids(each.tokens), *key[1:]))
        choices.append(Choice(each.id, prompts[key], each.sampling.seed, each.prompt_logprobs))
    first = requests[0]
    assert isinstance(first, Request)
    allowed = first.allowed_token_ids
    like = replace(first, tokens=NO_TOKENS, allowed_token_ids=None)
    return RequestGroup(like, None if allowed is None else _ids(allowed), packed, choices)


def _members(group: RequestGroup) -> Iterator[Request]:
    tokens = [array("I", prompt.tokens) for prompt in group.prompts]
    allowed = None if group.allowed_token_ids is None else array("I", group.allowed_token_ids)
    for choice in group.choices:
        prompt = group.prompts[choice.prompt]
        yield replace(
            group.like,
            id=choice.id,
            tokens=tokens[choice.prompt],
            max_tokens=prompt.max_tokens,
            min_tokens=prompt.min_tokens,
            allowed_token_ids=allowed,
            prompt_logprobs=choice.prompt_logprobs,
            sampling=replace(group.like.sampling, seed=choice.seed),
        )


def _ids(tokens: Sequence[int]) -> bytes:
    return array("I", tokens).tobytes()
