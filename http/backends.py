"""What answers for a model, here or elsewhere, and which of them answers to a name."""

from collections.abc import AsyncGenerator, Mapping
from typing import ClassVar, Protocol

from msgspec import Struct

from ..engine.embedding.sentence_transformers import Purpose
from ..engine.memory import Plan
from ..engine.request import Refusal, StepReport
from ..translate.chat import Ask, Chat, Event
from ..translate.openai_embeddings import Embedding, Vectors
from ..translate.rerank import Ranking, Scores

# What a model of each purpose does, and where it is asked to.
DOES: Mapping[Purpose, tuple[str, str]] = {
    "generate": ("writes answers", "/v1/chat/completions"),
    "embed": ("embeds texts", "/v1/embeddings"),
    "rerank": ("ranks documents", "/v1/rerank"),
}


class Status(Struct, frozen=True):
    """How a model is: `context` in tokens, `seconds` from start to readiness, as far as known."""

    ready: bool
    context: int | None = None
    model_type: str = ""
    plan: Plan | None = None
    seconds: float = 0.0
    report: StepReport | None = None  # of the latest step


class Backend(Protocol):
    """A model behind one name; `created` is in Unix seconds.

    What it cannot do, it refuses. Closing or cancelling an answer gives it up behind it too.
    """

    purpose: ClassVar[Purpose]

    @property
    def name(self) -> str: ...

    @property
    def created(self) -> int: ...

    def events(self, ask: Ask) -> AsyncGenerator[Event, None]:
        """Started, then deltas and a Finish for each choice, then Done; a Refusal at any time."""
        ...

    async def count(self, chat: Chat) -> int:
        """How many tokens the prompt of a conversation has, also where they are too many."""
        ...

    async def embed(self, ask: Embedding) -> Vectors: ...

    async def score(self, ask: Ranking) -> Scores: ...

    def status(self) -> Status: ...

    def interrupt(self, refusal: Refusal) -> None:
        """End all that is under way with this refusal."""
        ...


class Backends:
    """The models by name; an exact name wins, else the last part of an id if it names just one."""

    def __init__(self, models: Mapping[str, Backend]) -> None:
        self.models = dict(models)

    def find(self, name: str) -> Backend:
        """The model of this name; refuses an unknown one with a list of the known ones."""
        if name in self.models:
            return self.models[name]
        short = [model for full, model in self.models.items() if _short(full) == _short(name)]
        if len(short) == 1:
            return short[0]
        known = ", ".join(sorted(self.models))
        raise Refusal(
            404,
            "model_not_found",
            f"There is no model {name!r} here; this server has: {known}.",
            "model",
        )


def other_purpose(model: Backend) -> Refusal:
    does, where = DOES[model.purpose]
    message = f"The model {model.name!r} {does} and does nothing else; ask it at {where}."
    return Refusal(400, "unsupported_model", message, "model")


def _short(name: str) -> str:
    return name.rpartition("/")[2].lower()
