"""What the server answers to: every path with its method, its handler and its dialect."""

from collections.abc import Mapping

from .backends import Backends
from .generate import Patience
from .handlers.answers import CHAT, COMPLETIONS, MESSAGES, Counts, Generates
from .handlers.health import CheckHealth
from .handlers.measures import RERANK, SCORE, Embeds, Ranks
from .handlers.models import GetModel, ListModels
from .routes import Route


def endpoints(
    backends: Backends, longest: int, patience: Patience
) -> Mapping[tuple[str, str], Route]:
    """`longest` caps the tokens of an answer."""
    chat, completions, messages = (
        Generates(dialect, backends, longest, patience) for dialect in (CHAT, COMPLETIONS, MESSAGES)
    )
    ranks = Ranks(RERANK, backends)
    return {
        ("POST", "/v1/chat/completions"): Route(chat),
        ("POST", "/v1/completions"): Route(completions),
        ("POST", "/v1/messages"): Route(messages, "anthropic"),
        ("POST", "/v1/messages/count_tokens"): Route(Counts(backends), "anthropic"),
        ("POST", "/v1/embeddings"): Route(Embeds(backends)),
        ("POST", "/v1/rerank"): Route(ranks),
        ("POST", "/v2/rerank"): Route(ranks),
        ("POST", "/v1/score"): Route(Ranks(SCORE, backends)),
        ("GET", "/v1/models"): Route(ListModels(backends)),
        ("GET", "/v1/models/{id}"): Route(GetModel(backends)),
        ("GET", "/health"): Route(CheckHealth(backends), public=True),
    }
