"""The chat template of an embedding or reranking model, into which texts are put by role."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from ..sandbox import FAULTS, sandbox
from ..text.tokenizer import ChatTemplates, Tokenizer
from .sentence_transformers import DescriptionError, Modality

Turns = Sequence[tuple[str, str]]  # roles, and what is said in them
Template = Callable[[Turns], str]  # a model's chat template, or the recipe of its family
# Marks of a template that takes contents as lists of typed parts.
PARTS = ("content[0]", ".content[", ".type", "'type'", '"type"')


@dataclass(frozen=True, slots=True, eq=False)
class RoleTemplate:
    """A model's template for texts by role; with `parts` contents are lists of typed parts."""

    template: jinja2.Template
    special_tokens: Mapping[str, str]
    parts: bool

    def __call__(self, turns: Turns) -> str:
        messages = [
            {"role": role, "content": [{"type": "text", "text": text}] if self.parts else text}
            for role, text in turns
        ]
        return self.template.render(
            **self.special_tokens,
            messages=messages,
            tools=None,
            documents=None,
            add_generation_prompt=False,
        )


def load_chat_template(directory: Path, tokenizer: Tokenizer, modality: Modality) -> RoleTemplate:
    """Compile the chat template in a model's directory; raises DescriptionError."""
    source = _source(tokenizer.chat_template)
    if source is None:
        raise DescriptionError(f"{directory} has no chat template, and its settings ask for one")
    try:
        template = sandbox().from_string(source)
    except FAULTS as error:
        raise DescriptionError(f"{directory}: the chat template is broken ({error})") from None
    format = modality.format
    parts = any(mark in source for mark in PARTS) if format == "auto" else format == "structured"
    return RoleTemplate(template, tokenizer.special_tokens, parts)


def check_pairs(directory: Path, template: Template) -> None:
    """Refuse a template in which a query or a document is not to be found."""
    probes = (("alpha", "beta"), ("gamma", "beta"), ("alpha", "gamma"))
    try:
        texts = {template((("query", query), ("document", text))) for query, text in probes}
    except FAULTS as error:
        raise DescriptionError(
            f"{directory}: the chat template fails for a pair: {error}"
        ) from None
    if len(texts) < len(probes):
        raise DescriptionError(f"{directory}: the chat template leaves out a query or a document")


def _source(templates: ChatTemplates) -> str | None:
    if templates is None or isinstance(templates, str):
        return templates
    sources = {entry["name"]: entry["template"] for entry in templates}
    return sources.get("default") or next(iter(sources.values()), None)
