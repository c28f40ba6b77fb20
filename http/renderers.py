"""A model's renderer, from its files: tokenizer, chat template and how its answers are marked."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..engine.embedding.sentence_transformers import DescriptionError, Purpose, describe
from ..engine.text.loading import load_tokenizer
from ..engine.text.tokenizer import Tokenizer, TokenizerError
from ..translate.parsers.formats import choose
from ..translate.renderer import Renderer
from ..translate.template_source import pick
from .config import UsageError
from .hub import at_home
from .template_host import TemplateHost


def chat_templates(entries: Sequence[str], models: Mapping[str, Path]) -> dict[str, str]:
    """Read the templates that a user gives, FILE for all models or NAME=FILE. Raises UsageError."""
    templates: dict[str, str] = {}
    for entry in sorted(entries, key=lambda entry: entry.partition("=")[0] in models):
        name, _, file = entry.partition("=")
        named = name in models and bool(file)
        path = at_home(file if named else entry)
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise UsageError(
                f"the chat template {path} cannot be read ({reason}); name a file, or NAME=FILE "
                f"with NAME one of {', '.join(models)}"
            ) from None
        templates |= dict.fromkeys([name] if named else models, text)
    return templates


def read_tokenizer(name: str, path: Path) -> tuple[Purpose, Tokenizer | None]:
    """Read what a model is for, and the tokenizer of one that writes. Raises UsageError."""
    try:
        purpose = describe(path).purpose
        return purpose, load_tokenizer(path) if purpose == "generate" else None
    except (DescriptionError, TokenizerError) as error:
        raise UsageError(f"{name}: {error}") from None


async def open_renderer(
    name: str,
    tokenizer: Tokenizer,
    own: str | None,
    host: TemplateHost,
    parse_special: bool,
    told: bool = False,
) -> Renderer:
    """Start the process of a chat template, the user's `own` if there is one; `told` as there.

    Raises UsageError where the user's cannot be used.
    """
    source = own if own is not None else tokenizer.chat_template
    text = None if source is None else pick(source)
    fault = await host.start(text, tokenizer.special_tokens, told or own is not None)
    if fault and own is not None:
        raise UsageError(f"{name}: its --chat-template cannot be used: {fault}")
    format = choose(text or "", tokenizer.special_names.values())
    return Renderer(tokenizer, format, text or "", parse_special)
