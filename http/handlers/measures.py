"""POST /v1/embeddings, /v1/rerank and /v1/score."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from ...translate import openai_embeddings, rerank
from ...translate.chat import Identity
from ...translate.rerank import Ranking, Scores
from ..backends import Backends
from ..message import HttpRequest, Response
from .answers import decoded, identity


@dataclass(frozen=True, slots=True)
class Embeds:
    backends: Backends

    async def __call__(self, request: HttpRequest) -> Response:
        ask = await decoded(openai_embeddings.decode_request, request.body)
        backend = self.backends.find(ask.model)
        vectors = await backend.embed(replace(ask, client=request.caller))
        encode = openai_embeddings.encode_response
        return Response(200, await asyncio.to_thread(encode, ask, vectors, backend.name))


@dataclass(frozen=True, slots=True)
class Shape:
    """How an endpoint that scores reads a request and writes an answer."""

    prefix: str  # of an answer's id
    decode: Callable[[bytes], Ranking]
    encode: Callable[[Ranking, Scores, Identity], bytes]


RERANK = Shape("rerank-", rerank.decode_request, rerank.encode_response)
SCORE = Shape("score-", rerank.decode_score, rerank.encode_score)


@dataclass(frozen=True, slots=True)
class Ranks:
    shape: Shape
    backends: Backends

    async def __call__(self, request: HttpRequest) -> Response:
        ask = await decoded(self.shape.decode, request.body)
        backend = self.backends.find(ask.model)
        scores = await backend.score(replace(ask, client=request.caller))
        who = identity(self.shape.prefix, backend)
        return Response(200, self.shape.encode(ask, scores, who))
