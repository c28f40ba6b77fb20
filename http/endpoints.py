"""The endpoints: every path with its method, its handler and its errors."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from ..translate import (
    anthropic,
    ollama,
    ollama_embed,
    openai_chat,
    openai_completions,
    openai_embeddings,
)
from ..translate.dialect import Dialect
from ..translate.errors import ollama_error
from ..translate.tokens import APPLY_TEMPLATE, DETOKENIZE, TOKENIZE
from .backends import Backends
from .gateway.dispatch import Dispatch
from .gateway.relay import RELAYED
from .handlers import health, models, status
from .handlers import ollama as lists
from .handlers.answers import CountTokens, Generate, Streaming
from .handlers.docs import DescribeApi, show_docs
from .handlers.embeddings import (
    OLLAMA,
    OLLAMA_ONE,
    OPENAI,
    RERANK,
    SCORE,
    CreateEmbeddings,
    RankDocuments,
)
from .handlers.health import CheckHealth
from .handlers.models import GetModel, ListModels
from .handlers.ollama import ListRunning, ListTags, ShowModel, tell_version
from .handlers.route import ROUTE, ExplainRoute
from .handlers.status import ListSlots, ShowProps, ShowStatus
from .handlers.tokens import ApplyTemplate, DetokenizeText, TokenizeText
from .responses.endpoints import response_routes
from .responses.keeping import KeptResponses
from .routes import Route

# Where each dialect is spoken; where it counts, that is at /count_tokens below.
DIALECTS: Mapping[str, Dialect] = {
    "/v1/chat/completions": openai_chat.DIALECT,
    "/v1/completions": openai_completions.DIALECT,
    "/v1/messages": anthropic.DIALECT,
    "/api/chat": ollama.CHAT,
    "/api/generate": ollama.GENERATE,
}
USUAL = Streaming()


def endpoints(
    backends: Backends,
    dialects: Mapping[str, Dialect] = DIALECTS,
    streaming: Streaming = USUAL,
    kept: KeptResponses | None = None,
) -> Mapping[tuple[str, str], Route]:
    rerank = Route(RankDocuments(RERANK, backends), operation=RERANK.operation)
    score = Route(RankDocuments(SCORE, backends), operation=SCORE.operation)
    embed = Route(CreateEmbeddings(OPENAI, backends), operation=openai_embeddings.OPERATION)
    routes = {
        **{("POST", path): route for path, route in _answering(backends, dialects, streaming)},
        **response_routes(backends, kept),
        ("POST", "/v1/embeddings"): embed,
        ("POST", "/v1/rerank"): rerank,
        ("POST", "/v2/rerank"): rerank,
        ("POST", "/v1/score"): score,
        ("POST", "/tokenize"): Route(TokenizeText(backends), operation=TOKENIZE),
        ("POST", "/detokenize"): Route(DetokenizeText(backends), operation=DETOKENIZE),
        ("POST", "/apply-template"): Route(ApplyTemplate(backends), operation=APPLY_TEMPLATE),
        ("POST", "/v1/route"): Route(ExplainRoute(backends), operation=ROUTE),
        ("GET", "/v1/status"): Route(ShowStatus(backends), operation=status.STATUS),
        ("GET", "/props"): Route(ShowProps(backends), operation=status.PROPS),
        ("GET", "/slots"): Route(ListSlots(backends), operation=status.SLOTS),
        **{place: replace(route, encode_error=ollama_error) for place, route in _ollama(backends)},
        ("GET", "/v1/models"): Route(ListModels(backends), operation=models.LIST),
        ("GET", "/v1/models/{id}"): Route(GetModel(backends), operation=models.GET),
        ("GET", "/health"): Route(CheckHealth(backends), public=True, operation=health.CHECK),
    }
    return {
        **{at: _dispatched(at, route, backends) for at, route in routes.items()},
        ("GET", "/openapi.json"): Route(DescribeApi(routes), public=True),
        ("GET", "/docs"): Route(show_docs, public=True),
    }


def _dispatched(at: tuple[str, str], route: Route, backends: Backends) -> Route:
    """Return a route whose requests other servers, or models by other names, may answer."""
    method, path = at
    if method != "POST" or not any(path in paths for paths in RELAYED.values()):
        return route
    return replace(route, handler=Dispatch(route.handler, backends, path))


def _ollama(backends: Backends) -> Iterator[tuple[tuple[str, str], Route]]:
    one, several = (CreateEmbeddings(each, backends) for each in (OLLAMA_ONE, OLLAMA))
    yield ("POST", "/api/embed"), Route(several, operation=ollama_embed.EMBED_OPERATION)
    yield ("POST", "/api/embeddings"), Route(one, operation=ollama_embed.EMBEDDINGS_OPERATION)
    yield ("GET", "/api/tags"), Route(ListTags(backends), operation=lists.TAGS)
    yield ("GET", "/api/ps"), Route(ListRunning(backends), operation=lists.RUNNING)
    yield ("POST", "/api/show"), Route(ShowModel(backends), operation=lists.SHOWN)
    yield ("GET", "/api/version"), Route(tell_version, operation=lists.VERSION)


def _answering(
    backends: Backends, dialects: Mapping[str, Dialect], streaming: Streaming
) -> Iterator[tuple[str, Route]]:
    for path, dialect in dialects.items():
        generate = Generate(dialect, backends, streaming)
        yield path, Route(generate, dialect.encode_error, operation=dialect.operation)
        if dialect.count is not None:
            count = CountTokens(dialect.count, backends)
            operation = dialect.count.operation
            yield f"{path}/count_tokens", Route(count, dialect.encode_error, operation=operation)
