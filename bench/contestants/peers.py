"""The peers that ours is compared with: mlx_lm, llama.cpp, any URL; none is required."""

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
from bessemer.bench.contestants.servers import ServerCommand
from bessemer.bench.models.forms import BenchModel

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
class PeerOptions:
    """The places of peers, as the user says (empty: here and on the PATH), and their threads."""

    mlx_lm_python: str = ""
    llama_cpp: str = ""
    threads: int = 1


@dataclass(frozen=True, slots=True)
class MlxLmPeer:
    """mlx_lm in some interpreter, with its weights in one form and perhaps another BLAS."""

    python: str
    weights: str
    environment: Mapping[str, str]
    label: str
    version: str
    settings: Mapping[str, str]


def contestants(names: Sequence[str], model: BenchModel, peers: PeerOptions) -> list[Contestant]:
    """Return who runs the model directly, and URLs that serve one. Raises Unavailable."""
    runners: list[Contestant] = []
    for number, name in enumerate(names):
        if is_url(name):
            runners.append(Endpoint(label_of(name, number + 1), name))
        elif name == "llama.cpp":
            runners.append(_llama_cpp(model, peers))
        else:
            runners.append(_mlx_lm_child(mlx_lm(name, peers), model))
    return runners


def server_commands(
    names: Sequence[str], model: BenchModel, peers: PeerOptions, streams: int
) -> list[ServerCommand]:
    """Return how the peers' servers are started. Raises Unavailable."""
    commands = []
    for name in names:
        if is_url(name):
            raise Unavailable(f"{name} runs already, so its start and memory cannot be measured")
        if name == "llama.cpp":
            commands.append(_llama_server(model, peers, streams))
        else:
            commands.append(_mlx_lm_server(mlx_lm(name, peers), model))
    return commands


def is_url(name: str) -> bool:
    return name.startswith(("http://", "https://"))


def mlx_lm(name: str, peers: PeerOptions) -> MlxLmPeer:
    """Return the peer of a name such as mlx_lm, mlx_lm:dense or mlx_lm:float32+openblas."""
    plain, plus, extra = name.partition("+")
    base, _, weights = plain.partition(":")
    weights = weights or ("stored" if sys.platform == "darwin" else "float32")
    if base != "mlx_lm" or weights not in WEIGHTS or (plus and extra != "openblas"):
        raise Unavailable(
            f"{name!r} is no peer; there are mlx_lm (also as mlx_lm:{', mlx_lm:'.join(WEIGHTS)}, "
            "each with +openblas), llama.cpp and any URL"
        )
    python = interpreter(peers)
    environment = {"HF_HUB_OFFLINE": "1"}
    if plus:
        environment |= {"LD_PRELOAD": openblas(), "OPENBLAS_NUM_THREADS": str(peers.threads)}
    versions = _probe(python, environment)
    if plus and not versions["blas"]:
        raise Unavailable(f"preloading OpenBLAS has no effect on {Path(python).name}; {SEE}")
    bundled = "Accelerate" if sys.platform == "darwin" else "its wheel's own"
    settings = {
        "weights": weights,
        "mlx": versions["mlx"],
        "BLAS": versions["blas"] or bundled,
    }
    label = f"mlx_lm {weights}{' + OpenBLAS' if plus else ''}"
    return MlxLmPeer(python, weights, environment, label, versions["mlx_lm"], settings)


def interpreter(peers: PeerOptions) -> str:
    if peers.mlx_lm_python:
        return peers.mlx_lm_python
    if importlib.util.find_spec("mlx_lm") is None:
        raise Unavailable(
            "mlx_lm is not installed here; install it in an environment of its own and name "
            f"its interpreter with --mlx-lm-python ({SEE})"
        )
    return sys.executable


def openblas() -> str:
    library = find_library("openblas") if sys.platform == "linux" else None
    if library is None:
        raise Unavailable(f"there is no OpenBLAS to preload on this machine; {SEE}")
    return library


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


def _mlx_lm_child(peer: MlxLmPeer, model: BenchModel) -> Child:
    return Child(
        peer.label,
        [peer.python, "-P", str(CHILD)],
        {"path": str(model.path), "weights": peer.weights},
        peer.environment,
        peer.settings,
        _bytes(peer.weights, model),
    )


def _bytes(weights: str, model: BenchModel) -> int:
    if weights == "dense":
        return 4 * model.cost.parameters
    return model.cost.bytes if weights == "stored" else model.float32_bytes


def _mlx_lm_server(peer: MlxLmPeer, model: BenchModel) -> ServerCommand:
    """Return its server, which reads weights as they are stored: other forms are written first."""
    path = model.variant(peer.weights)
    settings = dict(peer.settings)
    if path is None:
        path, settings["weights"] = model.path, "stored"
    command = [peer.python, "-P", "-m", "mlx_lm", "server"]
    command += ["--model", str(path), "--port", "PORT", "--log-level", "ERROR"]
    size = (path / "model.safetensors").stat().st_size if model.shape else model.cost.bytes
    return ServerCommand(
        peer.label, command, "default_model", peer.version, settings, size, peer.environment
    )


def binary(name: str, peers: PeerOptions) -> Path:
    """Return one of llama.cpp's programs: of the folder given, its build/bin, or the PATH."""
    folders = [Path(peers.llama_cpp), Path(peers.llama_cpp) / "build" / "bin"]
    path = os.pathsep.join(map(str, folders)) if peers.llama_cpp else None
    program = shutil.which(name, path=path)
    if program is None:
        where = f"in {peers.llama_cpp}" if peers.llama_cpp else "on the PATH"
        raise Unavailable(
            f"llama.cpp's {name} is not {where}; build it and name its folder with "
            f"--llama-cpp ({SEE})"
        )
    return Path(program)


def _llama_cpp(model: BenchModel, peers: PeerOptions) -> LlamaCpp:
    bench, batched = binary("llama-bench", peers), binary("llama-batched-bench", peers)
    remark = model.gguf_remark
    return LlamaCpp("llama.cpp", bench, batched, model.gguf(), peers.threads, remark)


def _llama_server(model: BenchModel, peers: PeerOptions, streams: int) -> ServerCommand:
    """Return llama.cpp's server with a cache of 1024 tokens for each stream."""
    program = str(binary("llama-server", peers))
    file = model.gguf()
    command = [program, "-m", str(file), "--port", "PORT", "-t", str(peers.threads)]
    command += ["-np", str(streams), "-c", str(1024 * streams)]
    done = subprocess.run([program, "--version"], capture_output=True, text=True)
    lines = (done.stderr + done.stdout).splitlines() or ["unknown"]
    version = lines[0].removeprefix("version: ")
    settings = {"threads": str(peers.threads), "slots": str(streams), "KV": "f16"}
    return ServerCommand("llama.cpp", command, "bench", version, settings, file.stat().st_size)
