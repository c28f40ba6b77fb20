"""The endpoints: every path with its method, its handler and its errors."""

from collections.abc import Iterator, Mapping

from ..translate import anthropic, openai_chat, openai_completions
from ..translate.dialect import Dialect
from .backends import Backends
from .handlers.answers import CountTokens, Generate
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
    rerank = RankDocuments(RERANK, backends)
    return {
        **{("POST", path): route for path, route in _answering(backends, dialects)},
        **response_routes(backends, kept),
        ("POST", "/v1/embeddings"): Route(CreateEmbeddings(backends)),
        ("POST", "/v1/rerank"): Route(rerank),
        ("POST", "/v2/rerank"): Route(rerank),
        ("POST", "/v1/score"): Route(RankDocuments(SCORE, backends)),
        ("GET", "/v1/models"): Route(ListModels(backends)),
        ("GET", "/v1/models/{id}"): Route(GetModel(backends)),
        ("GET", "/health"): Route(CheckHealth(backends), public=True),
    }


def _answering(backends: Backends, dialects: Mapping[str, Dialect]) -> Iterator[tuple[str, Route]]:
    for path, dialect in dialects.items():
        yield path, Route(Generate(dialect, backends), dialect.encode_error)
        if dialect.count is not None:
            count = CountTokens(dialect.count, backends)
            yield f"{path}/count_tokens", Route(count, dialect.encode_error)
