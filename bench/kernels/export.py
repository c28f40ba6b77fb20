"""Every text that our Metal kernels are compiled from, as files for Apple's compiler.

What the operations' own cases launch is kernels/instances.py's list; what models of published
shapes add to it comes from the engine's steps, on a modelled GPU that computes nothing.
"""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx

from bessemer.bench.compare.machine import installed
from bessemer.bench.host import ours
from bessemer.bench.host.gpu import modelled_gpu
from bessemer.bench.models.hardware import chips
from bessemer.bench.models.shapes import shape
from bessemer.bench.models.synthetic import Storage, write
from bessemer.kernels.instances import Instance, instances, listing
from bessemer.kernels.metal.source import metal_files, sources

LANGUAGES = ("3.1", "3.2", "4.0")  # of Metal: what MLX asks for on macOS 14, 15 and 26
# As MLX asks since 0.32: exact arithmetic, but functions without a namespace are the fast ones.
FLAGS = ("-fmetal-math-mode=safe", "-fmetal-math-fp32-functions=fast")
PREAMBLE, MANIFEST, EVERY = "mlx.h", "manifest.json", "operations"
# MLX's own preamble of each custom kernel, from the installed package.
HEADERS = Path(mx.__file__).parent / "include"
FIRST = "mlx/backend/metal/kernels/utils.h"
INCLUDED = re.compile(r'^\s*#\s*include\s+"([^"]+)"\s*$', re.M)

STORAGES = (Storage(4, 64, "bfloat16"), Storage(8, 64, "float16"), Storage(0, 64, "bfloat16"))
STREAMS = (1, 4, 12)
LAYERS, PROMPT, TOKENS, CHIP = 3, 40, 600, "m4-max"


@dataclass(slots=True)
class ExportedText:
    """A file's row in the manifest; `threads` of a threadgroup, `asked_by` models or operations."""

    file: str
    kernel: str
    source: str
    function: str
    template: dict[str, Any]
    languages: tuple[str, ...] = LANGUAGES
    threads: list[int] = field(default_factory=list)
    asked_by: list[str] = field(default_factory=list)


def export(folder: Path, names: Sequence[str]) -> int:
    """Write the texts of all operations and of these shapes; return how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.metal"):
        old.unlink()
    rows: dict[str, ExportedText] = {}
    owners = {name: path.name for path in metal_files().values() for name in sources(path)}
    for asker, instance in _asked(names):
        row = rows.get(instance.text)
        if row is None:
            named = (instance.file, instance.kernel, owners[instance.kernel], instance.function)
            row = rows[instance.text] = ExportedText(*named, dict(instance.template))
            text = f'#include "{PREAMBLE}"\n{instance.text}'
            (folder / row.file).write_text(text, encoding="utf-8")
        row.threads = sorted({*row.threads, instance.threads})
        row.asked_by = sorted({*row.asked_by, asker})
    (folder / PREAMBLE).write_text(preamble(), encoding="utf-8")
    about = {"mlx": installed("mlx"), "languages": LANGUAGES, "flags": FLAGS}
    texts = [asdict(row) for row in sorted(rows.values(), key=lambda each: each.file)]
    (folder / MANIFEST).write_text(json.dumps(about | {"texts": texts}, indent=1))
    return len(texts)


def _asked(names: Sequence[str]) -> Iterator[tuple[str, Instance]]:
    for instance in instances():
        yield EVERY, instance
    for name in names:
        for storage in STORAGES:
            for instance in of_shape(name, storage):
                yield name, instance


def of_shape(name: str, storage: Storage) -> list[Instance]:
    """Return what the engine launches for a model: prompts, and steps of one and more streams."""
    whole = shape(name)
    model = whole.scaled(min(whole.layers, LAYERS))
    with tempfile.TemporaryDirectory() as directory:
        write(Path(directory), model, storage, 0, hollow=True)
        with modelled_gpu(chips()[CHIP]) as run, run.clock.paused(), listing() as found:
            for streams in STREAMS:
                engine = ours.engine(Path(directory), model, streams, TOKENS)
                step = ours.WorkerLoop(engine, streams, PROMPT).begin(1)
                step()
    return sorted(found, key=lambda each: (each.file, each.threads))


def compile_texts(folder: Path, language: str) -> list[dict[str, str]]:
    """Compile an export by Apple's compiler; return what it said of each text that it refused."""
    command = ["xcrun", "-sdk", "macosx", "metal", f"-std=metal{language}", *FLAGS]

    def refused(path: Path) -> str:
        whole = [*command, "-c", str(path), "-o", os.devnull]
        done = subprocess.run(whole, capture_output=True, text=True, check=False)
        return (done.stderr or done.stdout or "it said nothing") if done.returncode else ""

    texts = sorted(folder.glob("*.metal"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        said = list(pool.map(refused, texts))
    wrong = [
        {"file": path.name, "said": text} for path, text in zip(texts, said, strict=True) if text
    ]
    (folder / f"refused-{language}.json").write_text(json.dumps(wrong, indent=1))
    return wrong


def preamble() -> str:
    """Return what MLX puts before a custom kernel's text, as one file."""
    seen: set[str] = set()

    def inline(match: "re.Match[str]") -> str:
        if match[1] in seen:
            return ""
        seen.add(match[1])
        text = (HEADERS / match[1]).read_text(encoding="utf-8").replace("#pragma once", "")
        return INCLUDED.sub(inline, text)

    return "#pragma once\n" + INCLUDED.sub(inline, f'#include "{FIRST}"\n')
