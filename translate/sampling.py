"""The sampling fields of a request: their ranges, and the options that they amount to."""

from typing import Annotated

from msgspec import Meta, Struct

from .chat import GenerationOptions
from .decode import invalid

INT32 = 2**31 - 1  # token ids and counts fit in the engine's int32 arrays

Count = Annotated[int, Meta(ge=0, le=INT32)]
Positive = Annotated[int, Meta(ge=1, le=INT32)]
TokenId = Annotated[int, Meta(ge=0, le=INT32)]
TopK = Annotated[int, Meta(ge=-1, le=INT32)]
Temperature = Annotated[float, Meta(ge=0, le=100)]
Nucleus = Annotated[float, Meta(gt=0, le=1)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Factor = Annotated[float, Meta(gt=0, le=100)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
StopString = Annotated[str, Meta(min_length=1)]
StopStrings = Annotated[list[StopString], Meta(max_length=64)]
Choices = Annotated[int, Meta(ge=1, le=64)]
Alternatives = Annotated[int, Meta(ge=0, le=20)]


class StreamOptions(Struct, kw_only=True):
    include_usage: bool | None = None


class SamplingFields(Struct, kw_only=True):
    """The fields that all text dialects share; null is absent."""

    max_tokens: Positive | None = None
    min_tokens: Count | None = None
    ignore_eos: bool | None = None
    temperature: Temperature | None = None
    top_p: Nucleus | None = None
    top_k: TopK | None = None
    min_p: Fraction | None = None
    seed: int | None = None
    repetition_penalty: Factor | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[TokenId, Bias] | None = None
    stop: StopString | StopStrings | None = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=64)] | None = None
    include_stop_str_in_output: bool | None = None
    n: Choices | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


def options(
    fields: SamplingFields, max_tokens: int | None, logprobs: int | None
) -> GenerationOptions:
    """Return the options; `max_tokens` and `logprobs` are spelled differently in each dialect."""
    return GenerationOptions(
        max_tokens=max_tokens,
        min_tokens=_min_tokens(fields.min_tokens or 0, max_tokens),
        ignore_eos=fields.ignore_eos or False,
        temperature=fields.temperature,
        top_p=fields.top_p,
        top_k=None if fields.top_k is None else max(fields.top_k, 0),
        min_p=fields.min_p,
        seed=_seed(fields.seed),
        repetition_penalty=fields.repetition_penalty,
        presence_penalty=fields.presence_penalty,
        frequency_penalty=fields.frequency_penalty,
        logit_bias=fields.logit_bias or {},
        stop=_stop(fields.stop),
        stop_token_ids=tuple(fields.stop_token_ids or ()),
        include_stop=fields.include_stop_str_in_output or False,
        n=fields.n or 1,
        logprobs=logprobs,
        stream=fields.stream or False,
        include_usage=bool(fields.stream_options and fields.stream_options.include_usage),
    )


def _min_tokens(min_tokens: int, max_tokens: int | None) -> int:
    if max_tokens is not None and min_tokens > max_tokens:
        raise invalid("min_tokens", f"must be at most max_tokens, which is {max_tokens}")
    return min_tokens


def _seed(seed: int | None) -> int | None:
    if seed is None:
        return None
    if not -(2**63) <= seed < 2**64:
        raise invalid("seed", "must fit in 64 bits")
    return seed % 2**64


def _stop(stop: str | list[str] | None) -> tuple[str, ...]:
    return (stop,) if isinstance(stop, str) else tuple(stop or ())
