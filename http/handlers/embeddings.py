"""The endpoints of embedding models: vectors of texts, ranks and scores of documents."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from ...translate import ollama_embed, openai_embeddings, rerank
from ...translate.chat import Identity
from ...translate.openai_embeddings import Embedding, Vectors
from ...translate.operation import Operation
from ...translate.rerank import Ranking, Scores
from ..backends import Backends
from ..message import HttpRequest, Response
from .answers import decode_body, identity


@dataclass(frozen=True, slots=True)
class EmbeddingDialect:
    """The way to read a request for vectors, and to write its answer, of the model named."""

    decode_request: Callable[[bytes], Embedding]
    encode_response: Callable[[Embedding, Vectors, str], bytes]


OPENAI = EmbeddingDialect(openai_embeddings.decode_request, openai_embeddings.encode_response)
OLLAMA = EmbeddingDialect(ollama_embed.decode_embed, ollama_embed.encode_embed)
OLLAMA_ONE = EmbeddingDialect(ollama_embed.decode_embeddings, ollama_embed.encode_embeddings)


@dataclass(frozen=True, slots=True)
class CreateEmbeddings:
    dialect: EmbeddingDialect
    backends: Backends

    async def __call__(self, request: HttpRequest) -> Response:
        embedding = await decode_body(self.dialect.decode_request, request.body)
        request.body.drop()
        backend = self.backends.find(embedding.model, request.meant)
        vectors = await backend.embed(replace(embedding, client=request.caller))
        encode = self.dialect.encode_response
        return Response(200, await asyncio.to_thread(encode, embedding, vectors, backend.name))


@dataclass(frozen=True, slots=True)
class RerankDialect:
    """The way to read a request of an endpoint that scores, and to write its answer."""

    prefix: str  # of an answer's id
    decode_request: Callable[[bytes], Ranking]
    encode_response: Callable[[Ranking, Scores, Identity], bytes]
    operation: Operation


RERANK = RerankDialect(
    "rerank-", rerank.decode_request, rerank.encode_response, rerank.RERANK_OPERATION
)
SCORE = RerankDialect("score-", rerank.decode_score, rerank.encode_score, rerank.SCORE_OPERATION)


@dataclass(frozen=True, slots=True)
class RankDocuments:
    dialect: RerankDialect
    backends: Backends

    async def __call__(self, request: HttpRequest) -> Response:
        ranking = await decode_body(self.dialect.decode_request, request.body)
        request.body.drop()
        backend = self.backends.find(ranking.model, request.meant)
        scores = await backend.rerank(replace(ranking, client=request.caller))
        who = identity(self.dialect.prefix, backend)
        encode = self.dialect.encode_response  # documents may be asked for, all of them
        return Response(200, await asyncio.to_thread(encode, ranking, scores, who))
