"""The endpoints: every path with its method, its handler and its errors."""

from collections.abc import Iterator, Mapping

from ..translate import anthropic, ollama, openai_chat, openai_completions
from ..translate.dialect import Dialect
from ..translate.errors import ollama_error
from .backends import Backends
from .handlers.answers import CountTokens, Generate, Streaming
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
from .handlers.status import ListSlots, ShowProps, ShowStatus
from .handlers.tokens import ApplyTemplate, DetokenizeText, TokenizeText
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
) -> Mapping[tuple[str, str], Route]:
    rerank = RankDocuments(RERANK, backends)
    return {
        **{("POST", path): route for path, route in _answering(backends, dialects, streaming)},
        ("POST", "/v1/embeddings"): Route(CreateEmbeddings(OPENAI, backends)),
        ("POST", "/v1/rerank"): Route(rerank),
        ("POST", "/v2/rerank"): Route(rerank),
        ("POST", "/v1/score"): Route(RankDocuments(SCORE, backends)),
        ("POST", "/tokenize"): Route(TokenizeText(backends)),
        ("POST", "/detokenize"): Route(DetokenizeText(backends)),
        ("POST", "/apply-template"): Route(ApplyTemplate(backends)),
        ("POST", "/api/embed"): Route(CreateEmbeddings(OLLAMA, backends), ollama_error),
        ("POST", "/api/embeddings"): Route(CreateEmbeddings(OLLAMA_ONE, backends), ollama_error),
        ("GET", "/api/tags"): Route(ListTags(backends), ollama_error),
        ("GET", "/api/ps"): Route(ListRunning(backends), ollama_error),
        ("POST", "/api/show"): Route(ShowModel(backends), ollama_error),
        ("GET", "/api/version"): Route(tell_version, ollama_error),
        ("GET", "/v1/models"): Route(ListModels(backends)),
        ("GET", "/v1/models/{id}"): Route(GetModel(backends)),
        ("GET", "/v1/status"): Route(ShowStatus(backends)),
        ("GET", "/props"): Route(ShowProps(backends)),
        ("GET", "/slots"): Route(ListSlots(backends)),
        ("GET", "/health"): Route(CheckHealth(backends), public=True),
    }


def _answering(
    backends: Backends, dialects: Mapping[str, Dialect], streaming: Streaming
) -> Iterator[tuple[str, Route]]:
    for path, dialect in dialects.items():
        yield path, Route(Generate(dialect, backends, streaming), dialect.encode_error)
        if dialect.count is not None:
            count = CountTokens(dialect.count, backends)
            yield f"{path}/count_tokens", Route(count, dialect.encode_error)
