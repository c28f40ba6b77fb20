"""Conversations as strict templates want them: turns moved or merged, and no text ever lost."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from .chat import Content, Message, Text

Turns = tuple[Message, ...]
Step = Callable[[Turns], Turns]


def hoisted(turns: Turns) -> Turns:
    """Make one system message of all, before the turns."""
    system = tuple(turn for turn in turns if turn.role == "system")
    return (*merged(system), *(turn for turn in turns if turn.role != "system"))


def merged(turns: Turns) -> Turns:
    """Make one turn of those of one role that follow each other; each tool result is its own."""
    out: list[Message] = []
    for turn in turns:
        if out and out[-1].role == turn.role != "tool":
            out[-1] = _joined(out[-1], turn)
        else:
            out.append(turn)
    return tuple(out)


def folded(turns: Turns) -> Turns:
    """Let the user say what the system says, in the first turn: the one there is, or a new one."""
    if all(turn.role != "system" for turn in turns):
        return turns
    system, *rest = hoisted(turns)
    spoken = replace(system, role="user")
    if not rest or rest[0].role != "user":
        return (spoken, *rest)
    return (replace(_joined(spoken, rest[0]), name=rest[0].name), *rest[1:])


def led(turns: Turns) -> Turns:
    """Put a user's turn without words before an assistant who speaks first."""
    at = next((i for i, turn in enumerate(turns) if turn.role != "system"), None)
    if at is None or turns[at].role != "assistant":
        return turns
    return (*turns[:at], Message("user"), *turns[at:])


# What a template may be appeased with: the least change first.
LADDER: Sequence[Sequence[Step]] = (
    (),
    (hoisted,),
    (merged,),
    (hoisted, merged),
    (hoisted, led, merged),
    (folded,),
    (folded, merged),
)


def arranged(turns: Turns, steps: Sequence[Step]) -> Turns:
    for step in steps:
        turns = step(turns)
    return turns


def arrangements(turns: Turns) -> Iterator[Turns]:
    """Yield each arrangement of the turns once, the turns as they are first."""
    seen: list[Turns] = []
    for steps in LADDER:
        arrangement = arranged(turns, steps)
        if arrangement not in seen:
            seen.append(arrangement)
            yield arrangement


def _joined(first: Message, second: Message) -> Message:
    thoughts = filter(None, (first.reasoning, second.reasoning))
    return replace(
        first,
        content=_run_on(first.content, second.content),
        reasoning="\n\n".join(thoughts) or None,
        calls=first.calls + second.calls,
    )


def _run_on(first: Content, second: Content) -> Content:
    """Return both contents as one, with a blank line where text meets text."""
    match first, second:
        case (*before, Text(end)), (Text(start), *after):
            return (*before, Text(f"{end}\n\n{start}"), *after)
    return first + second
