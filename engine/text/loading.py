"""A checkpoint's tokenizer and chat templates, read from its files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import tokenizers

from ..checkpoint.json_files import read_object
from .tokenizer import ChatTemplates, Tokenizer, TokenizerError


def _special_tokens(settings: dict[str, Any]) -> dict[str, str]:
    """Return special tokens' texts by name; each is a string or an object that holds one."""
    values = {name: value for name, value in settings.items() if name.endswith("_token")}
    texts = {n: v.get("content") if isinstance(v, dict) else v for n, v in values.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _chat_template(directory: Path, value: Any) -> ChatTemplates:
    try:
        templates: ChatTemplates = msgspec.convert(value, ChatTemplates)
    except msgspec.ValidationError as error:
        where = directory / "tokenizer_config.json"
        raise TokenizerError(f"{where}: chat_template makes no sense ({error})") from None
    return templates


def _templates(directory: Path, settings: dict[str, Any]) -> Any:
    """Read chat templates; their own files count for more than tokenizer_config.json."""
    files = {"default": directory / "chat_template.jinja"}
    files |= {
        path.stem: path for path in sorted(directory.glob("additional_chat_templates/*.jinja"))
    }
    sources = {name: path.read_text("utf-8") for name, path in files.items() if path.is_file()}
    if sources.keys() == {"default"}:
        return sources["default"]
    if sources:
        return [{"name": name, "template": source} for name, source in sources.items()]
    processor = read_object(directory / "chat_template.json", TokenizerError) or {}
    return settings.get("chat_template") or processor.get("chat_template")


def load_tokenizer(
    directory: Path, prepare: Callable[[tokenizers.Tokenizer], None] | None = None
) -> Tokenizer:
    """Read tokenizer.json, what names its special tokens, and chat templates from a checkpoint.

    `prepare` changes the tokenizer while nobody else has it.
    """
    path = directory / "tokenizer.json"
    if not path.is_file():
        raise TokenizerError(
            f"{directory} has no tokenizer.json; convert its tokenizer with transformers' "
            "AutoTokenizer.save_pretrained"
        )
    try:
        encoding = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - tokenizers raises bare Exception
        raise TokenizerError(f"{path} cannot be read ({error}); fetch it again") from None
    if prepare is not None:
        prepare(encoding)
    settings = read_object(directory / "tokenizer_config.json", TokenizerError) or {}
    older = read_object(directory / "special_tokens_map.json", TokenizerError) or {}
    special = _special_tokens(older) | _special_tokens(settings)
    template = _chat_template(directory, _templates(directory, settings))
    return Tokenizer(encoding, special, template, settings)
