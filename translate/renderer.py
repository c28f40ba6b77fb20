"""One model's renderer: rendered conversations and bare texts to prompts by its tokenizer."""

from collections.abc import Callable
from dataclasses import dataclass

from ..engine.request import Refusal, Thought
from ..engine.tokenizer import Tokenizer
from .chat import Chat, Completion
from .parsers.parser import AnswerFormat, AnswerParser, PlainParser
from .template import LONGEST


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
    format: AnswerFormat

    def limit(self, context: int) -> int:
        """Return the characters at which a template is stopped, whatever it is about to write."""
        return min(max(context * self.tokenizer.longest, 2**20), LONGEST)

    def prompts(self, request: Completion, context: int) -> list[Prompt]:
        return [self._bare(prompt, request.echo, context) for prompt in request.prompts]

    def conversation(self, chat: Chat, text: str, context: int) -> Prompt:
        """Return the prompt of a conversation, which `text` is by the model's template."""
        self._refuse_hopeless(text, context)
        tokens = self.tokenizer.encode(text, special=False)
        if not tokens:
            message = "The chat template makes no prompt of this conversation: it is empty."
            raise Refusal(400, "invalid_conversation", message, "messages")
        thought = self.format.thought(text, chat)
        return Prompt(tokens, lambda choice: self.format.parser(choice, thought), thought)

    def _bare(self, prompt: str | tuple[int, ...], echo: bool, context: int) -> Prompt:
        if isinstance(prompt, str):
            self._refuse_hopeless(prompt, context)
            tokens = self.tokenizer.encode(prompt)
            if not tokens:
                raise Refusal(400, "invalid_value", "The prompt must not be empty.", "prompt")
            return Prompt(tokens, echo=prompt if echo else None)
        if (wrong := max(prompt)) >= self.tokenizer.size:
            raise Refusal(
                400,
                "invalid_value",
                f"{wrong} is no token id of this model; ids go from 0 to "
                f"{self.tokenizer.size - 1}.",
                "prompt",
            )
        return Prompt(list(prompt), echo=self.tokenizer.decode(prompt) if echo else None)

    def _refuse_hopeless(self, text: str, context: int) -> None:
        """Spare the tokenizer a text that cannot fit however well it compresses."""
        if len(text) > context * self.tokenizer.longest:
            raise Refusal(
                400,
                "context_length_exceeded",
                f"The prompt has {len(text)} characters, far more than this model's context of "
                f"{context} tokens can hold: shorten it.",
            )
