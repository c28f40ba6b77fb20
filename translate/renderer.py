"""One model's renderer: rendered conversations and bare texts to prompts by its tokenizer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..engine.request import AnswerMarks, Refusal
from ..engine.text.detokenizer import AnswerDetokenizer
from ..engine.text.specials import Specials
from ..engine.text.tokenizer import Tokenizer
from .chat import Chat, Completion
from .parsers.parser import AnswerFormat, AnswerParser, PlainParser
from .template import LONGEST


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt: its ids, what parses an answer to it (by choice), its text where one is read on.

    `thought`: how the answer marks what it thinks, if it does. `goes_on`: the answer goes on in the
    prompt's text. `ends`: ids that end the answer, beside the model's own.
    """

    tokens: list[int]
    parser: Callable[[int, Specials], AnswerParser] = PlainParser
    thought: AnswerMarks | None = None
    text: str = ""
    echo: bool = False
    goes_on: bool = False
    ends: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Renderer:
    """A renderer of requests as prompts, which refuses what cannot fit `context` tokens."""

    tokenizer: Tokenizer
    format: AnswerFormat

    def limit(self, context: int) -> int:
        """Return the characters at which a template is stopped, whatever it is about to write."""
        return min(max(context * self.tokenizer.longest, 2**20), LONGEST)

    def prompts(self, request: Completion, context: int, vocabulary: int) -> list[Prompt]:
        """Return a request's prompts; refuse ids that a model with that vocabulary lacks."""
        prompts = [self._bare(prompt, request, context) for prompt in request.prompts]
        for prompt in prompts:
            self._refuse_unknown(prompt.tokens, vocabulary, "prompt")
        return prompts

    def conversation(self, chat: Chat, text: str, context: int, vocabulary: int) -> Prompt:
        """Return the prompt of a conversation, which `text` is by the model's template."""
        self._refuse_hopeless(text, context)
        tokens = self.tokenizer.encode(text, special=False)
        if not tokens:
            message = "The chat template makes no prompt of this conversation: it is empty."
            raise Refusal(400, "invalid_conversation", message, "messages")
        self._refuse_unknown(tokens, vocabulary, "messages")
        marks = self.format.marks(text, chat)
        names = self.tokenizer.special_names.items()
        return Prompt(
            tokens,
            lambda choice, specials: self.format.parser(choice, marks, specials),
            marks,
            goes_on=chat.continue_final,
            ends=tuple(token for token, name in names if name in self.format.ends),
        )

    def _bare(self, prompt: str | tuple[int, ...], request: Completion, context: int) -> Prompt:
        if isinstance(prompt, str) or not prompt:
            text = prompt if isinstance(prompt, str) else ""
            self._refuse_hopeless(text, context)
            tokens = self.tokenizer.encode(text) or [self._document_start()]
            return Prompt(tokens, text=text, echo=request.echo, goes_on=True)
        return Prompt(
            list(prompt), text=self._text_of(prompt, request), echo=request.echo, goes_on=True
        )

    def _text_of(self, tokens: tuple[int, ...], request: Completion) -> str:
        """Return the whole characters of a prompt of ids; a last half one belongs to the answer."""
        options = request.options
        if not request.echo and options.logprobs is None:
            return ""
        shown = Specials(self.tokenizer.special_names, shown=not options.skip_special_tokens)
        stream = AnswerDetokenizer(self.tokenizer.detokenizer(), shown)
        return "".join(map(stream.add, tokens))

    def _refuse_unknown(self, tokens: Sequence[int], vocabulary: int, field: str) -> None:
        """Refuse an id that the model lacks, though its tokenizer may know a token of it."""
        if (wrong := max(tokens, default=0)) < vocabulary:
            return
        text = self.tokenizer.token_bytes(wrong).decode("utf-8", "replace")
        named = f"{wrong} ({text!r})" if text else str(wrong)
        message = f"{named} is no token id of this model; ids go from 0 to {vocabulary - 1}."
        raise Refusal(400, "invalid_value", message, field)

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
