"""Conversations as strict templates want them: turns moved or merged, and no text ever lost."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from .chat import Message
from .parts import Content, Part, Text

Turns = tuple[Message, ...]
Step = Callable[[Turns], Turns]


def placed(turns: Turns) -> Turns:
    """Let the user say, in its place, what the system says later than first.

    So a conversation that grows keeps its beginning, which may be cached. Between a call and its
    results is no place for it.
    """
    first = next((at for at, turn in enumerate(turns) if turn.role != "system"), len(turns))
    settled, late = list(merged(turns[:first])), list[Message]()
    for turn in turns[first:]:
        if turn.role == "system":
            late.append(replace(turn, role="user"))
            continue
        if turn.role != "tool":
            settled += late
            late = []
        settled.append(turn)
    return (*settled, *late)


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
    """Let the user say what the system says: of the first turn, in the user's or in a new one."""
    turns = placed(turns)
    if not turns or turns[0].role != "system":
        return turns
    system, *rest = turns
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
    (placed,),
    (merged,),
    (placed, merged),
    (placed, led, merged),
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
