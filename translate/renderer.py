"""One model's renderer: requests to prompts by its template, tokenizer and answer format."""

from collections.abc import Callable, Sequence
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

    def prompts(self, request: GenerateRequest, context: int, vocabulary: int) -> list[Prompt]:
        """Return a request's prompts; refuse ids that a model with that vocabulary lacks."""
        if isinstance(request, Chat):
            field, prompts = "messages", [self.conversation(request, context)]
        else:
            field, echo = "prompt", request.echo
            prompts = [self._bare(prompt, echo, context) for prompt in request.prompts]
        for prompt in prompts:
            self._refuse_unknown(prompt.tokens, vocabulary, field)
        return prompts

    def conversation(self, chat: Chat, context: int) -> Prompt:
        text = self.template.render(chat)
        self._refuse_hopeless(text, context)
        tokens = self.tokenizer.encode(text, special=False)
        thought = self.format.thought(text, chat)
        return Prompt(tokens, lambda choice: self.format.parser(choice, thought), thought)

    def _bare(self, prompt: str | tuple[int, ...], echo: bool, context: int) -> Prompt:
        if isinstance(prompt, str):
            self._refuse_hopeless(prompt, context)
            tokens = self.tokenizer.encode(prompt)
            if not tokens:
                raise Refusal(400, "invalid_value", "The prompt must not be empty.", "prompt")
            return Prompt(tokens, echo=prompt if echo else None)
        return Prompt(list(prompt), echo=self.tokenizer.decode(prompt) if echo else None)

    def _refuse_unknown(self, tokens: Sequence[int], vocabulary: int, field: str) -> None:
        """Refuse an id that the model lacks, though its tokenizer may know a token of it."""
        if (wrong := max(tokens, default=0)) < vocabulary:
            return
        text = self.tokenizer.token_bytes(wrong).decode("utf-8", "replace")
        named = f"{wrong} ({text!r})" if text else str(wrong)
        message = f"{named} is no token id of this model; ids go from 0 to {vocabulary - 1}."
        raise Refusal(400, "invalid_value", message, field)

    def _refuse_hopeless(self, text: str, context: int) -> None:
        """Spare the tokenizer a text that cannot fit however well it compresses."""
        if len(text) > context * self.tokenizer.longest:
            raise Refusal(
                400,
                "context_length_exceeded",
                f"The prompt has {len(text)} characters, far more than this model's context of "
                f"{context} tokens can hold: shorten it.",
            )
