"""What is to be known of a chat template without what renders it, which takes long to import."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..engine.request import Refusal

if TYPE_CHECKING:  # where templates are rendered there is no tokenizer
    from ..engine.text.tokenizer import NamedTemplate

LONGEST = 2**26  # characters of a prompt, of any model


def pick(source: str | Sequence["NamedTemplate"]) -> str | None:
    """Return the template to use of tokenizer_config.json's `chat_template`, maybe several.

    One named tool_use is for conversations with tools, as in transformers.
    """
    if isinstance(source, str):
        return source
    templates = {entry["name"]: entry["template"] for entry in source}
    default = templates.get("default") or next(iter(templates.values()), None)
    tools = templates.get("tool_use")
    if default is None or tools is None or tools == default:
        return default
    return "{% if tools %}" + tools + "{% else %}" + default + "{% endif %}"


def no_template() -> Refusal:
    message = (
        "This model has no chat template, so it cannot hold a conversation; "
        "/v1/completions works with it, and --chat-template gives it one."
    )
    return Refusal(400, "no_chat_template", message, "model")


def broken(reason: str) -> Refusal:
    message = f"The model's chat template is broken ({reason}); /v1/completions works without it."
    return Refusal(500, "broken_chat_template", message)
