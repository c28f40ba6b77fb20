"""The model under test and all who run it, by the flags of a command."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bessemer.bench.compare.contest import Contestant, Unavailable
from bessemer.bench.compare.machine import installed
from bessemer.bench.compare.options import BenchOptions
from bessemer.bench.contestants.child import Child
from bessemer.bench.contestants.endpoint import Endpoint, label_of
from bessemer.bench.contestants.peers import PeerOptions, contestants, is_url, server_commands
from bessemer.bench.contestants.servers import (
    BESSEMER,
    RestartedServer,
    ServerCommand,
    SteadyServer,
)
from bessemer.bench.models.forms import BenchModel, real, synthetic
from bessemer.bench.models.shapes import kv_values, shape
from bessemer.bench.models.synthetic import Storage
from bessemer.engine.checkpoint.checkpoint import open_checkpoint
from bessemer.http import hub
from bessemer.http.config import hub_cache

OURS = "bessemer"
SPARE = 256  # tokens of KV pool beyond what a case needs
POOL = 64 << 20  # bytes of KV pool while memory is measured
SERVED = ("serve", "load", "memory")


def prepare(options: BenchOptions) -> BenchModel:
    """Return the model, which is written first if it is a shape."""
    if options.shape is None:
        return _real(options)
    bits = (0 if options.dtype else 4) if options.bits is None else options.bits
    storage = Storage(bits, options.group, options.dtype or "bfloat16")
    published = shape(options.shape)
    scaled = published.scaled(options.layers) if options.layers else published
    return synthetic(scaled, storage, options.seed, options.head or "")


def _real(options: BenchOptions) -> BenchModel:
    for flag in ("layers", "bits", "dtype", "head"):
        if getattr(options, flag) is not None:
            raise Unavailable(f"--{flag} goes with --shape, not with a model that is there")
    gguf = Path(options.gguf) if options.gguf else None
    if gguf is not None and not gguf.is_file():
        raise Unavailable(f"{gguf} is no file")
    return load_real(options.model or options.gguf, gguf)


def load_real(name: str | None, gguf: Path | None = None) -> BenchModel:
    """Return a model of the disk or the Hub, or the built-in one. Raises UsageError."""
    source = name or hub.BUILT_IN_NAME
    path = hub.resolve(source, False, hub_cache(os.environ))
    return real(hub.name_of(source, path), path, gguf)


def participants(options: BenchOptions, model: BenchModel) -> list[Contestant]:
    """Return who is measured, ours first; the order of the rounds rotates."""
    peers = PeerOptions(options.mlx_lm_python, options.llama_cpp, options.threads)
    if options.benchmark not in SERVED:
        ours: list[Contestant] = [] if options.without_ours else [_child(options, model)]
        return _checked([*ours, *contestants(options.against, model, peers)])
    return _checked(_served(options, model, peers))


def _served(options: BenchOptions, model: BenchModel, peers: PeerOptions) -> list[Contestant]:
    streams = max(options.streams)
    ours = [] if options.without_ours else [_server(options, model)]
    if options.benchmark != "serve":
        commands = [*ours, *server_commands(options.against, model, peers, streams)]
        return [RestartedServer(each) for each in commands]
    servers: list[Contestant] = [SteadyServer(each) for each in ours]
    for number, name in enumerate(options.against):
        if is_url(name):
            servers.append(Endpoint(label_of(name, number + 1), name))
        else:
            commands = server_commands([name], model, peers, streams)
            servers += [SteadyServer(each) for each in commands]
    return servers


def _checked(contestants: Sequence[Contestant]) -> list[Contestant]:
    if not contestants:
        raise Unavailable("there is nobody to measure: name somebody with --against")
    if len({each.label for each in contestants}) < len(contestants):
        raise Unavailable("--against names somebody twice")
    return list(contestants)


def _child(options: BenchOptions, model: BenchModel) -> Child:
    if options.benchmark == "prefill":
        longest, streams = max(options.lengths), 1
    else:
        longest = max(options.context) + 2 * options.tokens
        streams = max(options.streams) if options.benchmark == "batch" else 1
    load = {
        "path": str(model.path),
        "pool_tokens": streams * (longest + SPARE),
        "streams": streams,
        "threads": options.threads,
        "precision": options.precision,
        "chunk": options.chunk,
    }
    command = [sys.executable, "-P", "-m", "bessemer.bench.contestants.ours"]
    environment = _precision(options.precision)
    return Child(OURS, command, load, environment, size=model.cost.bytes)


def _precision(precision: str) -> dict[str, str]:
    return {"BESSEMER_CPU_PRECISION": precision}


def _server(options: BenchOptions, model: BenchModel) -> ServerCommand:
    """Return our server, with a small KV pool of known size where memory is measured."""
    pool = _pool(model) if options.benchmark == "memory" else 0
    return server(model, options.threads, options.precision, pool)


def server(model: BenchModel, threads: int, precision: str, pool: int = 0) -> ServerCommand:
    """Return how our server is started, with a KV pool of so many bytes if that is not 0."""
    shared = ["--model", f"bench={model.path.absolute()}", "--log-level", "error"]
    shared += ["--threads", str(threads)]
    settings = {"mlx": installed("mlx"), "precision": precision, "threads": str(threads)}
    serve = [*BESSEMER, "serve", "--port", "PORT", *shared]
    if pool:
        serve += ["--kv-cache", str(pool)]
        settings["KV pool"] = f"{pool / 1e6:.0f} MB"
    once = [*BESSEMER, "run", "Hello", "--temperature", "0", "--max-tokens", "16", *shared]
    return ServerCommand(
        OURS, serve, "bench", installed("bessemer"), settings, model.cost.bytes,
        _precision(precision), pool, split=True, run=once, ready="/health",
    )  # fmt: skip


def _pool(model: BenchModel) -> int:
    """Return the bytes of at least a few pages, of float32 at most."""
    token = kv_values(open_checkpoint(model.path).config) * 4
    return max(POOL, token * 2 * SPARE)
