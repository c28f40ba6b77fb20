"""The backends: what answers for a model, here or elsewhere, and which one a name means."""

from collections.abc import AsyncGenerator, Awaitable, Collection, Mapping
from typing import ClassVar, Literal, Protocol

from msgspec import Struct

from ..engine.embedding.sentence_transformers import Purpose
from ..engine.memory import Plan
from ..engine.request import GenerationDefaults, Refusal, StepReport
from ..translate.chat import Chat, Event, GenerateRequest
from ..translate.openai_embeddings import Embedding, Vectors
from ..translate.rerank import Ranking, Scores
from ..translate.tokens import Detokenize, Tokenize, Tokens
from .about import About
from .activity import Activity
from .gateway.gateway import Gateway
from .gateway.routing import Meant, Router
from .gateway.schema import NO_TABLES
from .message import HttpRequest, Reply

# What a model of each purpose does, and at which path.
DOES: Mapping[Purpose, tuple[str, str]] = {
    "generate": ("writes answers, embeds texts", "/v1/chat/completions or /v1/embeddings"),
    "embed": ("embeds texts", "/v1/embeddings"),
    "rerank": ("ranks documents", "/v1/rerank"),
}


# In Ollama's words. Tools are the models' whose chat template shows them: others are told in text.
Capability = Literal["completion", "tools", "thinking", "insert", "embedding"]

# A model is "restarting" after its process died, "not responding" while it seems to hang, and
# "down" where it will not be started anew.
ModelState = Literal["ready", "loading", "restarting", "not responding", "down"]


class Status(Struct, frozen=True):
    """A model's state, as far as known: `context` in tokens, `seconds` from start to readiness.

    `stage` says how far loading is; `retry_after` in how many seconds it should be ready;
    `why`, of a model that is down, what for.
    """

    state: ModelState
    context: int | None = None
    model_type: str = ""
    plan: Plan | None = None
    seconds: float = 0.0
    report: StepReport | None = None  # of the latest step
    stage: str = ""
    retry_after: int = 1
    why: str = ""
    slots: int = 0  # sequences that may run together
    defaults: GenerationDefaults | None = None  # its own settings

    @property
    def ready(self) -> bool:
        return self.state == "ready"


class Traits(Struct, frozen=True):
    """What a model can do, and its chat template's text; one that still loads tells of nothing."""

    capabilities: tuple[Capability, ...] = ()
    template: str = ""
    bos: str = ""  # the names of the tokens that a text begins and ends with
    eos: str = ""


class Estimate(int):
    """A number of tokens that was not counted by the model's own tokenizer."""


class Backend(Protocol):
    """A model behind one name; `created` is in Unix seconds.

    It refuses what it cannot do. Closing or cancelling an answer gives it up behind it too.
    """

    purpose: ClassVar[Purpose]

    @property
    def name(self) -> str: ...

    @property
    def created(self) -> int: ...

    @property
    def about(self) -> About | None:
        """What its files say; None where they are not read yet, or not here."""
        ...

    @property
    def traits(self) -> Traits: ...

    @property
    def activity(self) -> Activity: ...

    @property
    def relays(self) -> Collection[str]:
        """The paths whose requests it takes as they are: of another server, in its own dialect."""
        ...

    def relay(self, request: HttpRequest, path: str) -> Awaitable[Reply]:
        """Answer such a request."""
        ...

    def events(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        """Yield AnswerStarted, deltas and a Finish of each choice, then Done; may raise Refusal."""
        ...

    async def count(self, chat: Chat) -> int:
        """Return the number of tokens of a conversation's prompt, even of one that is too long."""
        ...

    async def render(self, chat: Chat) -> str:
        """Return the text of a conversation by its model's template."""
        ...

    async def tokenize(self, request: Tokenize) -> Tokens: ...

    async def detokenize(self, request: Detokenize) -> str: ...

    async def embed(self, request: Embedding) -> Vectors: ...

    async def rerank(self, request: Ranking) -> Scores: ...

    def status(self) -> Status: ...

    def interrupt(self, refusal: Refusal) -> None:
        """End all that is under way with this refusal."""
        ...


class RemoteModels(Protocol):
    """The models of other servers, as many as there are."""

    def backend(self, meant: Meant) -> Backend: ...


class Backends:
    """The models by name, and where other names lead, by its gateway.

    `remotes` are other servers' models.
    """

    def __init__(
        self,
        models: Mapping[str, Backend],
        gateway: Gateway | None = None,
        remotes: RemoteModels | None = None,
    ) -> None:
        self.models = models if isinstance(models, dict) else dict(models)
        self.gateway = gateway or Gateway(Router(NO_TABLES, self.models))
        self._remotes = remotes

    @property
    def relays(self) -> bool:
        """Whether some model may take requests as they are."""
        leads = self.gateway.router.tables.leads_elsewhere
        return leads or any(each.relays for each in self.models.values())

    def find(self, name: str, meant: Meant | None = None) -> Backend:
        """Return what is meant, or what a name means first.

        Raises Refusal for an unknown one, with the known ones that are nearest.
        """
        return self.meant(meant or Meant(self.gateway.router.decide(name).targets[0]))

    def meant(self, meant: Meant) -> Backend:
        """Return what answers. Raises Refusal for a model that is not here."""
        if meant.target.provider is not None:
            assert self._remotes is not None
            return self._remotes.backend(meant)
        if meant.target.model not in self.models:
            raise self.gateway.router.unknown(meant.target.model)
        return self.models[meant.target.model]


def other_purpose(name: str, purpose: Purpose) -> Refusal:
    does, where = DOES[purpose]
    message = f"The model {name!r} {does} and does nothing else; ask it at {where}."
    return Refusal(400, "unsupported_model", message, "model")
