"""A model's way from requests to prompts in one process: guarded, rendered, tokenized."""

from dataclasses import dataclass

from bessemer.engine.text.tokenizer import Tokenizer
from bessemer.translate.chat import Chat, GenerateRequest
from bessemer.translate.parsers.formats import choose
from bessemer.translate.parsers.parser import AnswerFormat
from bessemer.translate.renderer import Prompt, Renderer
from bessemer.translate.template import ChatTemplate

MANY = 10**9


@dataclass(frozen=True, slots=True)
class Prompter:
    renderer: Renderer
    template: ChatTemplate

    @property
    def tokenizer(self) -> Tokenizer:
        return self.renderer.tokenizer

    def prompts(
        self, request: GenerateRequest, context: int = MANY, vocabulary: int = MANY
    ) -> list[Prompt]:
        if not isinstance(request, Chat):
            return self.renderer.prompts(request, context, vocabulary)
        chat = self.renderer.guarded(request)
        text = self.template.render(chat)
        return [self.renderer.conversation(chat, text, context, vocabulary)]

    def conversation(self, chat: Chat) -> Prompt:
        (prompt,) = self.prompts(chat)
        return prompt


def prompter(
    tokenizer: Tokenizer,
    source: str | None,
    parse_special: bool = False,
    format: AnswerFormat | None = None,
) -> Prompter:
    """Return the prompter of a model with this template, which has an answer format of its own."""
    format = format or choose(source or "", tokenizer.special_names.values())
    template = ChatTemplate(source, tokenizer.special_tokens)
    return Prompter(Renderer(tokenizer, format, source or "", parse_special), template)
