"""A dispatch's problems in words, each with its line of the source."""

from collections.abc import Sequence

from .dispatch import MAX_PROBLEMS, PROBLEMS, Dispatch, Problem
from .host import HEADER_LINE
from .instrument import Site
from .signature import Definition

BY_ACCESS = (1, 2, 3, 9, 10, 11, 13)  # problems whose `site` is that of an access
WITH_OTHER = (2, 4, 10)


def source_line(definition: Definition, raw: int) -> tuple[str, int, str]:
    """Return the file, its line, and what stands there."""
    file, number = ("header", raw - HEADER_LINE) if raw >= HEADER_LINE else ("kernel", raw)
    text = definition.header if file == "header" else definition.source
    lines = text.split("\n")
    return file, number, lines[number - 1].strip() if 0 < number <= len(lines) else ""


def explained(
    definition: Definition, dispatch: Dispatch, names: Sequence[str], sites: Sequence[Site]
) -> str:
    count = dispatch.problem_count
    problems = [dispatch.problems[i] for i in range(min(count, MAX_PROBLEMS))]
    first = f"[simulator] kernel '{definition.name}': {count} problem(s)"
    return "\n".join([first, *(_explained(definition, each, names, sites) for each in problems)])


def _explained(
    definition: Definition, problem: Problem, names: Sequence[str], sites: Sequence[Site]
) -> str:
    parts = [f"  {PROBLEMS[problem.kind]}:", problem.message.decode()]
    if 0 <= problem.buffer < len(names):
        parts.append(f"{names[problem.buffer]}[byte {problem.offset}]")
    if problem.size:
        parts.append(f"size {problem.size}")
    parts.append(f"by thread {problem.thread} of threadgroup {tuple(problem.group)}")
    if problem.kind in WITH_OTHER:
        parts.append(f"(other thread: {problem.other_thread})")
    text = " ".join(part for part in parts if part)
    place = _place(definition, problem, sites)
    return f"{text}\n      at {place}" if place else text


def _place(definition: Definition, problem: Problem, sites: Sequence[Site]) -> str:
    if not problem.line:
        return ""
    if problem.kind in BY_ACCESS and problem.site < len(sites):
        site = sites[problem.site]
        if site.file not in ("kernel", "header"):
            return f"{site.file}:{site.line}"
    file, line, text = source_line(definition, problem.line)
    return f"{file}:{line}" + (f"  `{text}`" if text else "")
