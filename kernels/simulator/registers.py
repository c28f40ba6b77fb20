"""An estimate of a kernel's registers, and how many threads a threadgroup may have with them.

Of LLVM's optimised text: the most 32-bit words that are alive at once. Apple's compiler orders
instructions in another way, keeps what all threads have in common elsewhere and spills what does
not fit: the estimate finds kernels that hold far too much, not those a few registers over.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .host import ENTRY

# A core's registers, and the fewest threads that they are shared by (philipturner's
# metal-benchmarks): 208 KB are 128 words for each of 384 threads.
FILE_BYTES, FEWEST, MOST = 208 * 1024, 384, 1024
POINTER, PREDICATE = 8, 4  # bytes
SIZES = {"half": 2, "bfloat": 2, "float": 4, "double": 8, "ptr": POINTER, "i1": PREDICATE}
LABEL = re.compile(r'^([\w.$-]+|"[^"]+"):')
DEFINES = re.compile(r"^\s+(%[\w.$-]+) = (\w+) (.*)")
NAMES = re.compile(r"%[\w.$-]+")
TARGETS = re.compile(r"label (%[\w.$-]+)")
INCOMING = re.compile(r"\[ ([^,\]]+), (%[\w.$-]+) \]")
TYPE = re.compile(r"<(\d+) x ([\w ]+)>|\b(half|bfloat|float|double|ptr|i\d+)\b")
ARRAY = re.compile(r"^\s+%[\w.$-]+ = alloca \[(\d+) x (\w+)\]")
MEMORY = ("alloca",)  # not a register itself


@dataclass(slots=True)
class Block:
    """Instructions in order: what each defines, its bytes, and what it uses."""

    instructions: list[tuple[str, int, frozenset[str]]] = field(default_factory=list)
    next: set[str] = field(default_factory=set)
    handed: dict[str, set[str]] = field(default_factory=dict)  # to phis, by where it comes from


def most_threads(text: str) -> int:
    """Return how many threads of a threadgroup the registers of a kernel are enough for."""
    words = max(1, live_words(text))
    return max(FEWEST, min(MOST, FILE_BYTES // (4 * words) // 32 * 32))


def live_words(text: str) -> int:
    """Return the most 32-bit words alive at once in the kernel itself, all inlined into it."""
    lines = list(_entry(text))
    blocks = _blocks(lines)
    sizes = {name: size for b in blocks.values() for name, size, _ in b.instructions if name}
    alive = _alive_at_begin(blocks)
    most = max((_most(blocks, name, alive, sizes) for name in blocks), default=0)
    arrays = (ARRAY.match(line) for line in lines)  # that no loop was unrolled for
    return (most + sum(int(each[1]) * _scalar(each[2]) for each in arrays if each)) // 4


def _entry(text: str) -> Iterator[str]:
    """Yield the lines of the kernel's function; in a text without one, of the first function."""
    functions = re.findall(r"^define [^\n]*\n(?:.*\n)*?^}", text, re.M)
    named = [each for each in functions if f"@{ENTRY}(" in each.split("\n", 1)[0]]
    yield from (named or functions or [""])[0].split("\n")[1:-1]


def _blocks(lines: Iterable[str]) -> dict[str, Block]:
    block = Block()
    blocks = {"%0": block}
    for line in lines:
        line = line.split(" ; ")[0].split(", !")[0]
        if match := LABEL.match(line):
            block = blocks[f"%{match[1]}"] = Block()
            continue
        block.next |= set(TARGETS.findall(line))
        defined = DEFINES.match(line)
        name, operation, rest = defined.groups() if defined else ("", "", line)
        if operation == "phi":
            for value, origin in INCOMING.findall(rest):
                block.handed.setdefault(origin, set()).update(NAMES.findall(value))
            rest = TYPE.match(rest)[0] if TYPE.match(rest) else ""  # type: ignore[index]
        uses = frozenset(NAMES.findall(rest)) - block.next
        block.instructions.append((name, _bytes(operation, rest), uses))
    return blocks


def _bytes(operation: str, rest: str) -> int:
    """Return the size of what an instruction gives."""
    if operation in MEMORY or not operation:
        return 0
    if operation in ("getelementptr", "inttoptr", "addrspacecast"):
        return POINTER
    if operation in ("icmp", "fcmp"):
        return PREDICATE
    place = rest.rsplit(" to ", 1)[-1] if " to " in rest else rest
    match = TYPE.search(place)
    if match is None:
        return PREDICATE
    if match[1] and operation != "extractelement":
        return int(match[1]) * _scalar(match[2])
    return max(2, _scalar(match[2] or match[3]))


def _scalar(name: str) -> int:
    return SIZES.get(name) or -(-int(name[1:]) // 8)


def _alive_at_begin(blocks: dict[str, Block]) -> dict[str, frozenset[str]]:
    """Return what is alive where each block begins, its phis' results not included."""
    alive: dict[str, frozenset[str]] = dict.fromkeys(blocks, frozenset())
    changed = True
    while changed:
        changed = False
        for name in reversed(blocks):
            now = _alive_at_end(blocks, name, alive)
            for defined, _, uses in reversed(blocks[name].instructions):
                now = (now - {defined}) | uses
            if now != alive[name]:
                alive[name], changed = now, True
    return alive


def _alive_at_end(
    blocks: dict[str, Block], name: str, alive: dict[str, frozenset[str]]
) -> frozenset[str]:
    after = (each for each in blocks[name].next if each in blocks)
    parts = (alive[each] | blocks[each].handed.get(name, set()) for each in after)
    return frozenset().union(*parts)


def _most(
    blocks: dict[str, Block],
    name: str,
    alive: dict[str, frozenset[str]],
    sizes: dict[str, int],
) -> int:
    now = _alive_at_end(blocks, name, alive)
    most = sum(sizes.get(each, 0) for each in now)
    for defined, _, uses in reversed(blocks[name].instructions):
        now = (now - {defined}) | uses
        most = max(most, sum(sizes.get(each, 0) for each in now))
    return most
