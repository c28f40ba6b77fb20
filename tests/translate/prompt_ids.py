"""What our renderer makes of a conversation for a family's stand-in checkpoint."""

import json
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bessemer.engine.text.loading import load_tokenizer
from bessemer.engine.text.tokenizer import Tokenizer
from bessemer.translate.chat import Chat, Message, Tool, ToolCall
from bessemer.translate.parsers.formats import choose
from bessemer.translate.parts import Text, said
from bessemer.translate.renderer import Renderer
from bessemer.translate.template import ChatTemplate
from bessemer.translate.template_source import pick
from tests.translate.conversations import Conversation
from tests.translate.families import FAMILIES
from tests.translate.golden import NOW
from tests.translate.prompting import Prompter
from tests.translate.stand_ins import save


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint's prompts; its template's clock stands still."""

    prompter: Prompter

    @classmethod
    def load(cls, directory: Path) -> "Checkpoint":
        tokenizer = load_tokenizer(directory)
        source = pick(tokenizer.chat_template or "") or ""
        template = ChatTemplate(source, tokenizer.special_tokens, lambda: NOW)
        format_ = choose(source, tokenizer.special_names.values())
        return cls(Prompter(Renderer(tokenizer, format_, source), template))

    @property
    def tokenizer(self) -> Tokenizer:
        return self.prompter.tokenizer

    def ids(self, chat: Chat) -> list[int]:
        return self.prompter.conversation(chat).tokens


@cache
def checkpoint(family: str) -> Checkpoint:
    """Return a family's stand-in checkpoint."""
    with tempfile.TemporaryDirectory() as directory:
        save(FAMILIES[family], family, Path(directory))
        return Checkpoint.load(Path(directory))


def prompt_ids(family: str, chat: Chat) -> list[int]:
    """Return the token ids that a model of this family is given for the conversation."""
    return checkpoint(family).ids(chat)


def chat_of(conversation: Conversation) -> Chat:
    """Return a conversation as the dialects decode it."""
    return Chat(
        "m",
        tuple(map(_message, conversation.messages)),
        template=conversation.kwargs,
        continue_final=conversation.continue_final,
        tools=tuple(Tool(**tool["function"]) for tool in conversation.tools),
    )


def _message(message: dict[str, Any]) -> Message:
    content = message["content"]
    is_text = isinstance(content, str)
    return Message(
        message["role"],
        said(content) if is_text else tuple(Text(part["text"]) for part in content),
        reasoning=message.get("reasoning_content"),
        name=message.get("name"),
        calls=tuple(map(_call, message.get("tool_calls", ()))),
        result_of=message.get("tool_call_id"),
        in_parts=not is_text,
    )


def _call(call: dict[str, Any]) -> ToolCall:
    function = call["function"]
    arguments = json.dumps(function["arguments"], ensure_ascii=False)
    return ToolCall(call["id"], function["name"], arguments)
