"""A checkpoint's tokenizer and chat templates, read from its files."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import tokenizers

from ..checkpoint.json_files import is_gguf, not_a_file, read_object
from ..checkpoint.weight_files import CheckpointError
from ..remedies import unreadable
from .special_tokens import read_special_tokens
from .tokenizer import ChatTemplates, Tokenizer, TokenizerError
from .tokenizer_classes import find_class


def _chat_template(directory: Path, value: Any) -> ChatTemplates:
    try:
        templates: ChatTemplates = msgspec.convert(value, ChatTemplates)
    except msgspec.ValidationError as error:
        where = directory / "tokenizer_config.json"
        raise TokenizerError(f"{where}: chat_template makes no sense ({error})") from None
    return templates


def _template(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise TokenizerError(f"{path} cannot be read ({reason}); fetch it again") from None


def _templates(directory: Path, settings: dict[str, Any]) -> Any:
    """Read chat templates; their own files count for more than tokenizer_config.json."""
    files = {"default": directory / "chat_template.jinja"}
    files |= {
        path.stem: path for path in sorted(directory.glob("additional_chat_templates/*.jinja"))
    }
    sources = {name: _template(path) for name, path in files.items() if path.is_file()}
    if sources.keys() == {"default"}:
        return sources["default"]
    if sources:
        return [{"name": name, "template": source} for name, source in sources.items()]
    processor = read_object(directory / "chat_template.json", TokenizerError) or {}
    return settings.get("chat_template") or processor.get("chat_template")


def load_tokenizer(
    directory: Path,
    prepare: Callable[[tokenizers.Tokenizer], None] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Tokenizer:
    """Read a checkpoint's tokenizer and chat templates, as transformers' AutoTokenizer does.

    `prepare` changes the tokenizer while nobody else has it; `config` is config.json if read.
    """
    path = directory / "tokenizer.json"
    if not path.is_file() and not is_gguf(directory):
        raise TokenizerError(
            not_a_file(path)
            or f"{directory} has no tokenizer.json; convert its tokenizer with transformers' "
            "AutoTokenizer.save_pretrained"
        )
    try:
        encoding, special, settings = _follow(path, config)
    except TokenizerError:
        raise
    except CheckpointError as error:
        raise TokenizerError(str(error)) from None
    except OSError as error:
        raise TokenizerError(unreadable(path, error)) from None
    except Exception as error:  # noqa: BLE001 - tokenizers raises bare Exception
        where = directory if is_gguf(directory) else path
        raise TokenizerError(f"{where} cannot be read ({error}); fetch it again") from None
    if prepare is not None:
        prepare(encoding)
    template = _chat_template(directory, _templates(directory, settings))
    return Tokenizer(encoding, special, template, settings)


def _follow(
    path: Path, config: Mapping[str, Any] | None
) -> tuple[tokenizers.Tokenizer, dict[str, str], dict[str, Any]]:
    """Return a tokenizer.json's tokenizer as the files beside it want it, and what they say."""
    file, directory = _read(path), path.parent
    settings = read_object(directory / "tokenizer_config.json", TokenizerError) or {}
    if config is None:
        config = read_object(directory / "config.json", TokenizerError) or {}
    padding, settings = _undo(file, settings)
    kind, added = find_class(config, settings, file), file.get_added_tokens_decoder()
    defaults = {**padding, **kind.tokens}
    tokens = read_special_tokens(directory, settings, defaults, kind.extras, added)
    encoding = kind.rebuild(file, settings)
    tokens.add_to(encoding)
    kind.finish(encoding, tokens, settings)
    encoding.encode_special_tokens = bool(settings.get("split_special_tokens"))
    return encoding, {name: each.content for name, each in tokens.named.items()}, settings


def _read(path: Path) -> tokenizers.Tokenizer:
    if is_gguf(path.parent):
        from ..gguf.tokenizer import gguf_tokenizer

        return gguf_tokenizer(path.parent)
    path.open("rb").close()  # an OSError says more than tokenizers does of it
    return tokenizers.Tokenizer.from_file(str(path))


def _undo(
    file: tokenizers.Tokenizer, settings: dict[str, Any]
) -> tuple[dict[str, str], dict[str, Any]]:
    """Undo what a file's last user had set; return its token for padding, and its side for cuts."""
    padding, truncation = file.padding, file.truncation
    file.no_padding()
    file.no_truncation()
    side = {} if truncation is None else {"truncation_side": truncation["direction"]}
    return {} if padding is None else {"pad_token": padding["pad_token"]}, side | settings
