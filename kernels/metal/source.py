"""A .metal file taken apart: the kernels in it, as `mx.fast.metal_kernel` wants to be told them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
FOLDER = HERE.parent  # its rooms hold the operations' files; what several include is in this one

# What MLX passes to a kernel that mentions it, so that a parameter of that name is none of ours.
ATTRIBUTES = frozenset(
    (
        *("dispatch_quadgroups_per_threadgroup", "dispatch_simdgroups_per_threadgroup"),
        *("dispatch_threads_per_threadgroup", "grid_origin", "grid_size"),
        *("quadgroup_index_in_threadgroup", "quadgroups_per_threadgroup"),
        *("simdgroup_index_in_threadgroup", "simdgroups_per_threadgroup"),
        *("thread_execution_width", "thread_index_in_quadgroup", "thread_index_in_simdgroup"),
        *("thread_index_in_threadgroup", "thread_position_in_grid"),
        *("thread_position_in_threadgroup", "threadgroup_position_in_grid"),
        *("threadgroups_per_grid", "threads_per_grid", "threads_per_simdgroup"),
        "threads_per_threadgroup",
    )
)

OF_AN_INPUT = ("_shape", "_strides", "_ndim")  # what MLX passes of one, in this order
_KERNEL = re.compile(r"(?:template\s*<([^>]*)>\s*)?\[\[kernel\]\]\s+void\s+(\w+)\s*\(")
_INSTANTIATIONS = "// instantiations"  # from this line on a file is for a compiler of its own
# Around an operator between two names or brackets, after a comma or semicolon, before a brace.
_BLANKS = re.compile(
    r"(?<=[\w)\]]) ((?:[-+*/%&|<>=!^]=?|&&|\|\||<<|>>)) (?=[\w(])|(?<=[,;]) ()(?=\S)|(?<=\)) (?=\{)"
)
_INCLUDE = re.compile(r'#include "(\w+\.h)"')


class SourceError(ValueError):
    """A .metal file that does not keep the form; the message names the file and the kernel."""


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A line of text, and where it stands in the files."""

    text: str
    file: str
    number: int


@dataclass(frozen=True, slots=True, eq=False)
class KernelSource:
    """One kernel: parameters by name, and the two texts that MLX joins with its own signature."""

    name: str
    template: tuple[tuple[str, str], ...]  # kind (typename, int, bool) and name
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    header: tuple[SourceLine, ...]
    body: tuple[SourceLine, ...]

    @property
    def header_text(self) -> str:
        return "".join(f"{squeezed(line.text)}\n" for line in self.header)

    @property
    def body_text(self) -> str:
        return "\n".join(squeezed(line.text) for line in self.body)


def squeezed(text: str) -> str:
    """Drop the blanks that no compiler needs: MLX hashes a kernel's text at every launch."""
    return text if text.startswith("#") else _BLANKS.sub(lambda match: match[1] or "", text)


def metal_files() -> dict[str, Path]:
    """Return the operations' .metal files by name, whichever room they are in."""
    return {path.name: path for path in sorted(FOLDER.glob("*/*.metal"), key=lambda p: p.name)}


@cache
def sources(path: Path) -> dict[str, KernelSource]:
    """Return the kernels of a file by name. Raises SourceError."""
    lines = stripped(path)
    text = "\n".join(line.text for line in lines)
    spans = list(_kernels(text, path))
    if not spans:
        raise SourceError(f"{path.name} holds no [[kernel]] function")
    taken = {n for _, start, stop in spans for n in _numbers(text, start, stop)}
    rest = [line for n, line in enumerate(lines) if n not in taken]
    rest = [line for line in rest if not line.text.startswith(("#include", "using name"))]
    return {
        match[2]: _source(path, match, text, start, stop, lines, rest)
        for match, start, stop in spans
    }


def _source(
    path: Path,
    match: "re.Match[str]",
    text: str,
    start: int,
    stop: int,
    lines: Sequence[SourceLine],
    rest: Sequence[SourceLine],
) -> KernelSource:
    opening = _closing(text, match.end() - 1, "()")
    brace = text.index("{", opening)
    inputs, outputs = _parameters(text[match.end() : opening], path, match[2])
    return KernelSource(
        match[2],
        tuple(_template(match[1] or "", path, match[2])),
        inputs,
        outputs,
        tuple(_called(rest, text[brace:stop])),
        tuple(_cut(text, brace + 1, stop - 1, lines)),
    )


def _called(lines: Sequence[SourceLine], body: str) -> Iterator[SourceLine]:
    """Drop the functions that neither the body nor a function it calls mentions."""
    pieces = list(_pieces(lines))
    texts = ["\n".join(line.text for line in piece) for piece in pieces]
    names = [_function(text) for text in texts]
    known = " ".join([body, *(text for text, name in zip(texts, names, strict=True) if not name)])
    called = [not name for name in names]
    while True:
        identifiers = set(re.findall(r"\w+", known))
        new = [i for i, name in enumerate(names) if not called[i] and name in identifiers]
        if not new:
            break
        for i in new:
            called[i] = True
            known += texts[i]
    for piece, is_called in zip(pieces, called, strict=True):
        if is_called:
            yield from piece


