"""Log probabilities of answers' tokens, as both of OpenAI's dialects have them."""

from collections.abc import Iterable

from msgspec import Struct

from ..chat import TokenText


class Alternative(Struct):
    token: str = ""
    logprob: float | None = None
    bytes: list[int] | None = None


class Logprob(Alternative):
    top_logprobs: list[Alternative] | None = None


def tokens_of(logprobs: Iterable[Logprob] | None) -> tuple[TokenText, ...]:
    return tuple(_token(each, each.top_logprobs or ()) for each in logprobs or ())


def _token(token: Alternative, top: Iterable[Alternative] = ()) -> TokenText:
    raw = token.token.encode() if token.bytes is None else bytes(token.bytes)
    return TokenText(token.token, raw, token.logprob, tuple(map(_token, top)))
