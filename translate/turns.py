"""Conversations as strict templates want them: turns moved or merged, and no text ever lost."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from .chat import Content, Message, Part, Text

Turns = tuple[Message, ...]
Step = Callable[[Turns], Turns]


def hoisted(turns: Turns) -> Turns:
    """Make one system message of all, before the turns."""
    system = tuple(turn for turn in turns if turn.role == "system")
    return (*merged(system), *(turn for turn in turns if turn.role != "system"))


def merged(turns: Turns) -> Turns:
    """Make one turn of those of one role that follow each other; each tool result is its own."""
    rows: list[list[Message]] = []
    for turn in turns:
        if rows and rows[-1][0].role == turn.role != "tool":
            rows[-1].append(turn)
        else:
            rows.append([turn])
    return tuple(row[0] if len(row) == 1 else _joined(row) for row in rows)


def folded(turns: Turns) -> Turns:
    """Let the user say what the system says, in the first turn: the one there is, or a new one."""
    if all(turn.role != "system" for turn in turns):
        return turns
    system, *rest = hoisted(turns)
    spoken = replace(system, role="user")
    if not rest or rest[0].role != "user":
        return (spoken, *rest)
    return (replace(_joined((spoken, rest[0])), name=rest[0].name), *rest[1:])


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


def _joined(turns: Sequence[Message]) -> Message:
    thoughts = filter(None, (turn.reasoning for turn in turns))
    return replace(
        turns[0],
        content=_run_on([turn.content for turn in turns]),
        reasoning="\n\n".join(thoughts) or None,
        calls=tuple(call for turn in turns for call in turn.calls),
    )


def _run_on(contents: Sequence[Content]) -> Content:
    """Return all contents as one, with a blank line where text meets text."""
    parts: list[Part | list[str]] = []  # texts that run on are lists
    for content in contents:
        for number, part in enumerate(content):
            if isinstance(part, Text) and number == 0 and parts and isinstance(parts[-1], list):
                parts[-1].append(part.text)
            else:
                parts.append([part.text] if isinstance(part, Text) else part)
    return tuple(Text("\n\n".join(part)) if isinstance(part, list) else part for part in parts)
