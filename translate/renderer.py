"""One model's renderer: requests to prompts by its template, tokenizer and answer format."""

from collections.abc import Callable
from dataclasses import dataclass

from ..engine.request import Refusal, Thought
from ..engine.text.tokenizer import Tokenizer
from .chat import Chat, GenerateRequest
from .parsers.parser import AnswerFormat, AnswerParser, PlainParser
from .template import ChatTemplate


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt: its ids, what parses an answer to it (by choice), the text that an echo shows.

    `thought`: how the answer marks what it thinks, if it does.
    """

    tokens: list[int]
    parser: Callable[[int], AnswerParser] = PlainParser
    thought: Thought | None = None
    echo: str | None = None


@dataclass(frozen=True, slots=True)
class Renderer:
    """A renderer of requests as prompts, which refuses what cannot fit `context` tokens."""

    tokenizer: Tokenizer
    template: ChatTemplate
    format: AnswerFormat

    def prompts(self, request: GenerateRequest, context: int) -> list[Prompt]:
        if isinstance(request, Chat):
            return [self.conversation(request, context)]
        return [self._bare(prompt, request.echo, context) for prompt in request.prompts]

    def conversation(self, chat: Chat, context: int) -> Prompt:
        text = self.template.render(chat)
        self._refuse_hopeless(text, context)
        tokens = self.tokenizer.encode(text, special=False)
        thought = self.format.thought(text, chat)
        return Prompt(tokens, lambda choice: self.format.parser(choice, thought), thought)

    def _bare(self, prompt: str | tuple[int, ...], echo: bool, context: int) -> Prompt:
        if isinstance(prompt, str) or not prompt:
            text = prompt if isinstance(prompt, str) else ""
            self._refuse_hopeless(text, context)
            tokens = self.tokenizer.encode(text) or [self._document_start()]
            return Prompt(tokens, echo=text if echo else None)
        if (wrong := max(prompt)) >= self.tokenizer.size:
            raise Refusal(
                400,
                "invalid_value",
                f"{wrong} is no token id of this model; ids go from 0 to "
                f"{self.tokenizer.size - 1}.",
                "prompt",
            )
        return Prompt(list(prompt), echo=self.tokenizer.decode(prompt) if echo else None)

    def _document_start(self) -> int:
        """Return the id that a document begins with, or else that the one before it ended with."""
        tokenizer = self.tokenizer
        names = (*map(tokenizer.special_tokens.get, ("bos_token", "eos_token")), "<|endoftext|>")
        start = next(
            (token for name in names if (token := tokenizer.id_of(name)) is not None), None
        )
        if start is None:
            problem = (
                "This model has no token for the beginning of a text, so prompt must have one."
            )
            raise Refusal(400, "invalid_value", problem, "prompt")
        return start

    def _refuse_hopeless(self, text: str, context: int) -> None:
        """Spare the tokenizer a text that cannot fit however well it compresses."""
        if len(text) > context * self.tokenizer.longest:
            raise Refusal(
                400,
                "context_length_exceeded",
                f"The prompt has {len(text)} characters, far more than this model's context of "
                f"{context} tokens can hold: shorten it.",
            )
