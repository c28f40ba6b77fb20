"""A model's renderer, from its files: tokenizer, chat template and how its answers are marked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..engine.embedding.sentence_transformers import DescriptionError, Purpose, describe
from ..engine.text.loading import load_tokenizer
from ..engine.text.tokenizer import Tokenizer, TokenizerError
from ..translate.parsers.formats import choose
from ..translate.parsers.tool_formats import AUTO, NAMES
from ..translate.renderer import Renderer
from ..translate.template_source import pick
from .config import Config, UsageError
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


def tool_parsers(entries: Sequence[str], models: Mapping[str, Path]) -> dict[str, str]:
    """Return the formats of calls that a user names, FORMAT or NAME=FORMAT. Raises UsageError."""
    parsers: dict[str, str] = {}
    for entry in sorted(entries, key=lambda entry: entry.partition("=")[0] in models):
        model, _, name = entry.rpartition("=")
        if model and model not in models:
            raise UsageError(f"--tool-parser {entry}: the models are {', '.join(models)}")
        if name not in NAMES:
            raise UsageError(f"no tool parser is called {name!r}; there are {', '.join(NAMES)}")
        parsers |= dict.fromkeys([model] if model else models, name)
    return parsers


def read_tokenizer(name: str, path: Path) -> tuple[Purpose, Tokenizer | None]:
    """Read what a model is for, and the tokenizer of one that writes. Raises UsageError."""
    try:
        purpose = describe(path).purpose
        return purpose, load_tokenizer(path) if purpose == "generate" else None
    except (DescriptionError, TokenizerError) as error:
        raise UsageError(f"{name}: {error}") from None


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a user chose of how a model's chats are read: its own `template`, if it has one."""

    template: str | None = None
    tool_parser: str = AUTO
    parse_special: bool = False


def chosen(config: Config, models: Mapping[str, Path]) -> dict[str, Chosen]:
    """Return what was chosen for each model. Raises UsageError."""
    templates = chat_templates(config.chat_template, models)
    parsers = tool_parsers(config.tool_parser, models)
    special = config.model.parse_special
    return {name: Chosen(templates.get(name), parsers.get(name, AUTO), special) for name in models}


async def open_renderer(
    name: str, tokenizer: Tokenizer, own: Chosen, host: TemplateHost, told: bool = False
) -> Renderer:
    """Start the process of a chat template, the user's `own` if there is one; `told` as there.

    Raises UsageError where the user's cannot be used.
    """
    source = tokenizer.chat_template if own.template is None else own.template
    text, users = None if source is None else pick(source), own.template is not None
    fault = await host.start(text, tokenizer.special_tokens, told or users, own.tool_parser)
    if fault and users:
        raise UsageError(f"{name}: its --chat-template cannot be used: {fault}")
    format = choose(text or "", tokenizer.special_names.values())
    return Renderer(tokenizer, format, text or "", own.parse_special, own.tool_parser)
