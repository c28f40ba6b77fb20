"""The joint of embedding and reranking: texts go to a worker, vectors and scores come back."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from ..engine.request import Embed, Embedded, Event, Rank, Ranked, Refused
from ..translate.openai_embeddings import Embedding, Vectors
from ..translate.rerank import Ranking, Scores
from .backends import Encoder
from .generate import RESTART_PATIENCE

TICK = 60.0  # seconds; nobody here looks at the clock, limits.within does


async def embed(encoder: Encoder, ask: Embedding) -> Vectors:
    """Raises Refusal; what is cancelled is cancelled in the worker too."""
    inputs = [each if isinstance(each, str) else list(each) for each in ask.inputs]
    request = Embed(
        id=encoder.worker.number(),
        inputs=inputs,
        dimensions=ask.dimensions,
        prompt=ask.prompt,
        truncate=ask.truncate,
    )
    rows, tokens = [b""] * len(inputs), 0
    async with aclosing(_events(encoder, request)) as events:
        async for event in events:
            assert isinstance(event, Embedded)
            size = len(event.vectors) // len(event.rows)
            for at, row in enumerate(event.rows):
                rows[row] = event.vectors[at * size : (at + 1) * size]
            tokens += event.tokens
    return Vectors(rows, tokens)


async def rank(encoder: Encoder, ask: Ranking) -> Scores:
    """As embed."""
    request = Rank(
        id=encoder.worker.number(),
        query=ask.query,
        documents=list(ask.documents),
        prompt=ask.prompt,
        truncate=ask.truncate,
    )
    values, tokens = [0.0] * len(ask.documents), 0
    async with aclosing(_events(encoder, request)) as events:
        async for event in events:
            assert isinstance(event, Ranked)
            for row, score in zip(event.rows, event.scores, strict=True):
                values[row] = score
            tokens += event.tokens
    return Scores(values, tokens)


async def _events(encoder: Encoder, ask: Embed | Rank) -> AsyncGenerator[Event, None]:
    """Up to the last."""
    await encoder.worker.available(RESTART_PATIENCE)
    ticket = encoder.worker.open([ask], TICK)
    try:
        over = False
        while not over:
            event = await ticket.next()
            if isinstance(event, Refused):
                raise event.refusal()
            if event is not None:
                over = event.over
                yield event
    finally:
        ticket.close()
