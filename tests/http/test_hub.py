"""Finding a model: directories, a made-up Hugging Face cache, and sentences for what is wrong."""

import json
import re
import socket
from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from bessemer.http import gguf_models, hub
from bessemer.http.config import Config, UsageError
from bessemer.http.gguf_models import DEFAULT
from bessemer.http.hub import BUILT_IN, is_complete, models, name_of, resolve

COMMIT = "0123456789abcdef"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 269060552\n"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def fill(folder: Path, *, shards: int = 0) -> Path:
    folder.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    names = [f"model-{n}.safetensors" for n in range(shards)] or ["model.safetensors"]
    for name in names:
        (folder / name).write_bytes(b"")
    if shards:
        weights = {"weight_map": {f"w{n}": name for n, name in enumerate(names)}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(weights))
    return folder


def store(cache: Path, model: str = "org/name", **kind: Any) -> Path:
    """Store a model as Hugging Face's cache holds it."""
    folder = cache / f"models--{model.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    return fill(folder / "snapshots" / COMMIT, **kind)


def test_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fill(tmp_path / "my model")
    assert resolve(str(path), offline=True) == path
    assert name_of(str(path), path) == "my model"
    assert name_of(str(path) + "/", path) == "my model"
    monkeypatch.chdir(path)
    assert name_of(".", resolve(".", offline=True)) == "my model"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/my model", offline=True) == path


def test_a_name_of_one_s_own(tmp_path: Path) -> None:
    path = fill(tmp_path / "m")
    assert resolve(f"mine={path}", offline=True) == path
    assert name_of(f"mine={path}", path) == "mine"
    odd = fill(tmp_path / "a=b")
    assert resolve(str(odd), offline=True) == odd
    assert name_of(str(odd), odd) == "a=b"
    assert name_of("mine=guide", resolve("mine=guide", offline=True)) == "mine"


@pytest.mark.parametrize("model", ["guide", "bessemer-guide"])
def test_the_built_in_model(model: str) -> None:
    assert resolve(model, offline=True) == BUILT_IN
    assert name_of(model, BUILT_IN) == "bessemer-guide"
    assert BUILT_IN.parts[-2:] == ("engine", "guide")


@pytest.mark.parametrize("shards", [0, 3])
def test_a_cached_model_needs_no_network(tmp_path: Path, shards: int) -> None:
    path = store(tmp_path, shards=shards)
    assert resolve("org/name", offline=False, cache=tmp_path) == path
    assert resolve("mine=org/name", offline=True, cache=tmp_path) == path
    assert name_of("org/name", path) == "org/name"
    assert name_of(str(path), path) == "org/name"


@pytest.mark.parametrize(
    "missing", ["config.json", "tokenizer.json", "model-1.safetensors", "refs"]
)
def test_an_incomplete_one_does(tmp_path: Path, missing: str) -> None:
    path = store(tmp_path, shards=2)
    target = path / missing if missing != "refs" else path.parents[1] / "refs" / "main"
    target.unlink()
    with pytest.raises(UsageError, match="org/name is not in the Hugging Face cache"):
        resolve("org/name", offline=True, cache=tmp_path)


@pytest.mark.parametrize("index", ["", "[]", "{}", '{"weight_map": 1}', "\x00"])
def test_a_broken_index_is_incomplete(tmp_path: Path, index: str) -> None:
    path = fill(tmp_path / "m", shards=1)
    assert is_complete(path)
    (path / "model.safetensors.index.json").write_text(index)
    assert not is_complete(path)


def test_a_cached_model_without_an_index(tmp_path: Path) -> None:
    path = store(tmp_path)
    (path / "model.safetensors").rename(path / "model-00002-of-00002.safetensors")
    with pytest.raises(UsageError, match="org/name is not in the Hugging Face cache"):
        resolve("org/name", offline=True, cache=tmp_path)
    (path / "model-00001-of-00002.safetensors").write_bytes(b"")
    assert resolve("org/name", offline=True, cache=tmp_path) == path


def test_what_is_no_part_of_the_model_does_not_complete_it(tmp_path: Path) -> None:
    path = store(tmp_path)
    for name in ("consolidated.safetensors", "adapter_model.safetensors"):
        (path / "model.safetensors").rename(path / name)
        assert not is_complete(path)
        (path / name).rename(path / "model.safetensors")
    assert is_complete(path)


def test_a_model_in_a_folder_of_its_own(tmp_path: Path) -> None:
    """Older versions of sentence-transformers saved models so."""
    path = tmp_path / "embedder"
    fill(path / "0_Transformer")
    with pytest.raises(UsageError, match=r"no config\.json"):
        resolve(str(path), offline=True)
    listed = path / "modules.json"
    listed.write_text('[{"path": "0_Transformer", "type": "sentence_transformers.Transformer"}]')
    assert resolve(str(path), offline=True) == path and is_complete(path)
    (path / "0_Transformer" / "tokenizer.json").unlink()
    assert not is_complete(path)
    listed.write_text("{")
    assert not is_complete(path)


def test_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def download(model: str, **options: Any) -> str:
        seen.append(options)
        return str(store(tmp_path, model))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    path = resolve("org/name", offline=False, cache=tmp_path)
    assert path.name == COMMIT
    assert seen[0]["cache_dir"] == tmp_path
    assert "*.safetensors" in seen[0]["allow_patterns"]
    assert {"consolidated*", "adapter*"} < set(seen[0]["ignore_patterns"])
    assert resolve("org/name", offline=False, cache=tmp_path) == path
    assert len(seen) == 1


