"""Local models that embed or rank and do nothing else, as backends."""

import time
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import ClassVar

from ..engine import request as engine
from ..engine.embedding.sentence_transformers import Purpose
from ..translate.chat import Usage
from ..translate.openai_embeddings import Embedding, Vectors
from ..translate.rerank import Ranking, Scores
from .backends import Traits
from .local import RESTART_PATIENCE, LocalBackend, Patience, results


@dataclass(frozen=True, slots=True)
class EmbeddingBackend(LocalBackend):
    """A model that makes vectors of texts; its worker tokenizes."""

    purpose: ClassVar[Purpose] = "embed"

    patience: Patience = Patience()  # noqa: RUF009 - it is frozen

    @property
    def traits(self) -> Traits:
        return Traits(("embedding",))

    async def embed(self, request: Embedding) -> Vectors:
        began = time.monotonic_ns()
        await self.worker.available(RESTART_PATIENCE)
        if not request.inputs:  # the model is only to be there
            return Vectors((), 0)
        with self.admitted(request.client, len(request.inputs)):
            vectors = await self._embed(request)
        self.activity.done(Usage(vectors.tokens, 0))
        return replace(vectors, duration=time.monotonic_ns() - began)

    async def _embed(self, request: Embedding) -> Vectors:
        work = engine.Embed(
            id=self.worker.number(),
            inputs=[each if isinstance(each, str) else list(each) for each in request.inputs],
            dimensions=request.dimensions,
            prompt=request.prompt,
            truncate=request.truncate,
            client=request.client,
        )
        rows, tokens = [b""] * len(work.inputs), 0
        async with aclosing(results(self.worker, [work], self.patience)) as events:
            async for event in events:
                assert isinstance(event, engine.Embedded)
                size = len(event.vectors) // len(event.rows)
                for at, row in enumerate(event.rows):
                    rows[row] = event.vectors[at * size : (at + 1) * size]
                tokens += event.tokens
        return Vectors(rows, tokens)


@dataclass(frozen=True, slots=True)
class RerankBackend(LocalBackend):
    """A model that scores pairs of texts; its worker tokenizes."""

    purpose: ClassVar[Purpose] = "rerank"

    patience: Patience = Patience()  # noqa: RUF009 - it is frozen

    async def rerank(self, request: Ranking) -> Scores:
        with self.admitted(request.client, len(request.documents)):
            scores = await self._rerank(request)
        self.activity.done(Usage(scores.tokens, 0))
        return scores

    async def _rerank(self, request: Ranking) -> Scores:
        work = engine.Rank(
            id=self.worker.number(),
            query=request.query,
            documents=list(request.documents),
            prompt=request.prompt,
            truncate=request.truncate,
            client=request.client,
        )
        values, tokens = [0.0] * len(work.documents), 0
        async with aclosing(results(self.worker, [work], self.patience)) as events:
            async for event in events:
                assert isinstance(event, engine.Ranked)
                for row, score in zip(event.rows, event.scores, strict=True):
                    values[row] = score
                tokens += event.tokens
        return Scores(values, tokens)
