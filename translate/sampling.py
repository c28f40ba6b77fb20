"""The sampling fields of a request: their ranges, and the options that they amount to."""

from array import array
from typing import Annotated

from msgspec import Meta, Struct

from .chat import GenerationOptions, Overflow
from .decode import invalid

INT32 = 2**31 - 1  # token ids and counts fit in the engine's int32 arrays

Count = Annotated[int, Meta(ge=0, le=INT32)]
Positive = Annotated[int, Meta(ge=1, le=INT32)]
TokenId = Annotated[int, Meta(ge=0, le=INT32)]
AnyId = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]  # its model says whether it has it
TopK = Annotated[int, Meta(ge=-1, le=INT32)]
Temperature = Annotated[float, Meta(ge=0, le=100)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Factor = Annotated[float, Meta(gt=0, le=100)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
StopString = Annotated[str, Meta(min_length=1)]
StopStrings = Annotated[list[StopString], Meta(max_length=64)]
Choices = Annotated[int, Meta(ge=1, le=64)]
Alternatives = Annotated[int, Meta(ge=0, le=20)]
Limit = Annotated[int, Meta(ge=-2, le=INT32)]  # -1 and -2 are none, as in llama.cpp and Ollama
TokenIds = Annotated[list[TokenId], Meta(min_length=1)]
LogitBias = Annotated[dict[AnyId, Bias], Meta(max_length=4096)]  # vLLM has 1024
AllowedIds = Annotated[list[AnyId], Meta(min_length=1, max_length=2**18)]
BadWord = Annotated[str, Meta(min_length=1, max_length=128)]
Salt = Annotated[str, Meta(max_length=1024)]

MAX_MESSAGES = 2**14  # a context of 262,144 tokens holds no more of 16

STOPS = 8192  # characters of all stop strings, each a state of what looks for them
# The names of max_tokens; the first that is there counts.
LIMITS = ("max_completion_tokens", "max_tokens", "n_predict", "num_predict")


class SamplingFields(Struct, kw_only=True):
    """The fields that all text dialects share; null is absent.

    `repeat_penalty`, `n_predict` and `num_predict` are what llama.cpp and Ollama call
    `repetition_penalty` and `max_tokens`.
    """

    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    n_predict: Limit | None = None
    num_predict: Limit | None = None
    min_tokens: Count | None = None
    ignore_eos: bool | None = None
    temperature: Temperature | None = None
    top_p: Fraction | None = None
    top_k: TopK | None = None
    min_p: Fraction | None = None
    seed: int | None = None
    repetition_penalty: Factor | None = None
    repeat_penalty: Factor | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    stop: StopString | StopStrings | None = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=64)] | None = None
    stop_in_reasoning: bool | None = None
    include_stop_str_in_output: bool | None = None
    allowed_token_ids: AllowedIds | None = None
    bad_words: Annotated[list[BadWord], Meta(max_length=128)] | None = None
    skip_special_tokens: bool | None = None
    cache_salt: Salt | None = None
    stream: bool | None = None
    context_overflow: Overflow | None = None


def max_tokens(fields: SamplingFields, least: int) -> int | None:
    """Return the limit, by whichever of its names."""
    name = next((name for name in LIMITS if getattr(fields, name) is not None), None)
    if name is None:
        return None
    limit: int = getattr(fields, name)
    if 0 <= limit < least:
        raise invalid(name, f"must be at least {least}")
    return limit if limit >= 0 else INT32


def options(fields: SamplingFields, max_tokens: int | None) -> GenerationOptions:
    """Return the options, without what only some dialects have."""
    penalty = fields.repetition_penalty
    allowed = fields.allowed_token_ids
    return GenerationOptions(
        max_tokens=max_tokens,
        min_tokens=_min_tokens(fields.min_tokens or 0, max_tokens),
        ignore_eos=fields.ignore_eos or False,
        temperature=0.0 if fields.top_p == 0 else fields.temperature,  # both: the likeliest token
        top_p=fields.top_p or None,
        top_k=None if fields.top_k is None else max(fields.top_k, 0),
        min_p=fields.min_p,
        seed=_seed(fields.seed),
        repetition_penalty=fields.repeat_penalty if penalty is None else penalty,
        presence_penalty=fields.presence_penalty,
        frequency_penalty=fields.frequency_penalty,
        logit_bias=fields.logit_bias or {},
        stop=stop_strings("stop", fields.stop),
        stop_token_ids=tuple(fields.stop_token_ids or ()),
        stop_in_reasoning=fields.stop_in_reasoning or False,
        include_stop=fields.include_stop_str_in_output or False,
        allowed_token_ids=None if allowed is None else array("q", allowed),
        bad_words=tuple(fields.bad_words or ()),
        skip_special_tokens=fields.skip_special_tokens is not False,
        cache_salt=fields.cache_salt or "",
        stream=fields.stream or False,
        overflow=fields.context_overflow,
    )


def _min_tokens(min_tokens: int, max_tokens: int | None) -> int:
    if max_tokens is not None and min_tokens > max_tokens:
        raise invalid("min_tokens", f"must be at most max_tokens, which is {max_tokens}")
    return min_tokens


def _seed(seed: int | None) -> int | None:
    """Return the seed in 64 bits; None, which is a random one, for -1 as in llama.cpp and vLLM."""
    if seed is None or seed == -1:
        return None
    if not -(2**63) <= seed < 2**64:
        raise invalid("seed", "must fit in 64 bits")
    return seed % 2**64


def stop_strings(field: str, stop: str | list[str] | None) -> tuple[str, ...]:
    """Return the stop strings that a field has."""
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if sum(map(len, stops)) > STOPS:
        raise invalid(field, f"must have at most {STOPS} characters in all")
    return stops
