"""Models by what a user calls them: their directories and public names."""

import os
import re
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..engine.checkpoint.json_files import (
    GGUF,
    dangling,
    is_gguf,
    is_pointer,
    not_a_file,
    pointer_flaw,
)
from ..engine.checkpoint.weight_files import (
    OTHERS,
    CheckpointError,
    instead_of,
    stand_in,
    weight_files,
)
from ..engine.command_line import INTERRUPTED
from ..engine.embedding.sentence_transformers import MODULES, DescriptionError, read_modules
from . import gguf_models
from .config import Config, UsageError, hub_cache

BUILT_IN = Path(__file__).parents[1] / "engine" / "guide"
BUILT_IN_NAME = "bessemer-guide"
BUILT_IN_NAMES = frozenset({"guide", BUILT_IN_NAME})
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
SNAPSHOT = re.compile(r"models--([^/]+)--([^/]+)/snapshots/[^/]+/*$")
NAME_AND_MODEL = re.compile(r"([^=/\s]+)=(.+)", re.DOTALL)
READ = ("*.json", "*.jinja", "*.txt", "tokenizer.model")
ALLOWED = (*READ, "*.safetensors")
IGNORED = ("original/*", *OTHERS)  # the same weights again, in their makers' own layouts
CLEAR_BELOW = "\r\x1b[J"
CONFIG = "config.json"
TOKENIZERS = ("tokenizer.json", "tokenizer.model")


def models(config: Config) -> dict[str, Path]:
    """Return the directory of every model of a command, by public name. Raises UsageError."""
    paths: dict[str, Path] = {}
    for model in config.models or defaults():
        path = resolve(model, config.offline, config.hub_cache)
        name = name_of(model, path)
        if name in paths:
            raise UsageError(
                f"two models are called {name!r}; give one another name with NAME={model}"
            )
        paths[name] = path
    return paths


def names(models: Iterable[str]) -> list[str]:
    """Return the public names of models, none of which is looked for or downloaded."""
    return [_name_unseen(model) for model in models]


def _name_unseen(model: str) -> str:
    _, source = split(model)
    path = BUILT_IN if source in BUILT_IN_NAMES else at_home(source)
    absent = source == model and not path.exists()
    return model if absent and hub_file(model) else name_of(model, path)


def defaults() -> tuple[str, ...]:
    """Return what is served where nobody names a model: the real ones at hand, and the guide."""
    return (*gguf_models.installed(), BUILT_IN_NAME)


def resolve(model: str, offline: bool, cache: Path | None = None) -> Path:
    """Return a model's directory, downloaded if need be. Raises UsageError."""
    _, model = split(model)
    if not model.strip():
        raise UsageError(f"the model is {model!r}; give a directory, a GGUF file or a Hub id")
    if model in BUILT_IN_NAMES:
        return BUILT_IN
    if file := gguf_models.packaged(model):
        return file
    path = at_home(model)
    if path.exists():
        return _checked(path)
    if flaw := dangling(path):
        raise UsageError(flaw)
    named = hub_file(model)
    if named is None:
        raise UsageError(
            f"{model!r} is neither a directory nor a GGUF file, nor a Hugging Face id such as "
            "Qwen/Qwen3-0.6B"
        )
    cache = cache or hub_cache(os.environ)
    repository, quantization = named
    found = cached_gguf(repository, quantization, cache) if quantization else cached(model, cache)
    if found is None and offline:
        if not quantization:
            gguf_models.require_choice(_cached_files(repository, cache), repository)
        raise UsageError(
            f"{model} is not in the Hugging Face cache and downloading is switched off; "
            "start once without --offline and HF_HUB_OFFLINE"
        )
    return found or _checked(_download(repository, quantization, cache))


def name_of(model: str, path: Path) -> str:
    """Return the name that clients use: the user's, the Hub's, or the directory's."""
    name, model = split(model)
    if name is not None:
        return name
    if path == BUILT_IN:
        return BUILT_IN_NAME
    if model in gguf_models.PACKAGES:
        return model
    named = hub_file(model)
    if named and named[1] and not at_home(model).exists():
        return model
    absolute = path.absolute().as_posix()
    if snapshot := SNAPSHOT.search(absolute):
        return f"{snapshot[1]}/{snapshot[2]}"
    return path.resolve().name.removesuffix(GGUF)


def hub_file(model: str) -> tuple[str, str] | None:
    """Split OWNER/REPO:QUANT, of which the second may be missing; None for anything else."""
    repository, _, quantization = model.partition(":")
    return (repository, quantization) if HUB_ID.fullmatch(repository) else None


def at_home(path: str) -> Path:
    """Return a path with ~ as a shell writes it; the ~ of a user whom nobody knows stays."""
    return Path(os.path.expanduser(path))


def split(model: str) -> tuple[str | None, str]:
    """Split NAME=MODEL, but not a directory with a = in its name."""
    match = NAME_AND_MODEL.fullmatch(model)
    if match is None or at_home(model).is_dir():
        return None, model
    return match[1], match[2]


