"""The files of a model directory that hold its weights: one answer to all who read or count them.

Nothing here needs mlx, nor opens a file of weights, so that a server can ask too.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from .json_files import is_gguf, not_a_file, read_object

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
# Files of a numbered set; the second kind is MLX's, before it took Hugging Face's names.
NUMBERED = (
    re.compile(r"(?P<before>.+-)(?P<number>\d+)(?P<after>-of-(?P<total>\d+)\.safetensors)"),
    re.compile(r"(?P<before>weights\.)(?P<number>\d+)(?P<after>\.safetensors)"),
)
PLAIN = "model-"  # the beginning of a numbered name that is the model's for sure
# Files of weights that are another thing than the model, or the model again in another layout.
OTHERS = ("adapter*", "consolidated*", "lora*", "pytorch_lora*", "optimizer*", ".*")
# What a name without an index begins with; of these the first that there are count.
BEGINNINGS = ("model", "weights", "")
FETCH = "fetch the model's *.safetensors"
# What may be there in place of weights, by name, and what to do then.
INSTEAD: tuple[tuple[str, str], ...] = (
    (
        "*.gguf",
        "is a GGUF file, which is a model by itself: give the file, not the directory",
    ),
    *(
        (
            pattern,
            "is an adapter, not a model; merge it into its model (mlx_lm.fuse, or peft's "
            "merge_and_unload) and give that one",
        )
        for pattern in ("adapter*.safetensors", "adapter*.bin", "adapter*.npz")
    ),
    (
        "*.npz",
        "has MLX's first layout, which is not read; save it anew with "
        "mlx.core.save_safetensors('model.safetensors', mlx.core.load('weights.npz'))",
    ),
    (
        "consolidated*.safetensors",
        f"has the weights by their maker's own names, which are not read; {FETCH}, or convert it "
        "with transformers",
    ),
    *(
        (
            pattern,
            f"is PyTorch's file, which is not read since it may hold code; {FETCH}, or save it "
            "anew with transformers' save_pretrained",
        )
        for pattern in ("*.bin", "*.pth", "*.pt", "*.ckpt")
    ),
    *(
        (pattern, f"is made for another framework; {FETCH}")
        for pattern in ("*.h5", "*.msgpack", "*.onnx", "*.tflite", "*.ot")
    ),
)


class CheckpointError(ValueError):
    """A checkpoint that is damaged or contradicts itself; names the file and the tensor."""


def held_twice(name: str, file: Path, other: Path) -> CheckpointError:
    """Return an error to raise for a tensor that two files have."""
    return CheckpointError(
        f"{file} and {other.name} both hold the tensor {name}; keep the files of one model"
    )


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """The files, in order; `promised` is what an index says of them: tensors to file names."""

    files: tuple[Path, ...]
    promised: Mapping[str, str] = field(default_factory=dict)


def weight_files(directory: Path) -> WeightFiles:
    """Find the weights; raises CheckpointError, which says what is missing or there instead.

    As in transformers one whole file goes before an index, but for an index that names it and more.
    """
    if is_gguf(directory):
        from ..gguf.container import gguf_files  # here, for few models are one, and it needs us

        return WeightFiles(gguf_files(directory))
    single, index = directory / SINGLE, directory / INDEX
    if single.is_file():
        promised: Mapping[str, str] = {}
        with suppress(CheckpointError):  # nobody needs it, so it may be damaged
            promised = _read_index(index)
        if SINGLE not in promised.values() or set(promised.values()) == {SINGLE}:
            return WeightFiles((single,))
        return _promised(directory, promised)
    if index.exists():
        return _promised(directory, _read_index(index))
    found = _whole([*_candidates(directory)])
    if not found:
        raise CheckpointError(_nothing(directory))
    return WeightFiles(tuple(found))


def instead_of(path: Path) -> str | None:
    """Say in a sentence why a file is no weights of a model's and what to do; None if it may be."""
    for pattern, what in INSTEAD:
        if fnmatch(path.name.lower(), pattern):
            return f"{path} {what}"
    return None


def stand_in(directory: Path) -> str | None:
    """Say in a sentence what a directory has in place of weights; None if there is no such file."""
    files = sorted(each for each in directory.glob("*") if each.is_file())
    return next(filter(None, map(instead_of, files)), None)


def _read_index(index: Path) -> dict[str, str]:
    listed = (read_object(index, CheckpointError) or {}).get("weight_map")
    known = isinstance(listed, dict) and all(isinstance(file, str) for file in listed.values())
    if not listed or not known:
        raise CheckpointError(f"{index} has no weight_map of tensor names to file names")
    return dict(listed)


def _promised(directory: Path, promised: Mapping[str, str]) -> WeightFiles:
    files = sorted(set(promised.values()))
    for file in files:
        if Path(file).name != file:
            raise CheckpointError(
                f"{directory / INDEX} names {file!r}, which is not in the directory"
            )
    absent = [file for file in files if not (directory / file).is_file()]
    if absent:
        more = f", and so are {len(absent) - 1} more" if len(absent) > 1 else ""
        first = directory / absent[0]
        raise CheckpointError(
            not_a_file(first)
            or f"{first} is missing, which {INDEX} names{more}; fetch the model again"
        )
    return WeightFiles(tuple(directory / file for file in files), promised)


def _candidates(directory: Path) -> Iterable[Path]:
    files = sorted(each for each in directory.glob("*.safetensors") if each.is_file())
    files = [each for each in files if not any(fnmatch(each.name, other) for other in OTHERS)]
    for beginning in BEGINNINGS:
        if chosen := [each for each in files if each.name.startswith(beginning)]:
            return chosen
    return ()


def _whole(files: list[Path]) -> list[Path]:
    """Return the files of whole numbered sets; all files where none is numbered.

    Raises CheckpointError for a set that lacks some, unless the same is there in another count.
    """
    sets: dict[tuple[str, str], list[re.Match[str]]] = {}
    for match in (pattern.fullmatch(file.name) for file in files for pattern in NUMBERED):
        if match is not None:
            sets.setdefault((match["before"], match["after"]), []).append(match)
    missing = {key: _missing(matches) for key, matches in sets.items()}
    whole = {key[0]: key for key, name in missing.items() if name is None}
    if PLAIN in whole:  # others are of another precision, or of another use
        whole, missing = {PLAIN: whole[PLAIN]}, {}
    for key, name in missing.items():
        if name is not None and key[0] not in whole:
            raise CheckpointError(
                f"{files[0].with_name(name)} is missing, of a numbered set of which "
                f"{len(sets[key])} are there; fetch the model again"
            )
    return [files[0].with_name(m[0]) for key in whole.values() for m in sets[key]] or files


def _missing(matches: list[re.Match[str]]) -> str | None:
    """Return the first name that a numbered set lacks, if any; it counts from 1, or from 0."""
    first, numbers = matches[0], {int(match["number"]) for match in matches}
    total = first.groupdict().get("total")
    start = 0 if total is None or 0 in numbers else 1
    count = max(numbers) + 1 if total is None else int(total)
    for number in range(start, start + count):
        if number not in numbers:
            return f"{first['before']}{number:0{len(first['number'])}}{first['after']}"
    return None


def _nothing(directory: Path) -> str:
    reason = not_a_file(directory / SINGLE) or stand_in(directory)
    if reason is not None:
        return reason
    return f"{directory / SINGLE} is missing, and so is any other file of weights; {FETCH}"
