"""The endpoints: every path with its method, its handler and its errors."""

from collections.abc import Iterator, Mapping

from ..translate import anthropic, openai_chat, openai_completions, openai_embeddings
from ..translate.dialect import Dialect
from .backends import Backends
from .handlers import health, models
from .handlers.answers import CountTokens, Generate
from .handlers.docs import DescribeApi, show_docs
from .handlers.embeddings import RERANK, SCORE, CreateEmbeddings, RankDocuments
from .handlers.health import CheckHealth
from .handlers.models import GetModel, ListModels
from .responses.endpoints import response_routes
from .responses.keeping import KeptResponses
from .routes import Route

# Where each dialect is spoken; where it counts, that is at /count_tokens below.
DIALECTS: Mapping[str, Dialect] = {
    "/v1/chat/completions": openai_chat.DIALECT,
    "/v1/completions": openai_completions.DIALECT,
    "/v1/messages": anthropic.DIALECT,
}


def endpoints(
    backends: Backends,
    dialects: Mapping[str, Dialect] = DIALECTS,
    kept: KeptResponses | None = None,
) -> Mapping[tuple[str, str], Route]:
    rerank = Route(RankDocuments(RERANK, backends), operation=RERANK.operation)
    score = Route(RankDocuments(SCORE, backends), operation=SCORE.operation)
    embed = Route(CreateEmbeddings(backends), operation=openai_embeddings.OPERATION)
    routes = {
        **{("POST", path): route for path, route in _answering(backends, dialects)},
        **response_routes(backends, kept),
        ("POST", "/v1/embeddings"): embed,
        ("POST", "/v1/rerank"): rerank,
        ("POST", "/v2/rerank"): rerank,
        ("POST", "/v1/score"): score,
        ("GET", "/v1/models"): Route(ListModels(backends), operation=models.LIST),
        ("GET", "/v1/models/{id}"): Route(GetModel(backends), operation=models.GET),
        ("GET", "/health"): Route(CheckHealth(backends), public=True, operation=health.CHECK),
    }
    return {
        **routes,
        ("GET", "/openapi.json"): Route(DescribeApi(routes), public=True),
        ("GET", "/docs"): Route(show_docs, public=True),
    }


def _answering(backends: Backends, dialects: Mapping[str, Dialect]) -> Iterator[tuple[str, Route]]:
    for path, dialect in dialects.items():
        yield (
            path,
            Route(Generate(dialect, backends), dialect.encode_error, operation=dialect.operation),
        )
        if dialect.count is not None:
            count = CountTokens(dialect.count, backends)
            operation = dialect.count.operation
            yield f"{path}/count_tokens", Route(count, dialect.encode_error, operation=operation)