def _pieces(lines: Sequence[SourceLine]) -> Iterator[list[SourceLine]]:
    """Yield what stands between two places outside of all braces: functions, types, constants."""
    piece: list[SourceLine] = []
    depth = 0
    for line in lines:
        piece.append(line)
        depth += line.text.count("{") - line.text.count("}")
        if not depth and line.text.endswith(("}", ";")):
            yield piece
            piece = []
    if piece:
        yield piece


def _function(text: str) -> str:
    """Return the name of the function that a piece defines; empty if it is none."""
    match = re.match(r"(?:template\s*<[^{}]*?>\s*)?[\w:<>,*& ]*?\b(\w+)\(", text)
    is_one = match and "{" in text and not text.startswith(("#", "struct", "enum"))
    return match[1] if match and is_one and "struct" not in text[: match.start(1)] else ""


def _kernels(text: str, path: Path) -> Iterator[tuple["re.Match[str]", int, int]]:
    """Yield each kernel's signature, and where its text starts and stops."""
    for match in _KERNEL.finditer(text):
        try:
            brace = text.index("{", _closing(text, match.end() - 1, "()"))
            yield match, match.start(), _closing(text, brace, "{}") + 1
        except ValueError:
            raise SourceError(f"{path.name}: kernel {match[2]} has no end") from None


def _closing(text: str, start: int, pair: str) -> int:
    """Return where the bracket that opens at `start` closes."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] == pair[0]) - (text[place] == pair[1])
        if not depth:
            return place
    raise ValueError(pair)


def _numbers(text: str, start: int, stop: int) -> range:
    """Return the numbers of the lines that a stretch of text covers."""
    return range(text.count("\n", 0, start), text.count("\n", 0, stop) + 1)


def _cut(text: str, start: int, stop: int, lines: Sequence[SourceLine]) -> Iterator[SourceLine]:
    """Yield the lines of a stretch, its first and last cut short."""
    numbers = _numbers(text, start, stop)
    for number, part in zip(numbers, text[start:stop].split("\n"), strict=True):
        if part.strip():
            yield SourceLine(part.strip(), lines[number].file, lines[number].number)


def _template(text: str, path: Path, kernel: str) -> Iterator[tuple[str, str]]:
    for parameter in filter(None, (part.strip() for part in text.split(","))):
        kind, _, name = parameter.partition(" ")
        if kind not in ("typename", "int", "bool") or not name.strip().isidentifier():
            raise SourceError(f"{path.name}: {kernel}: MLX has no template {parameter!r}")
        yield kind, name.strip()


def _parameters(text: str, path: Path, kernel: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return names of inputs (const, or in constant memory) and of outputs, bound after them.

    It binds an input's shape, strides and ndim after the input, where the body mentions them.
    """
    inputs: list[str] = []
    outputs: list[str] = []
    buffer = 0
    for parameter in (part.strip() for part in text.split(",")):
        match = re.fullmatch(r"(.*?)\s*([&*]?)\s*(\w+)\s*\[\[(.*)\]\]", parameter, re.DOTALL)
        if match is None:
            raise SourceError(f"{path.name}: {kernel}: cannot read parameter {parameter!r}")
        kind, reference, name, attribute = match.groups()
        if name in ATTRIBUTES and attribute == name:
            continue
        if not attribute.startswith("buffer") or not reference:
            raise SourceError(f"{path.name}: {kernel}: MLX passes no {name} [[{attribute}]]")
        is_input = "const" in kind.split() or "constant" in kind.split()
        if attribute != f"buffer({buffer})" or (is_input and outputs):
            raise SourceError(f"{path.name}: {kernel}: MLX has another place for {name}")
        buffer += 1
        if inputs and name in (f"{inputs[-1]}{suffix}" for suffix in OF_AN_INPUT):
            continue
        (inputs if is_input else outputs).append(name)
    return tuple(inputs), tuple(outputs)


def _included(path: Path, seen: set[str]) -> Iterator[SourceLine]:
    """Yield the file's lines, with our own includes in place of their lines, each once."""
    for number, text in enumerate(path.read_text().splitlines(), 1):
        if text.startswith(_INSTANTIATIONS):
            return
        if (match := _INCLUDE.match(text)) is None:
            yield SourceLine(text, path.name, number)
        elif match[1] not in seen:
            seen.add(match[1])
            if not (HERE / match[1]).exists():
                raise SourceError(f"{path.name}: there is no {match[1]} in {HERE.name}/")
            yield from _included(HERE / match[1], seen)


def _without_comments(lines: Iterator[SourceLine]) -> list[SourceLine]:
    """Keep only what a compiler needs: MLX hashes a kernel's text at every launch."""
    rest = []
    for line in lines:
        text = line.text.split("//", 1)[0].strip()
        if "/*" in text:
            raise SourceError(f"{line.file}:{line.number}: only comments of // are understood")
        if text and not text.startswith("#pragma once"):
            rest.append(SourceLine(text, line.file, line.number))
    return rest


def stripped(path: Path) -> list[SourceLine]:
    """Return what of a file, and of what it includes, reaches a compiler."""
    return _without_comments(_included(path, set()))