ANSWER = httpx2.Response(404, request=httpx2.Request("GET", "https://huggingface.co"))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (GatedRepoError("no", response=ANSWER), "gated; accept its terms .* and set HF_TOKEN"),
        (RepositoryNotFoundError("no", response=ANSWER), "Hugging Face has no org/name; "),
        (LocalEntryNotFoundError("no network\nat all"), r"could not be downloaded \(no network\)"),
        (httpx2.ConnectError("refused"), r"could not be downloaded \(refused\)"),
        (httpx2.ReadTimeout(""), r"could not be downloaded \(ReadTimeout\)"),
        (OSError(28, "No space left on device"), r"stored in .* \(No space left .*check the disk"),
    ],
)
def test_a_failed_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def download(model: str, **_: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(UsageError, match=message) as caught:
        resolve("org/name", offline=False, cache=tmp_path)
    assert "\n" not in str(caught.value)


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is no model: it has no config\.json"):
        resolve(str(tmp_path), offline=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file; give the directory"):
        resolve(str(tmp_path / "file"), offline=True)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model.safetensors", "is a file; give the directory of the model, with its config.json"),
        ("pytorch_model.bin", "is PyTorch's file"),
        ("weights.npz", "has MLX's first layout"),
    ],
)
def test_a_file_in_place_of_a_directory(name: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"")
    for model in (str(path), f"mine={path}"):
        with pytest.raises(UsageError) as caught:
            resolve(model, offline=True)
        assert str(caught.value).startswith(f"{path} {said}")
    if name != "model.safetensors":  # nor is the directory one, where there is nothing else
        with pytest.raises(UsageError, match=r"is no model: it has no config\.json; ") as caught:
            resolve(str(tmp_path), offline=True)
        assert f"{path} {said}" in str(caught.value)


def test_a_directory_without_weights(tmp_path: Path) -> None:
    path = fill(tmp_path / "m")
    (path / "model.safetensors").rename(path / "model.gguf")
    (path / "tokenizer.json").unlink()
    with pytest.raises(UsageError, match=r"model\.gguf is a GGUF file, .*: give the file"):
        resolve(str(path), offline=True)
    (path / "model.gguf").unlink()
    with pytest.raises(UsageError, match=r"model\.safetensors is missing"):
        resolve(str(path), offline=True)
    (path / "model-00002-of-00002.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match=r"model-00001-of-00002\.safetensors is missing"):
        resolve(str(path), offline=True)


def test_directories_that_are_near_a_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no config\.json, for it is empty"):
        resolve(str(tmp_path), offline=True)
    path = store(tmp_path)
    with pytest.raises(UsageError, match=r"Hugging Face's cache: give one of .*snapshots"):
        resolve(str(path.parents[1]), offline=True)


@pytest.mark.parametrize(
    "name",
    ["config.json", "tokenizer.json", "tokenizer.model", "a.jinja", "model.safetensors"],
)
def test_a_git_lfs_pointer(name: str, tmp_path: Path) -> None:
    path = fill(tmp_path / "m")
    (path / "other.bin").write_text(POINTER)  # which nobody reads
    assert resolve(str(path), offline=True) == path
    (path / name).write_text(POINTER)
    with pytest.raises(UsageError, match=rf"{name} is a git-lfs pointer, .* run git lfs pull"):
        resolve(str(path), offline=True)


@pytest.mark.parametrize(
    "model",
    [
        "nonsense",
        "/no/such/folder",
        "./org/name",
        "a/b/c",
        "org/",
        "../x",
        "-x/y",
        "a b/c",
        "~nobody-at-all/m",
    ],
)
def test_what_is_neither(tmp_path: Path, model: str) -> None:
    with pytest.raises(
        UsageError, match="is neither a directory nor a GGUF file, nor a Hugging Face id"
    ):
        resolve(model, offline=True, cache=tmp_path)


@pytest.mark.parametrize("model", ["", " ", "\t"])
def test_nothing_is_not_the_current_directory(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(fill(tmp_path / "m"))
    with pytest.raises(UsageError, match=re.escape(f"the model is {model!r}; give a directory")):
        resolve(model, offline=True, cache=tmp_path)


def test_all_that_are_asked_for(tmp_path: Path) -> None:
    path = fill(tmp_path / "m")
    cached = store(tmp_path / "cache")
    config = Config(models=(str(path), "org/name", "x=org/name"), hub_cache=tmp_path / "cache")
    assert models(config) == {"m": path, "org/name": cached, "x": cached}


def test_where_nobody_names_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real model that is installed comes first, and the guide stays beside it."""
    served = models(Config())
    assert list(served) == [DEFAULT, "bessemer-guide"]
    assert served[DEFAULT].suffix == ".gguf" and served["bessemer-guide"] == hub.BUILT_IN
    monkeypatch.setitem(gguf_models.PACKAGES, DEFAULT, "a_package_that_is_not_there")
    assert models(Config()) == {"bessemer-guide": hub.BUILT_IN}


def test_two_of_one_name(tmp_path: Path) -> None:
    first, second = fill(tmp_path / "a" / "m"), fill(tmp_path / "b" / "m")
    with pytest.raises(UsageError, match="two models are called 'm'; give one another name"):
        models(Config(models=(str(first), str(second))))


def test_names_are_known_of_models_that_are_not_here(tmp_path: Path) -> None:
    """As they are once these are loaded, but nothing is looked for on the network."""
    folder = tmp_path / "mine"
    folder.mkdir()
    given = {
        "guide": "bessemer-guide",
        "a=guide": "a",
        "Nobody/never-seen": "Nobody/never-seen",
        "Nobody/never-seen-GGUF:Q8_0": "Nobody/never-seen-GGUF:Q8_0",
        "b=Nobody/never-seen": "b",
        str(folder): "mine",
        str(tmp_path / "absent.gguf"): "absent",
    }
    assert hub.names(given) == [*given.values()]
