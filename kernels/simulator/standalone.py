"""Texts are compiled only to see whether they compile, or to what."""

import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from .compiler import check_spaces, execute, language, toolchain
from .host import with_arena, with_constructors, without_comments
from .limits import check_limits
from .options import Language, SimulatorOptions
from .words import check_words

INSTANTIATION = re.compile(r"\btemplate\s*(?:\[\[[^\]]*\]\]\s*)+")  # C++ has no attributes there
INCLUDED = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.M)
PREAMBLE = '#include "msl_preamble.h"\n#line 1 "{}"\n'

# Sites of barriers and simdgroup operations are lines and columns: here all are one.
WITHOUT_PLACES = ("-D__builtin_LINE()=1u", "-D__builtin_COLUMN()=1u")
TEXTUAL = ("-O2", "-S", "-emit-llvm", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables")
OPTIONS = SimulatorOptions()
NAME = re.compile(r'@(?:"[^"]*"|[\w.$-]+)')
GLOBAL = ("@llvm.", "@__msl_")
DROPPED = ("$", "; ModuleID", "source_filename", "!", "attributes ", "; Function Attrs")
METADATA = re.compile(r",? ?!\w+(?:\.\w+)* !\d+|, !srcloc !\d+| #\d+")


def compile_standalone(
    text: str, include: Sequence[Path] = (), options: SimulatorOptions = OPTIONS
) -> None:
    """Check a complete Metal file with its explicit instantiations. Raises MetalCompileError.

    `include`: folders for what it includes by a name in quotes.
    """
    with tempfile.TemporaryDirectory() as temporary:
        inside = Path(temporary)
        (inside / "kernel.cpp").write_text(
            PREAMBLE.format("kernel.metal") + _host(text, "kernel.metal", options.language)
        )
        for name, path in _included(text, include):
            copy = inside / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(_host(path.read_text(), name, options.language))
        check_spaces("kernel.cpp", inside, (f"-I{inside}",))
        command = [*toolchain().compile, *language(options.flags), f"-I{inside}"]
        execute([*command, "-fsyntax-only", "kernel.cpp"], inside)


def compiled_text(text: str, flags: tuple[str, ...]) -> str:
    """Return a host text's optimised code, without what depends on the text alone."""
    with tempfile.TemporaryDirectory() as temporary:
        inside = Path(temporary)
        (inside / "kernel.cpp").write_text(text)
        command = [*toolchain().compile, *language(flags), *WITHOUT_PLACES, *TEXTUAL]
        execute([*command, "kernel.cpp", "-o", "kernel.ll"], inside)
        return _normal((inside / "kernel.ll").read_text())


def _host(text: str, file: str, version: Language) -> str:
    text = without_comments(text)
    check_words(text, file)
    check_limits(text, file, version)
    return INSTANTIATION.sub("template ", with_constructors(with_arena(text)))


def _included(text: str, folders: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Yield those files that the text, and such files themselves, include and that exist."""
    seen: set[str] = set()
    waiting = [(name, Path()) for name in INCLUDED.findall(text)]
    while waiting:
        name, parent = waiting.pop()
        for folder in folders:
            for relative in (name, (parent / name).as_posix()):
                path = folder / relative
                if relative in seen or not path.is_file():
                    continue
                seen.add(relative)
                yield relative, path
                inner = INCLUDED.findall(path.read_text())
                waiting += [(each, Path(relative).parent) for each in inner]


def _normal(text: str) -> str:
    """Number functions and variables in the order in which they are named."""
    numbers: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        name = match[0]
        if name.startswith(GLOBAL):
            return name
        return numbers.setdefault(name, f"@{len(numbers)}")

    declared = {line for line in text.split("\n") if line.startswith("declare ")}
    kept_names = {name for line in declared for name in NAME.findall(line)}
    numbers.update((name, name) for name in kept_names)
    lines = [line for line in text.split("\n") if line and not line.startswith(DROPPED)]
    return "\n".join(METADATA.sub("", NAME.sub(number, line)) for line in lines)
