"""Prompts that a context has no room for: which turns may go, and what a summary stands for."""

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, chain
from typing import TypeVar

from .chat import Chat, GenerationOptions, Message, Overflow, Shortened
from .parts import Text, said

KEPT = 6  # the newest messages, which no summary stands for
SUMMARY = 512  # tokens of a summary, and an eighth of the context, at most
ASKED = (
    "Summarize the conversation below for yourself, who will go on with it and will not see it "
    "again: facts, names, numbers, decisions, what was done, what is still to do. Be brief, and "
    "write nothing but the summary."
)
HEAD = "Summary of the earlier conversation:\n"

Found = TypeVar("Found")


def reserve(options: GenerationOptions, most: int, context: int) -> int:
    """Return the tokens that an answer gets at least: what it asks for, up to a quarter of all."""
    asked = most if options.max_tokens is None else min(options.max_tokens, most)
    return max(min(asked, context // 4), options.min_tokens)


async def first_fit(
    fits: Callable[[int], Awaitable[Found | None]], last: int, guess: int
) -> Found | None:
    """Return what comes of the least number up to `last` that fits, looked for from a guess on.

    What is larger fits too; so the steps double until it is between two numbers, and then halve.
    """
    low, high, best, step = -1, last + 1, None, 1
    at = min(max(guess, 0), last)
    while low < at < high:
        found = await fits(at)
        if found is None:
            low = at
        else:
            high, best = at, found
        if low < 0:
            at = max(high - step, 0)
        else:
            at = min(low + step, last) if best is None else (low + high) // 2
        step *= 2
    return best


@dataclass(frozen=True)
class Cuts:
    """The ways to shorten a conversation: more and more of its oldest messages go.

    Those of the system stay, the user's last one, and the newest of all; a result of a tool goes
    with its call. What is left before the user's last message begins with the user.
    """

    chat: Chat

    @cached_property
    def going(self) -> Sequence[Sequence[int]]:
        """The places of the messages that may go, the oldest first; some go together."""
        groups = _together(self.chat.messages)
        return [group for group in groups[:-1] if self._asked not in group]

    @cached_property
    def steps(self) -> Sequence[int]:
        """How many of these may go, the least first: none at all."""
        turns, asked = self.chat.messages, self._asked
        following = [group[0] for group in self.going[1:]]
        begins = (at > asked or turns[at].role == "user" for at in following)
        between = [count for count, fine in enumerate(begins, 1) if fine]
        return [0, *between, *([len(self.going)] if self.going else ())]

    def chat_at(self, step: int) -> Chat:
        gone = {*chain.from_iterable(self.going[: self.steps[step]])}
        kept = tuple(turn for at, turn in enumerate(self.chat.messages) if at not in gone)
        chat = replace(self.chat, messages=kept)
        return noted(chat, "truncate", len(gone)) if gone else chat

    def guess(self, share: float) -> int:
        """Guess the step that leaves such a share of the text, by its length."""
        lengths = [len(_spoken(turn)) for turn in self.chat.messages]
        each = (sum(lengths[at] for at in group) for group in self.going)
        gone = [*accumulate(each, initial=0)]
        return guessed([gone[count] for count in self.steps], sum(lengths), share)

    @cached_property
    def _asked(self) -> int:
        """The place of the user's last message; -1 where there is none."""
        turns = self.chat.messages
        return max((at for at, turn in enumerate(turns) if turn.role == "user"), default=-1)


def guessed(gone: Sequence[int], length: int, share: float) -> int:
    """Guess which of these rising lengths has to go, that such a share of all is left."""
    return min(bisect_left(gone, length * (1 - share)), len(gone) - 1)


def older(chat: Chat) -> tuple[Message, ...]:
    """Return the messages that a summary may stand for: none of the system's, nor the newest."""
    turns = [turn for turn in chat.messages if turn.role != "system"]
    end = len(turns) - KEPT
    while end > 0 and turns[end].role == "tool":  # its call stays with it
        end -= 1
    return tuple(turns[: max(end, 0)])


def transcript(turns: Sequence[Message], context: int) -> list[str]:
    """Return who said what, a text for each message, none of them long for such a context."""
    most = max(context // 4, 80)
    return [f"{turn.role}: {_shortened(_spoken(turn), most)}" for turn in turns]


def summary_request(chat: Chat, lines: Sequence[str], context: int) -> Chat:
    """Return the request for a summary, of the same client's and for its prefixes alone."""
    options = GenerationOptions(
        max_tokens=min(SUMMARY, max(context // 8, 1)),
        temperature=0.0,
        cache_salt=chat.options.cache_salt,
        stream=chat.options.stream,
    )
    asked = Message("system", said(ASKED)), Message("user", said("\n\n".join(lines)))
    quiet = {"enable_thinking": False}
    return Chat(chat.model, asked, options, quiet, client=chat.client)


def summarized(chat: Chat, summary: str) -> Chat:
    """Return the conversation with a summary, in the system's first message, of what is older."""
    gone = set(map(id, older(chat)))
    kept = [turn for turn in chat.messages if id(turn) not in gone]
    system = kept.pop(0) if kept[0].role == "system" else Message("system")
    system = replace(system, content=(*system.content, Text(HEAD + summary)))
    return noted(replace(chat, messages=(system, *kept)), "summarize", messages=len(gone))


def noted(request: Chat, policy: Overflow, messages: int) -> Chat:
    """Return a conversation that says what it lost."""
    shortened = Shortened(policy, messages)
    return replace(request, options=replace(request.options, shortened=shortened))


def _together(turns: Sequence[Message]) -> list[list[int]]:
    """Return the places of all but the system's messages: a call's results are with it."""
    groups: list[list[int]] = []
    for at, turn in enumerate(turns):
        if turn.role == "tool" and groups:
            groups[-1].append(at)
        elif turn.role != "system":
            groups.append([at])
    return groups


def _spoken(turn: Message) -> str:
    calls = (f"{call.name}({call.arguments})" for call in turn.calls)
    return "\n".join((turn.text, *calls)).strip()


def _shortened(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    return f"{text[: most // 2]} ... {text[-most // 2 :]}"
