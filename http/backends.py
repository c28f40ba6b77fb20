"""Which model answers to a name, what it is for, and all that is needed to speak with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..engine.request import Refusal
from ..engine.sentence import Purpose
from ..engine.tokenizer import Tokenizer
from ..translate.template import ChatTemplate
from .fleet import Worker

Measure = Literal["embed", "rerank"]
# What a model of each purpose does, and where it is asked to.
DOES: Mapping[Purpose, tuple[str, str]] = {
    "generate": ("writes answers", "/v1/chat/completions"),
    "embed": ("embeds texts", "/v1/embeddings"),
    "rerank": ("ranks documents", "/v1/rerank"),
}


@dataclass(frozen=True, slots=True)
class Served:
    """A model served by a worker of our own; `created` is in Unix seconds."""

    name: str
    created: int
    worker: Worker


@dataclass(frozen=True, slots=True)
class Local(Served):
    """One that writes answers."""

    tokenizer: Tokenizer
    template: ChatTemplate


@dataclass(frozen=True, slots=True)
class Encoder(Served):
    """One that makes vectors or scores; its worker tokenizes."""

    purpose: Measure


class Backends:
    """The models by name; an exact name wins, else the last part of an id if it names just one."""

    def __init__(self, models: Mapping[str, Served]) -> None:
        self.models = dict(models)

    def writer(self, name: str) -> Local:
        """As find; refuses a model that writes no answers."""
        found = self.find(name)
        if isinstance(found, Local):
            return found
        raise _other_purpose(found)

    def encoder(self, name: str, purpose: Measure) -> Encoder:
        """As find; refuses a model of another purpose."""
        found = self.find(name)
        if isinstance(found, Encoder) and found.purpose == purpose:
            return found
        raise _other_purpose(found)

    def find(self, name: str) -> Served:
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


def purpose_of(model: Served) -> Purpose:
    return model.purpose if isinstance(model, Encoder) else "generate"


def _other_purpose(model: Served) -> Refusal:
    does, where = DOES[purpose_of(model)]
    message = f"The model {model.name!r} {does} and does nothing else; ask it at {where}."
    return Refusal(400, "unsupported_model", message, "model")


def _short(name: str) -> str:
    return name.rpartition("/")[2].lower()
