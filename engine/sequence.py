"""One request in the engine: its tokens, how far they are computed, the pages that it holds."""

from array import array
from bisect import bisect_left
from dataclasses import dataclass, field

import mlx.core as mx

from .grammar.answer_grammar import AnswerGrammar
from .logit_edits import LogitEdits
from .prefix_cache import Node
from .request import Request
from .text.answer_text import AnswerText
from .text_vector import TextVector


@dataclass(slots=True)
class Holdings:
    """The pages and the state slot of a running sequence; the pager alone gives and takes them.

    `tables` has a list for each cache group, by page: the tree's for those that `path` goes
    through, private ones after it, and 0 before `firsts`, which the group does not see any more.
    """

    tables: list[list[int]] = field(default_factory=list)
    firsts: list[int] = field(default_factory=list)
    path: list[Node] = field(default_factory=list)
    state_slot: int = 0  # 0 where no layer keeps a state
    begun: int = 0  # tokens that the sequence had when it last began to run
    saved: int = 0  # tokens that the tree had when it began, or when it last got the state
    mark: Node | None = None  # where the tree got it while answering


@dataclass(frozen=True, slots=True, eq=False)
class Unread:
    """A token that was drawn and that the host has not read yet: one of (tokens,) int32."""

    tokens: mx.array
    index: int


@dataclass(slots=True, eq=False)
class Sequence:
    """A request in the engine: `tokens` are prompt and answer, the first `computed` are cached.

    `computed` and `pages` are the pager's to write; a sequence that waits has none. One more token
    may be on the device, `unread`: it counts like the others, but nobody knows it yet.
    """

    request: Request
    tokens: "array[int]"
    text: AnswerText | None = None  # where stop strings, or a thought, have to be looked for
    salt: tuple[str, ...] = ()  # what must be alike, beside tokens, to share pages
    max_len: int = 0  # the most tokens that it may come to have, where a rope asks for that
    room: int = 2**31  # the most tokens, prompt and answer, that there is room for
    unread: Unread | None = None
    computed: int = 0
    cached: int = -1  # tokens found in the prefix cache when first admitted
    reported: int = 1  # prompt positions whose logprobs are out; the first token has none
    pages: Holdings = field(default_factory=Holdings)
    edits: LogitEdits | None = None  # None: its logits stay as they are
    grammar: AnswerGrammar | None = None  # of its constraint, once that is compiled
    vector: TextVector | None = None  # of one that embeds
    # A running prompt whose pages it waits for, and the tokens in full pages that both begin with.
    leader: "tuple[Sequence, int] | None" = None

    @classmethod
    def of(
        cls,
        request: Request,
        text: AnswerText | None = None,
        max_len: int = 0,
        kind: str = "",
        room: int = 2**31,
    ) -> "Sequence":
        """Return the sequence of a request; prefixes are shared only within one `kind`."""
        tokens = array("I", request.tokens)
        return cls(request, tokens, text, (request.salt, kind), max_len, room)

    @property
    def length(self) -> int:
        return len(self.tokens) + (self.unread is not None)

    @property
    def pending(self) -> int:
        """Count the tokens to be computed: none once the last that there may be is drawn."""
        return 0 if self.unread is not None and self.is_full else self.length - self.computed

    @property
    def generated(self) -> int:
        return self.length - len(self.request.tokens)

    @property
    def is_full(self) -> bool:
        """Return whether the answer has as many tokens as were asked for, or as fit."""
        return self.generated >= self.request.max_tokens or self.length >= self.room

    @property
    def forced(self) -> int | None:
        """The id that the next token has to be, to close a thought; None: it may be another."""
        meter = None if self.text is None else self.text.meter
        return meter.forced[0] if meter is not None and meter.forced else None

    @property
    def is_edited(self) -> bool:
        """Return whether what may be drawn of it depends on the tokens before."""
        if self.edits is not None or self.grammar is not None:
            return True
        return self.text is not None and self.text.meter is not None and self.text.meter.is_due

    @property
    def is_shared(self) -> bool:
        """Return whether it takes pages from the tree, and gives its own: texts only pass through.

        A vector is made of all tokens' hidden states, which the tree has not.
        """
        return not self.request.embeds

    @property
    def is_prepared(self) -> bool:
        """Return whether it may run: a grammar that it is held to is compiled."""
        return self.grammar is not None or self.request.constraint is None

    def page_key(self, index: int, size: int) -> bytes:
        """Return the key of page `index`, of `size` tokens: what distinguishes it from others."""
        return self.tokens[index * size : (index + 1) * size].tobytes()

    def alike(self, other: "Sequence", count: int) -> bool:
        """Return whether the two could share the pages of their first `count` tokens."""
        return self.salt == other.salt and self.tokens[:count] == other.tokens[:count]

    def common_pages(self, other: "Sequence", size: int) -> int:
        """Count the first pages, of `size` tokens, that the two could share."""
        full = min(len(self.tokens), len(other.tokens)) // size
        return bisect_left(range(full), True, key=lambda i: not self.alike(other, (i + 1) * size))
