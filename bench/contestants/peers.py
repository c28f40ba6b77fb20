"""Finds what ours is compared with: mlx_lm, llama.cpp, or any URL; none of them is required."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path

from bessemer.bench.compare.contest import Contestant, Unavailable
from bessemer.bench.contestants.child import Child
from bessemer.bench.contestants.endpoint import Endpoint, label_of
from bessemer.bench.contestants.llama_cpp import LlamaCpp
from bessemer.bench.contestants.servers import Recipe
from bessemer.bench.models.forms import UnderTest

SEE = "see bench/contestants/peers.md"
WEIGHTS = ("stored", "float32", "dense")
CHILD = Path(__file__).with_name("peer_mlx_lm.py")
PROBE = """
import ctypes, json, importlib.metadata as m
try:
    f = ctypes.CDLL(None).openblas_get_config
    f.restype = ctypes.c_char_p
    blas = " ".join(f().decode().split()[:2])
except AttributeError:
    blas = ""
print(json.dumps({"mlx_lm": m.version("mlx-lm"), "mlx": m.version("mlx"), "blas": blas}))
"""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the user says that peers are; empty: here and on the PATH."""

    mlx_lm_python: str = ""
    llama_cpp: str = ""
    threads: int = 1


@dataclass(frozen=True, slots=True)
class MlxLm:
    """mlx_lm in some interpreter, with its weights in one form and perhaps another BLAS."""

    python: str
    weights: str
    environment: Mapping[str, str]
    label: str
    version: str
    settings: Mapping[str, str]


def contestants(names: Sequence[str], under: UnderTest, places: Places) -> list[Contestant]:
    """Each runs the model directly, or is a URL that serves one."""
    found: list[Contestant] = []
    for number, name in enumerate(names):
        if is_url(name):
            found.append(Endpoint(label_of(name, number + 1), name))
        elif name == "llama.cpp":
            found.append(_llama_cpp(under, places))
        else:
            found.append(_mlx_lm_child(mlx_lm(name, places), under))
    return found


def recipes(names: Sequence[str], under: UnderTest, places: Places, streams: int) -> list[Recipe]:
    """Each is a server to start."""
    found = []
    for name in names:
        if is_url(name):
            raise Unavailable(f"{name} runs already, so its start and memory cannot be measured")
        if name == "llama.cpp":
            found.append(_llama_server(under, places, streams))
        else:
            found.append(_mlx_lm_server(mlx_lm(name, places), under))
    return found


def is_url(name: str) -> bool:
    return name.startswith(("http://", "https://"))


def mlx_lm(name: str, places: Places) -> MlxLm:
    """Of a name such as mlx_lm, mlx_lm:dense or mlx_lm:float32+openblas."""
    plain, plus, extra = name.partition("+")
    base, _, weights = plain.partition(":")
    weights = weights or ("stored" if sys.platform == "darwin" else "float32")
    if base != "mlx_lm" or weights not in WEIGHTS or (plus and extra != "openblas"):
        raise Unavailable(
            f"{name!r} is no peer; there are mlx_lm (also as mlx_lm:{', mlx_lm:'.join(WEIGHTS)}, "
            "each with +openblas), llama.cpp and any URL"
        )
    python = interpreter(places)
    environment = {"HF_HUB_OFFLINE": "1"}
    if plus:
        environment |= {"LD_PRELOAD": openblas(), "OPENBLAS_NUM_THREADS": str(places.threads)}
    versions = _probe(python, environment)
    if plus and not versions["blas"]:
        raise Unavailable(f"preloading OpenBLAS has no effect on {Path(python).name}; {SEE}")
    own = "Accelerate" if sys.platform == "darwin" else "its wheel's own"
    settings = {
        "weights": weights,
        "mlx": versions["mlx"],
        "BLAS": versions["blas"] or own,
    }
    label = f"mlx_lm {weights}{' + OpenBLAS' if plus else ''}"
    return MlxLm(python, weights, environment, label, versions["mlx_lm"], settings)


