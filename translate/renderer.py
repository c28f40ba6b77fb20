"""One model's renderer: requests to prompts by its template, tokenizer and answer format."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from ..engine.request import Refusal, Thought
from ..engine.text.control import ControlTokens, control_tokens
from ..engine.text.prompt_encoder import PromptEncoder
from ..engine.text.tokenizer import Tokenizer
from .chat import Chat, Completion, GenerateRequest
from .guard import ChatGuard, reading
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


@dataclass(frozen=True, eq=False)
class Renderer:
    """A renderer of requests as prompts, which refuses what cannot fit `context` tokens.

    Control tokens are what the template writes, and what a bare prompt spells unless its request
    says otherwise; with `parse_special` also what messages spell.
    """

    tokenizer: Tokenizer
    template: ChatTemplate
    format: AnswerFormat
    parse_special: bool = False

    def prompts(self, request: GenerateRequest, context: int) -> list[Prompt]:
        if isinstance(request, Chat):
            return [self.conversation(request, context)]
        return [self._bare(prompt, request, context) for prompt in request.prompts]

    def conversation(self, chat: Chat, context: int) -> Prompt:
        chat = self.guarded(chat)
        return self.rendered(chat, self.template.render(chat), context)

    def guarded(self, chat: Chat) -> Chat:
        """Return a conversation that may be rendered: no text in it can become a control token."""
        return chat if self.parse_special else self._guard.guarded(chat)

    def rendered(self, chat: Chat, text: str, context: int) -> Prompt:
        """Return the prompt that the template has written for a guarded conversation."""
        self._refuse_hopeless(text.replace(chat.guard, "") if chat.guard else text, context)
        tokens = self._encoder.continued(*self._control.settled(text, chat.guard), chat.client)
        thought = self.format.thought(text, chat)
        return Prompt(tokens, lambda choice: self.format.parser(choice, thought), thought)

    @cached_property
    def _marks(self) -> tuple[str, str]:
        thought = self.format.thought("", Chat("", ()))
        return thought.open, thought.close

    @cached_property
    def _control(self) -> ControlTokens:
        return control_tokens(self.tokenizer, self.template.source, self._marks)

    @cached_property
    def _guard(self) -> ChatGuard:
        return ChatGuard(self._control, reading(self._marks, self._control, self.template.source))

    @cached_property
    def _encoder(self) -> PromptEncoder:
        return PromptEncoder(self.tokenizer, self._control)

    def _bare(self, prompt: str | tuple[int, ...], request: Completion, context: int) -> Prompt:
        echo = request.echo
        if isinstance(prompt, str):
            self._refuse_hopeless(prompt, context)
            tokens = self._bare_tokens(prompt, request.parse_special)
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

    def _bare_tokens(self, prompt: str, parse_special: bool) -> list[int]:
        if parse_special:
            return self.tokenizer.encode(prompt)
        (text,), kept = self._control.guard_all([prompt])
        return self._encoder.encode(*self._control.settled(text, kept))

    def _refuse_hopeless(self, text: str, context: int) -> None:
        """Spare the tokenizer a text that cannot fit however well it compresses."""
        if len(text) > context * self.tokenizer.longest:
            raise Refusal(
                400,
                "context_length_exceeded",
                f"The prompt has {len(text)} characters, far more than this model's context of "
                f"{context} tokens can hold: shorten it.",
            )