def cached(model: str, cache: Path) -> Path | None:
    """Return the snapshot of a Hub id, if all of it is on the disk."""
    folder = cache / f"models--{model.replace('/', '--')}"
    try:
        commit = (folder / "refs" / "main").read_text().strip()
    except OSError:
        return None
    snapshot = folder / "snapshots" / commit
    return snapshot if commit and is_complete(snapshot) else None


def cached_gguf(model: str, quantization: str, cache: Path) -> Path | None:
    """Return a file of a Hub id's snapshots, if all of its set is on the disk."""
    files = _cached_files(model, cache)
    try:
        return gguf_models.checked(gguf_models.chosen(files, quantization, model))
    except UsageError:
        return None


def _cached_files(model: str, cache: Path) -> list[Path]:
    """Return the files of all snapshots of a Hub id."""
    snapshots = cache / f"models--{model.replace('/', '--')}" / "snapshots"
    return [each for each in snapshots.glob("*/**/*") if each.is_file()]


def is_complete(path: Path) -> bool:
    try:
        path = read_modules(path).backbone
    except DescriptionError:
        return False
    if not (path / CONFIG).is_file():
        return False
    if not any((path / name).is_file() for name in TOKENIZERS):
        return False
    try:
        return bool(weight_files(path).files)
    except CheckpointError:
        return False


def _checked(path: Path) -> Path:
    if is_gguf(path):
        return gguf_models.checked(path)
    if not path.is_dir():
        if not path.is_file() and (flaw := not_a_file(path)):
            raise UsageError(flaw)
        give = f"{path} is a file; give the directory of the model, with its {CONFIG}"
        raise UsageError(instead_of(path) or give)
    if not any((path / name).is_file() for name in (CONFIG, MODULES)):
        if flaw := not_a_file(path / CONFIG):
            raise UsageError(flaw)
        if file := gguf_models.in_directory(path):
            return file
        raise UsageError(f"{path} is no model: it has no {CONFIG}{_hint(path)}")
    _refuse_pointers([file for pattern in READ for file in path.glob(pattern)])
    try:
        _refuse_pointers(weight_files(read_modules(path).backbone).files)
    except (CheckpointError, DescriptionError) as error:
        raise UsageError(str(error)) from None
    return path


def _refuse_pointers(files: Iterable[Path]) -> None:
    for file in filter(is_pointer, files):
        raise UsageError(pointer_flaw(file))


def _hint(path: Path) -> str:
    """Say what a directory without a config has instead, and so what to give."""
    if (path / "snapshots").is_dir():
        return f"; it is a folder of Hugging Face's cache: give one of {path / 'snapshots'}"
    if not any(path.iterdir()):
        return ", for it is empty"
    reason = stand_in(path)
    return f"; {reason}" if reason else ""


def _leave(*_: object) -> None:
    if sys.stderr.isatty():
        print(CLEAR_BELOW, end="", file=sys.stderr, flush=True)  # the bars of progress
    os._exit(INTERRUPTED)


@contextmanager
def _quick_to_interrupt() -> Iterator[None]:
    """Let Ctrl-C end the process at once, as threads that download would be waited for.

    What they have is kept, and gone on from next time.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _download(model: str, quantization: str, cache: Path) -> Path:
    """Download a model, or one GGUF file of a repository. Raises UsageError."""
    from httpx2 import HTTPError  # here, because these two take half a second to import
    from huggingface_hub import list_repo_files, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    if not cache.is_absolute() and cache.parts[0].startswith("~"):
        raise UsageError(f"there is no home directory to keep {model} in; set HOME or HF_HOME")
    try:
        with _quick_to_interrupt():
            if not quantization:
                some, others = [*ALLOWED], [*IGNORED]
                snapshot = Path(
                    snapshot_download(
                        model, cache_dir=cache, allow_patterns=some, ignore_patterns=others
                    )
                )
                if not any(snapshot.rglob("*.safetensors")):
                    gguf_models.require_choice([*map(Path, list_repo_files(model))], model)
                return snapshot
            files = [Path(each) for each in list_repo_files(model)]
            first = gguf_models.chosen(files, quantization, model)
            names = [each.as_posix() for each in gguf_models.parts(first, files)]
            return Path(snapshot_download(model, cache_dir=cache, allow_patterns=names)) / first
    except GatedRepoError:
        page = f"https://huggingface.co/{model}"
        reason = f"{model} is gated; accept its terms at {page} and set HF_TOKEN"
    except RepositoryNotFoundError:
        reason = f"Hugging Face has no {model}; check the name, or set HF_TOKEN if it is private"
    except (LocalEntryNotFoundError, HTTPError, ConnectionError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        reason = f"{model} could not be downloaded ({lines[0]}); check the connection and try again"
    except OSError as error:
        reason = f"{model} could not be stored in {cache} ({error.strerror}); check the disk"
    raise UsageError(reason)