def interpreter(places: Places) -> str:
    if places.mlx_lm_python:
        return places.mlx_lm_python
    if importlib.util.find_spec("mlx_lm") is None:
        raise Unavailable(
            "mlx_lm is not installed here; install it in an environment of its own and name "
            f"its interpreter with --mlx-lm-python ({SEE})"
        )
    return sys.executable


def openblas() -> str:
    found = find_library("openblas") if sys.platform == "linux" else None
    if found is None:
        raise Unavailable(f"there is no OpenBLAS to preload on this machine; {SEE}")
    return found


def _probe(python: str, environment: Mapping[str, str]) -> dict[str, str]:
    try:
        done = subprocess.run(
            [python, "-P", "-c", PROBE],
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
        )
    except OSError as error:
        raise Unavailable(f"{python} cannot be run: {error.strerror}") from None
    if done.returncode:
        raise Unavailable(f"{python} has no mlx_lm; install it there with pip, or {SEE}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _mlx_lm_child(peer: MlxLm, under: UnderTest) -> Child:
    return Child(
        peer.label,
        [peer.python, "-P", str(CHILD)],
        {"path": str(under.path), "weights": peer.weights},
        peer.environment,
        peer.settings,
        _bytes(peer.weights, under),
    )


def _bytes(weights: str, under: UnderTest) -> int:
    if weights == "dense":
        return 4 * under.cost.parameters
    return under.cost.bytes if weights == "stored" else under.float32_bytes


def _mlx_lm_server(peer: MlxLm, under: UnderTest) -> Recipe:
    """Its server reads weights as they are stored, so other forms are written first."""
    path = under.variant(peer.weights)
    settings = dict(peer.settings)
    if path is None:
        path, settings["weights"] = under.path, "stored"
    command = [peer.python, "-P", "-m", "mlx_lm", "server"]
    command += ["--model", str(path), "--port", "PORT", "--log-level", "ERROR"]
    size = (path / "model.safetensors").stat().st_size if under.shape else under.cost.bytes
    return Recipe(
        peer.label, command, "default_model", peer.version, settings, size, peer.environment
    )


def binary(name: str, places: Places) -> Path:
    """One of llama.cpp's programs; in the folder that was named, or its build/bin, or the PATH."""
    folders = [Path(places.llama_cpp), Path(places.llama_cpp) / "build" / "bin"]
    path = os.pathsep.join(map(str, folders)) if places.llama_cpp else None
    found = shutil.which(name, path=path)
    if found is None:
        where = f"in {places.llama_cpp}" if places.llama_cpp else "on the PATH"
        raise Unavailable(
            f"llama.cpp's {name} is not {where}; build it and name its folder with "
            f"--llama-cpp ({SEE})"
        )
    return Path(found)


def _llama_cpp(under: UnderTest, places: Places) -> LlamaCpp:
    bench, batched = binary("llama-bench", places), binary("llama-batched-bench", places)
    model = under.gguf()
    return LlamaCpp("llama.cpp", bench, batched, model, places.threads, under.gguf_remark)


def _llama_server(under: UnderTest, places: Places, streams: int) -> Recipe:
    """With a cache of 1024 tokens for each stream."""
    program = str(binary("llama-server", places))
    model = under.gguf()
    command = [program, "-m", str(model), "--port", "PORT", "-t", str(places.threads)]
    command += ["-np", str(streams), "-c", str(1024 * streams)]
    done = subprocess.run([program, "--version"], capture_output=True, text=True)
    words = (done.stderr + done.stdout).splitlines() or ["unknown"]
    version = words[0].removeprefix("version: ")
    settings = {"threads": str(places.threads), "slots": str(streams), "KV": "f16"}
    return Recipe("llama.cpp", command, "bench", version, settings, model.stat().st_size)
