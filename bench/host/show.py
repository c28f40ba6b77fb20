"""Figures of the host against a modelled GPU: as tables, and as a page with flame graphs."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

from jinja2 import Environment, StrictUndefined
from rich.console import Group, RenderableType
from rich.table import Table

from bessemer.bench.host.measure import HostFigure

DISCLAIMER = "a model of time, not a measurement on a GPU"
LEFT_OUT = (
    "left out: MLX's encoding and hashing of launches on a Mac (its CPU backend's evaluation is "
    "measured in its place), how long a waiting thread takes to wake, copies of arrays that MLX "
    "cannot update in place, caches, clocks that throttle, and what kernels lose against a roofline"
)
SCALE = (
    "an assumption, of a Mac's host against this one: single-core Geekbench has an M4 Max at "
    "4,060 (version 6), a server's Xeon of 2023 at 1,257 (version 5), and an M1 at about 2,300 and "
    "1,700, which makes about 0.75 for an M1 and 0.4 for an M4 Max beside such a Xeon"
)
HEADINGS = (
    *("", "streams", "tokens/s", "GPU busy", "step, ms", "host, ms", "GPU, ms"),
    *("launches", "buffers", "MB", "text, KB", "prompts, ms", "gap, ms", "of a chunk"),
)
FUNCTIONS = 12  # that a table names
ROW, NARROW = 18, 0.1  # pixels of a function in a flame graph; percent from which on it is drawn
TEMPLATE = Path(__file__).with_name("page.html")


@dataclass(frozen=True, slots=True)
class Terms:
    """What all figures of a report have in common."""

    command: str
    model: str
    chip: str
    scale: float
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Box:
    """A function in a flame graph: percent of the width, rows from the top."""

    left: float
    width: float
    row: int
    text: str
    title: str
    hue: int


@dataclass(slots=True)
class Node:
    milliseconds: float = 0.0
    children: "defaultdict[str, Node]" = field(default_factory=lambda: defaultdict(Node))


def cells(figure: HostFigure) -> tuple[str, ...]:
    return (
        figure.who,
        str(figure.streams),
        f"{figure.tokens_per_second:,.0f}",
        f"{figure.busy:.0%}",
        *(f"{each:.2f}" for each in (figure.step, figure.host, figure.gpu)),
        f"{figure.launches:.0f}",
        f"{figure.buffers:.0f}",
        f"{figure.megabytes:,.0f}",
        f"{figure.text:,.0f}",
        f"{figure.prompt:,.0f}",
        *((f"{figure.gap:.1f}", f"{figure.gap / figure.chunk:.2f}") if figure.chunk else ("", "")),
    )


def functions(figure: HostFigure) -> list[tuple[str, float]]:
    """Return the functions that cost the host most by themselves, in milliseconds a step.

    Functions of Python are named alone, MLX's work by who asked for it.
    """
    own = defaultdict[str, float](float)
    for stack, milliseconds in figure.stacks:
        own[" > ".join(stack[-2:]) if stack[-1] == "mlx.core" else stack[-1]] += milliseconds
    return sorted(own.items(), key=lambda each: -each[1])[:FUNCTIONS]


def table(figures: Sequence[HostFigure], terms: Terms) -> RenderableType:
    shown = Table(*HEADINGS, title=f"{terms.model} on a modelled {terms.chip}: {DISCLAIMER}")
    for figure in figures:
        shown.add_row(*cells(figure))
    return Group(shown, *(_functions(figure) for figure in figures), *terms.notes)


def _functions(figure: HostFigure) -> Table:
    shown = Table("the host's time by function", "ms a step", title=_title(figure))
    for name, milliseconds in functions(figure):
        shown.add_row(name, f"{milliseconds:.3f}")
    return shown


def _title(figure: HostFigure) -> str:
    return f"{figure.who}, {figure.streams} streams"


def flames(figure: HostFigure) -> list[Box]:
    """Lay out a flame graph, the outermost functions on top."""
    root = Node()
    for stack, milliseconds in figure.stacks:
        node = root
        node.milliseconds += milliseconds
        for name in stack:
            node = node.children[name]
            node.milliseconds += milliseconds
    return list(_boxes(root, 0.0, 0, root.milliseconds or 1.0))


def _boxes(node: Node, left: float, row: int, total: float) -> Iterator[Box]:
    for name, child in sorted(node.children.items()):
        width = 100 * child.milliseconds / total
        if width >= NARROW:
            title = f"{name}: {child.milliseconds:.3f} ms a step, {width:.1f} %"
            yield Box(left, width, row, name, title, crc32(name.split()[0].encode()) % 60)
            yield from _boxes(child, left, row + 1, total)
        left += width


def page(figures: Sequence[HostFigure], terms: Terms) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    graphs = [
        (_title(each), functions(each), each, boxes, 1 + max((box.row for box in boxes), default=0))
        for each, boxes in zip(figures, map(flames, figures), strict=True)
    ]
    return template.render(
        terms=terms,
        disclaimer=DISCLAIMER,
        headings=HEADINGS,
        lines=[cells(figure) for figure in figures],
        graphs=graphs,
        row=ROW,
    )
