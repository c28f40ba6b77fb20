"""The model that a command line serves, where its program is one that serves language models."""

import itertools
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Programs, modules and images, by the last part of a path.
SERVER = re.compile(r"llama-server|llama\.cpp|mlx_v?lm|vllm")
CONTAINER = ("docker", "podman")
QUANT = "Q4_K_M"  # what llama.cpp takes of a repository where nothing is said
# What a flag says of the model; each has one value.
FLAGS: Mapping[str, str] = {
    "--model": "path", "-m": "path",
    "-hf": "repository", "-hfr": "repository", "--hf-repo": "repository",
    "--chat-template-file": "chat_template",
    "--tool-call-parser": "tool_parser",
    "--host": "", "--port": "", "-p": "", "--served-model-name": "", "--alias": "", "-a": "",
}  # fmt: skip
VOLUMES = ("-v", "--volume")
NOTHING = ("--jinja", "--init", "--rm", "--name", "--enable-auto-tool-choice", *VOLUMES)


@dataclass(frozen=True, slots=True)
class Command:
    """What a command says of its model, and the names of flags that say something else."""

    path: str
    chat_template: str | None
    tool_parser: str | None
    others: tuple[str, ...]


def model_of(text: str) -> Command | None:
    """Read a command; None where its program is another, or names no model of this machine's."""
    words = _words(text)
    if not any(SERVER.search(word.rpartition("/")[2]) for word in words):
        return None
    said, others = _flags(words)
    path = said.get("path") or _positional(words)
    if repository := said.get("repository"):
        path = repository if ":" in repository else f"{repository}:{QUANT}"
    if path and words[0].rpartition("/")[2] in CONTAINER:
        path = _outside(path, words)
    if not path:
        return None
    return Command(path, said.get("chat_template"), said.get("tool_parser"), others)


def _words(text: str) -> list[str]:
    """Split as llama-swap does: lines that begin with # are none."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    try:
        return shlex.split(" ".join(line.removesuffix("\\") for line in lines))
    except ValueError:  # a quote that does not end
        return []


def _flags(words: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    said: dict[str, str] = {}
    others: dict[str, None] = {}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        flag, equals, value = word.partition("=")
        if re.fullmatch(r"--?[A-Za-z][\w-]*", flag) is None:
            continue
        if flag in FLAGS:
            said[FLAGS[flag]] = value if equals else following
        elif flag not in NOTHING:
            others[flag] = None
    return said, tuple(others)


def _positional(words: Sequence[str]) -> str | None:
    """Return the model of `vllm serve MODEL`."""
    pairs = itertools.pairwise(words)
    return next((b for a, b in pairs if a == "serve" and not b.startswith("-")), None)


def _outside(path: str, words: Sequence[str]) -> str | None:
    """Return where a path of a container's is outside of it; None where it is only inside."""
    for flag, volume in itertools.pairwise(words):
        host, _, inside = volume.partition(":")
        inside = inside.partition(":")[0].rstrip("/")
        if flag in VOLUMES and inside and path.startswith(f"{inside}/"):
            return host.rstrip("/") + path.removeprefix(inside)
    return None if path.startswith("/") else path
