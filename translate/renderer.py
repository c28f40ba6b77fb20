"""One model's renderer: rendered conversations and bare texts to prompts by its tokenizer."""

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain

from ..engine.request import AnswerMarks, Constraint, Refusal, Thought, ThoughtBudget
from ..engine.text.control import ControlTokens, control_tokens
from ..engine.text.detokenizer import AnswerDetokenizer
from ..engine.text.prompt_encoder import PromptEncoder
from ..engine.text.specials import Specials
from ..engine.text.tokenizer import Tokenizer
from .chat import Chat, Completion, Reasoning, Tool
from .guard import ChatGuard, offered, reading
from .infill import InfillFormat, infill_format, joined
from .parsers.parser import AnswerFormat, AnswerParser, PlainParser
from .parsers.tool_formats import AUTO, ToolFormat, choose_tools
from .parsers.tool_grammar import tool_constraint
from .parsers.tools import CallReader, ToolParser
from .parts import Text
from .reasoning import is_limited, settled
from .template_source import LONGEST

ParserFactory = Callable[[int, Specials], AnswerParser]
ANYTHING = Reasoning()
INNER = "\u263a"  # a text that no word begins with: what follows it is encoded as inside a text
TOOLS = re.compile(r"\btools\b")  # the variable of chat templates
COUNTED = 2  # contexts: the tokens of a prompt of more than that are not even counted


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt: its ids, what parses an answer to it (by choice), its text where one is read on.

    `thought`: how the answer marks what it thinks, if it does. `goes_on`: the answer goes on in the
    prompt's text. `call_marks` are those of calls that the answer may make. `ends`: ids that end
    the answer, beside the model's own. `constraint`: what it is held to, of a conversation.
    `closing`: what closes its thoughts where they are limited, as `asked`.
    """

    tokens: list[int]
    parser: ParserFactory = PlainParser
    thought: AnswerMarks | None = None
    text: str = ""
    echo: bool = False
    goes_on: bool = False
    call_marks: tuple[str, ...] = ()
    ends: tuple[int, ...] = ()
    constraint: Constraint | None = None
    closing: ThoughtBudget | None = None
    asked: Reasoning = ANYTHING


@dataclass(frozen=True, eq=False)
class Renderer:
    """A renderer of requests as prompts, which refuses what cannot fit `context` tokens.

    Control tokens are what the template writes, and what a bare prompt spells unless its request
    says otherwise; with `parse_special` also what messages spell.
    """

    tokenizer: Tokenizer
    format: AnswerFormat
    source: str = ""  # of the chat template
    parse_special: bool = False
    tool_parser: str = AUTO  # the name of a tool format

    def prepare(self) -> None:
        """Build the tables that the first request would have to wait for."""
        _ = self.tokenizer.longest, self.tool_format, self.guarded(Chat("", ()))
        self.tokenizer.decode(self._encoder.continued("a"))

    def limit(self, context: int) -> int:
        """Return the characters at which a template is stopped, whatever it is about to write."""
        if context >= LONGEST:  # tokens have one character at least
            return LONGEST
        return min(max(context * self.tokenizer.longest, 2**20), LONGEST)

    def prompts(self, request: Completion, context: int, vocabulary: int) -> list[Prompt]:
        """Return a request's prompts; refuse ids that a model with that vocabulary lacks."""
        prompts = [self._bare(prompt, request, context) for prompt in request.prompts]
        for prompt in prompts:
            self.refuse_unknown(prompt.tokens, vocabulary, "prompt")
        return prompts

    def guarded(self, chat: Chat, context: int = sys.maxsize) -> Chat:
        """Return a conversation that may be rendered: no text in it can become a control token.

        Its template is told what is asked of thoughts, as far as it knows of that. One that is
        longer than what its template may write is refused before.
        """
        parts = chain.from_iterable(turn.content for turn in chat.messages)
        length = sum(len(part.text) for part in parts if isinstance(part, Text))
        if length > self.limit(context):
            self._refuse_hopeless(length, context)
        chat = settled(chat, self.format, self._names)
        return chat if self.parse_special else self._guard.guarded(chat)

    def conversation(self, chat: Chat, text: str, context: int, vocabulary: int) -> Prompt:
        """Return the prompt of a guarded conversation, which `text` is by the model's template."""
        self._refuse_hopeless(len(text) - (text.count(chat.guard) if chat.guard else 0), context)
        settled = self._control.settled(text, chat.guard)
        most = COUNTED * context
        tokens = _counted(lambda: self._encoder.continued(*settled, chat.client, most), context)
        if not tokens:
            message = "The chat template makes no prompt of this conversation: it is empty."
            raise Refusal(400, "invalid_conversation", message, "messages")
        if chat.must_think and not self.thinks:
            raise Refusal(400, "unsupported", "This model does not support thinking.", "think")
        tokens = self._continued(chat.before, tokens)
        self.refuse_unknown(tokens, vocabulary, "context" if chat.before else "messages")
        marks, tools = self.format.marks(text, chat), offered(chat)
        names = self.tokenizer.special_names.items()
        return Prompt(
            tokens,
            self._caller(chat, tools, marks) if tools else partial(self._parser, marks),
            marks,
            goes_on=chat.continue_final,
            call_marks=self.tool_format.marks if tools else (),
            constraint=self._constraint(chat, tools),
            ends=tuple(token for token, name in names if name in self.format.ends),
            closing=self._closing(chat, bool(tools), vocabulary),
            asked=chat.reasoning,
        )

    def tokens(self, text: str, add_special: bool, parse_special: bool, context: int) -> list[int]:
        """Return a text's tokens, as they are or as those of a whole text."""
        self._refuse_hopeless(len(text), COUNTED * context)
        tokens = self._bare_tokens if add_special else self._text_tokens
        return tokens(text, parse_special, COUNTED * context)

    def text_of(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, in which control tokens have their names."""
        shown = Specials(self.tokenizer.special_names, shown=True)
        stream = AnswerDetokenizer(self.tokenizer.detokenizer(), shown)
        return "".join([*map(stream.add, tokens), stream.flush()])

    def _parser(self, marks: AnswerMarks, choice: int, specials: Specials) -> AnswerParser:
        return self.format.parser(choice, marks, specials)

    def _closing(self, chat: Chat, calling: bool, vocabulary: int) -> ThoughtBudget | None:
        """Return what closes thoughts that are limited, if the model has a way to."""
        texts, encode = self.format.closing, self.tokenizer.encode_within
        if texts is None or not is_limited(chat.reasoning):
            return None
        begin = texts.calls.get(self.tool_format.name) if calling else None
        must_call = chat.tool_choice.mode == "required"
        first = texts.text if begin is None else begin if must_call else ""
        later = texts.text if begin is None or not must_call else begin
        line = encode(texts.line) if texts.line else []
        closing, again = (encode(texts.end + each) for each in (first, later))
        if max(*line, *closing, *again) >= vocabulary:
            return None  # the model knows no such marks, so it has no thoughts
        ids = [*line, *closing], [*line, *again]
        return ThoughtBudget(tokens=0, closing=ids[0], again=ids[1], line=len(line))

    @cached_property
    def _names(self) -> frozenset[str]:
        """The names that the chat template may read."""
        return frozenset(re.findall(r"\w+", self.source))

    def _constraint(self, chat: Chat, tools: Sequence[Tool]) -> Constraint | None:
        """Return what the answer is held to because of the tools that it may call."""
        specials = {name: token for token, name in self.tokenizer.special_names.items()}
        return tool_constraint(chat, tools, self.tool_format, specials) if tools else None

    def _caller(self, chat: Chat, tools: Sequence[Tool], marks: AnswerMarks) -> ParserFactory:
        """Return what parses an answer that may call tools."""
        parallel, text = chat.tool_choice.parallel, self.format.calling or self.format.parser

        def parser(choice: int, specials: Specials) -> AnswerParser:
            format = self.tool_format.encoded(specials)
            reader = CallReader(choice, format, tools, chat.call_prefix, parallel)
            return ToolParser(text(choice, marks, specials), reader)

        return parser

    @property
    def thinks(self) -> bool:
        """Whether the model's template or its tokenizer knows of thoughts."""
        known = {*self.tokenizer.special_names.values()}
        switches = any(each in self.source for each in ("enable_thinking", "reasoning_effort"))
        return (
            switches
            or not self._marks
            or any(mark in known or mark in self.source for mark in self._marks)
        )

    @property
    def shows_tools(self) -> bool:
        """Whether the chat template knows of tools, which others are told of as text."""
        return TOOLS.search(self.source) is not None

    @cached_property
    def infill(self) -> InfillFormat | None:
        """The way to fill in before a suffix, if the tokenizer has marks for it."""
        return infill_format(self.tokenizer.id_of)

    @cached_property
    def tool_format(self) -> ToolFormat:
        """The way in which the model calls tools."""
        names = self.tokenizer.special_names.values()
        return choose_tools(self.source, names, self.tool_parser)

    @cached_property
    def _marks(self) -> tuple[str, ...]:
        marks = self.format.marks("", Chat("", ()))
        return (marks.open, marks.close) if isinstance(marks, Thought) else ()

    @cached_property
    def _control(self) -> ControlTokens:
        return control_tokens(self.tokenizer, self.source, self._marks)

    @cached_property
    def _guard(self) -> ChatGuard:
        return ChatGuard(self._control, reading(self._marks, self._control, self.source))

    @cached_property
    def _encoder(self) -> PromptEncoder:
        return PromptEncoder(self.tokenizer, self._control)

    def _continued(self, before: Sequence[int], tokens: list[int]) -> list[int]:
        """Return a prompt after earlier tokens, in which a text does not begin anew."""
        if before and tokens[0] == self._start:
            tokens = tokens[1:]
        return [*before, *tokens]

    @cached_property
    def _start(self) -> int | None:
        """The id that each text begins with, if any does."""
        start = self.tokenizer.id_of(self.tokenizer.special_tokens.get("bos_token"))
        return start if start in self.tokenizer.encode("")[:1] else None

    def _filled(self, prompt: str | tuple[int, ...], request: Completion, context: int) -> Prompt:
        """Return the prompt for the text between a prefix and a suffix. Raises Refusal."""
        format, suffix = self.infill, request.suffix or ""
        if format is None:
            message = "This model's tokenizer has no marks to fill in before a suffix."
            raise Refusal(400, "unsupported", message, "suffix")
        self._refuse_hopeless(len(prompt) + len(suffix), context)
        most, special = COUNTED * context, request.parse_special
        if isinstance(prompt, str):
            prompt = tuple(self._text_tokens(prompt, special, most))
        ids = joined(format, self.tokenizer.id_of, prompt, self._inner(suffix, special, most))
        ends = tuple(token for each in format.ends if (token := self.tokenizer.id_of(each)))
        return Prompt([*(() if self._start is None else (self._start,)), *ids], ends=ends)

    def _text_tokens(self, text: str, special: bool, most: int) -> list[int]:
        """Return a text's tokens, without what is put around a whole one."""
        if special:
            return self.tokenizer.encode(text, special=False, most=most)
        (text,), guard = self._control.guard_all([text])
        return self._encoder.encode(*self._control.settled(text, guard), special=False, most=most)

    def _inner(self, text: str, special: bool, most: int) -> list[int]:
        """Return the tokens of a text that another goes before, without SentencePiece's space."""
        first = self.tokenizer.encode(INNER, special=False)
        name = self.tokenizer.encoding.id_to_token(first[0]) if text and first else None
        if name is not None and name.startswith("\u2581"):
            return self._text_tokens(INNER + text, special, most)[len(first) :]
        return self._text_tokens(text, special, most)

    def _bare(self, prompt: str | tuple[int, ...], request: Completion, context: int) -> Prompt:
        if request.suffix is not None:
            return self._filled(prompt, request, context)
        if isinstance(prompt, str) or not prompt:
            text = prompt if isinstance(prompt, str) else ""
            self._refuse_hopeless(len(text), context)
            about = text, request.parse_special, COUNTED * context
            tokens = _counted(lambda: self._bare_tokens(*about), context)
            tokens = tokens or [self._document_start()]
            return Prompt(tokens, text=text, echo=request.echo, goes_on=True)
        return Prompt(
            list(prompt), text=self._text_of(prompt, request), echo=request.echo, goes_on=True
        )

    def _bare_tokens(self, prompt: str, parse_special: bool, most: int) -> list[int]:
        if parse_special:
            return self.tokenizer.encode(prompt, most=most)
        (text,), guard = self._control.guard_all([prompt])
        return self._encoder.encode(*self._control.settled(text, guard), most=most)

    def _text_of(self, tokens: tuple[int, ...], request: Completion) -> str:
        """Return the whole characters of a prompt of ids; a last half one belongs to the answer."""
        options = request.options
        if not request.echo and options.logprobs is None:
            return ""
        shown = Specials(self.tokenizer.special_names, shown=not options.skip_special_tokens)
        stream = AnswerDetokenizer(self.tokenizer.detokenizer(), shown)
        return "".join(map(stream.add, tokens))

    def refuse_unknown(self, tokens: Sequence[int], vocabulary: int, field: str) -> None:
        """Refuse an id that the model lacks, though its tokenizer may know a token of it."""
        if (wrong := max(tokens)) < vocabulary:
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

    def _refuse_hopeless(self, length: int, context: int) -> None:
        """Spare the tokenizer a text that cannot fit however well it compresses."""
        if length > context and length > context * self.tokenizer.longest:
            raise Refusal(
                400,
                "context_length_exceeded",
                f"The prompt has {length} characters, far more than this model's context of "
                f"{context} tokens can hold: shorten it.",
                sizes=(-(-length // self.tokenizer.longest), context),
            )


def _counted(encode: Callable[[], list[int]], context: int) -> list[int]:
    """Return a prompt's tokens; refuse those that were not even counted."""
    try:
        return encode()
    except Refusal as refusal:
        if refusal.code != "context_length_exceeded":
            raise
        most = COUNTED * context
        message = (
            f"The prompt has more than {most} tokens, but this model's context is {context} "
            "tokens: shorten it."
        )
        raise Refusal(400, refusal.code, message, sizes=(most + 1, context)) from None
