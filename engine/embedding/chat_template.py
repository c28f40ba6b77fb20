"""The text that a model is given for texts in roles: a chat template's."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Template

from ..sandbox import FAULTS, sandbox
from ..tokenizer import ChatTemplates, Tokenizer
from .sentence_transformers import Modality, SentenceError

Turns = Sequence[tuple[str, str]]  # roles, and what is said in them
Form = Callable[[Turns], str]
# What a template has in it that takes contents as lists of typed parts.
PARTS = ("content[0]", ".content[", ".type", "'type'", '"type"')


@dataclass(frozen=True, slots=True, eq=False)
class ChatForm:
    """`parts`: contents are lists of typed parts."""

    template: Template
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


def chat_form(directory: Path, tokenizer: Tokenizer, modality: Modality) -> ChatForm:
    """Of the chat template in a model's directory."""
    source = _source(tokenizer.chat_template)
    if source is None:
        raise SentenceError(f"{directory} has no chat template, and its settings ask for one")
    try:
        template = sandbox().from_string(source)
    except FAULTS as error:
        raise SentenceError(f"{directory}: the chat template is broken ({error})") from None
    shown = modality.format
    parts = any(mark in source for mark in PARTS) if shown == "auto" else shown == "structured"
    return ChatForm(template, tokenizer.special_tokens, parts)


def check_pairs(directory: Path, form: Form) -> None:
    """Refuses a form in which a query or a document is not to be found."""
    probes = (("alpha", "beta"), ("gamma", "beta"), ("alpha", "gamma"))
    try:
        shown = {form((("query", query), ("document", text))) for query, text in probes}
    except FAULTS as error:
        raise SentenceError(f"{directory}: the chat template fails for a pair: {error}") from None
    if len(shown) < len(probes):
        raise SentenceError(f"{directory}: the chat template leaves out a query or a document")


def _source(templates: ChatTemplates) -> str | None:
    if templates is None or isinstance(templates, str):
        return templates
    named = {entry["name"]: entry["template"] for entry in templates}
    return named.get("default") or next(iter(named.values()), None)
