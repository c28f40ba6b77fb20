"""Which model answers to a name, and all that is needed to speak with it."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..engine.request import Refusal
from ..engine.tokenizer import Tokenizer
from ..translate.template import ChatTemplate
from .fleet import Worker


@dataclass(frozen=True, slots=True)
class Local:
    """A model served by a worker of our own; `created` is in Unix seconds."""

    name: str
    created: int
    worker: Worker
    tokenizer: Tokenizer
    template: ChatTemplate


class Backends:
    """The models by name; an exact name wins, else the last part of an id if it names just one."""

    def __init__(self, models: Mapping[str, Local]) -> None:
        self.models = dict(models)

    def find(self, name: str) -> Local:
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


def _short(name: str) -> str:
    return name.rpartition("/")[2].lower()
