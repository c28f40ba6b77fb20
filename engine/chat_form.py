"""The text that a model is given for texts in roles: a chat template's, or a published recipe's."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Template

from .sandbox import FAULTS, sandbox
from .sentence import Modality, SentenceError
from .tokenizer import ChatTemplates, Tokenizer

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


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to ask a model that says nothing of it whether a document answers a query.

    `text` has places for an instruction, a query and a document; the score is the logit of the
    token `yes` as the next one, less that of `no`.
    """

    text: str
    instruction: str
    yes: str
    no: str

    def __call__(self, turns: Turns) -> str:
        said = {"system": self.instruction} | dict(turns)
        return self.text.format(**said)


# By model type, from the models' cards: Qwen3-Reranker's.
RECIPES: Mapping[str, Recipe] = {
    "qwen3": Recipe(
        "<|im_start|>system\n"
        "Judge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
        "<|im_start|>user\n"
        "<Instruct>: {system}\n<Query>: {query}\n<Document>: {document}<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n",
        "Given a web search query, retrieve relevant passages that answer the query",
        "yes",
        "no",
    )
}


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
