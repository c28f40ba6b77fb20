"""From the flags of a command to the model under test and all who run it."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bessemer.bench.compare.contest import Contestant, Unavailable
from bessemer.bench.compare.machine import installed
from bessemer.bench.contestants.child import Child
from bessemer.bench.contestants.endpoint import Endpoint, label_of
from bessemer.bench.contestants.peers import Places, contestants, is_url, recipes
from bessemer.bench.contestants.servers import BESSEMER, Life, Recipe, Serving
from bessemer.bench.models.forms import UnderTest, real, synthetic
from bessemer.bench.models.shapes import kv_values, shape
from bessemer.bench.models.synthetic import Storage
from bessemer.engine.checkpoint.checkpoint import open_checkpoint
from bessemer.http import hub
from bessemer.http.config import hub_cache

OURS = "bessemer"
SPARE = 256  # tokens of KV pool beyond what a case needs
POOL = 64 << 20  # bytes of KV pool while memory is measured
SERVED = ("serve", "load", "memory")


def prepare(options: argparse.Namespace) -> UnderTest:
    """The model, written first if it is a shape."""
    if options.shape is None:
        return _real(options)
    bits = (0 if options.dtype else 4) if options.bits is None else options.bits
    storage = Storage(bits, options.group, options.dtype or "bfloat16")
    wanted = shape(options.shape)
    wanted = wanted.scaled(options.layers) if options.layers else wanted
    return synthetic(wanted, storage, options.seed, options.head or "")


def _real(options: argparse.Namespace) -> UnderTest:
    for flag in ("layers", "bits", "dtype", "head"):
        if getattr(options, flag) is not None:
            raise Unavailable(f"--{flag} goes with --shape, not with a model that is there")
    asked = options.model or hub.BUILT_IN_NAME
    path = hub.resolve(asked, False, hub_cache(os.environ))
    gguf = Path(options.gguf) if options.gguf else None
    if gguf is not None and not gguf.is_file():
        raise Unavailable(f"{gguf} is no file")
    return real(hub.name_of(asked, path), path, gguf)


def roster(options: argparse.Namespace, under: UnderTest) -> list[Contestant]:
    """Ours first; the order of the rounds rotates."""
    places = Places(options.mlx_lm_python, options.llama_cpp, options.threads)
    if options.command not in SERVED:
        ours: list[Contestant] = [] if options.without_ours else [_child(options, under)]
        return _checked([*ours, *contestants(options.against, under, places)])
    return _checked(_served(options, under, places))


def _served(options: argparse.Namespace, under: UnderTest, places: Places) -> list[Contestant]:
    streams = max(options.streams)
    ours = [] if options.without_ours else [recipe(under, options)]
    if options.command != "serve":
        found = [*ours, *recipes(options.against, under, places, streams)]
        return [Life(each) for each in found]
    servers: list[Contestant] = [Serving(each) for each in ours]
    for number, name in enumerate(options.against):
        if is_url(name):
            servers.append(Endpoint(label_of(name, number + 1), name))
        else:
            servers += [Serving(each) for each in recipes([name], under, places, streams)]
    return servers


def _checked(found: Sequence[Contestant]) -> list[Contestant]:
    if not found:
        raise Unavailable("there is nobody to measure: name somebody with --against")
    if len({each.label for each in found}) < len(found):
        raise Unavailable("--against names somebody twice")
    return list(found)


def _child(options: argparse.Namespace, under: UnderTest) -> Child:
    if options.command == "prefill":
        longest, streams = max(options.lengths), 1
    else:
        longest = max(options.context) + 2 * options.tokens
        streams = max(options.streams) if options.command == "batch" else 1
    load = {
        "path": str(under.path),
        "pool_tokens": streams * (longest + SPARE),
        "streams": streams,
        "threads": options.threads,
        "precision": options.precision,
        "chunk": options.chunk,
    }
    command = [sys.executable, "-P", "-m", "bessemer.bench.contestants.ours"]
    return Child(OURS, command, load, _precision(options), size=under.cost.bytes)


def _precision(options: argparse.Namespace) -> dict[str, str]:
    return {"BESSEMER_CPU_PRECISION": options.precision}


def recipe(under: UnderTest, options: argparse.Namespace) -> Recipe:
    """Our server; with a small KV pool of known size where memory is measured."""
    shared = ["--model", f"bench={under.path.absolute()}", "--log-level", "error"]
    shared += ["--threads", str(options.threads)]
    settings = {
        "mlx": installed("mlx"),
        "precision": options.precision,
        "threads": str(options.threads),
    }
    serve = [*BESSEMER, "serve", "--port", "PORT", *shared]
    pool = 0
    if options.command == "memory":
        pool = _pool(under)
        serve += ["--kv-cache", str(pool)]
        settings["KV pool"] = f"{pool / 1e6:.0f} MB"
    once = [*BESSEMER, "run", "Hello", "--temperature", "0", "--max-tokens", "16", *shared]
    return Recipe(
        OURS, serve, "bench", installed("bessemer"), settings, under.cost.bytes,
        _precision(options), pool, split=True, run=once,
    )  # fmt: skip


def _pool(under: UnderTest) -> int:
    """At least a few pages, of float32 at most."""
    token = kv_values(open_checkpoint(under.path).config) * 4
    return max(POOL, token * 2 * SPARE)
