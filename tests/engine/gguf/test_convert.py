"""A GGUF file as a directory for mlx_lm: the same numbers, or a sentence."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import tokenizers
from tokenizers.models import BPE

from bessemer.engine.checkpoint.checkpoint import open_checkpoint
from bessemer.engine.checkpoint.mlx_layout import MlxTensor
from bessemer.engine.checkpoint.shards import Shards
from bessemer.engine.checkpoint.weight_files import INDEX
from bessemer.engine.checkpoint.weights import Reading
from bessemer.engine.gguf import convert as conversion
from bessemer.engine.gguf.blocks import BLOCKS
from bessemer.engine.gguf.convert import convert
from bessemer.engine.gguf.mlx_form import in_mlx_layout, rounded
from bessemer.engine.model import load
from bessemer.engine.text.loading import load_tokenizer
from bessemer.engine.text.tokenizer import Tokenizer
from tests.architectures.steps import prefill
from tests.architectures.tiny import Floats

from .make_golden import GOLDEN
from .make_golden import PROMPT as LONG
from .make_golden_convert import TEXT
from .typed import EXACT, HALVES, PROMPT, typed

MLX_LM = np.load(GOLDEN / "converted.npz")
# Families whose tensors lie elsewhere in mlx_lm, or whose configs are told more.
MOVED = ["gemma4_moe", "gpt_oss", "lfm2", "lfm2_moe", "mamba2", "ministral3", "phi3", "qwen3_5_moe"]
APART = ["deepseek_v2", "gemma3n", "granitehybrid", "qwen3_next"]


def logits(path: Path, prompt: list[int] = PROMPT) -> Floats:
    return prefill(load(path, Reading(exact=True)), prompt)


def refusal(path: Path, into: Path, lossy: bool = False) -> str:
    with pytest.raises(ValueError) as caught:
        convert(path, into, lossy)
    assert "\n" not in str(caught.value)
    assert not into.exists() and not into.with_name(f"{into.name}.part").exists()
    return str(caught.value)


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return typed(tmp_path_factory.mktemp("exact") / "m.gguf", EXACT)


def test_logits_are_the_file_s_and_mlx_lm_s(exact: Path, tmp_path: Path) -> None:
    convert(exact, tmp_path / "m")
    ours = logits(tmp_path / "m")
    assert np.abs(ours - logits(exact)).max() < 1e-4
    assert np.abs(ours - MLX_LM["exact"]).max() < 1e-4


def test_numbers_that_are_rounded(tmp_path: Path) -> None:
    path = typed(tmp_path / "m.gguf", HALVES)
    said = list(convert(path, tmp_path / "m", lossy=True).lines())
    assert any("Q6_K" in line and "rounded, off by 0.4%" in line for line in said)
    each = [line.partition(": Q6_K to 8 bits by ")[0] for line in said if ": Q6_K to " in line]
    count = sum(type == "Q6_K" for type in HALVES.values())
    assert len({*each}) == count and all(name.endswith(".weight") for name in each)
    ours, theirs = logits(tmp_path / "m"), MLX_LM["rounded"]
    assert np.abs(ours - theirs).max() < 1e-4 * theirs.std()
    assert np.abs(ours - logits(path)).max() < 0.1 * theirs.std()


def test_what_is_said_of_each_type(exact: Path, tmp_path: Path) -> None:
    lines = list(convert(exact, tmp_path / "m").lines())
    assert [line.split()[:2] for line in lines[1:]] == sorted(
        [[type, "1"] for type in EXACT.values()] + [["F32", "5"]]
    )
    assert all(line.endswith("the same") for line in lines[1:])
    assert any("Q4_K" in line and "4 bits by 32, with float32 scales" in line for line in lines)
    assert any("MXFP4" in line and "4 bits by 32, mxfp4" in line for line in lines)


@pytest.mark.parametrize(
    ("lossy", "said"),
    [(True, "float16 rounded, off by 100.0%"), (False, "float32 the same")],
)
def test_floats_that_another_type_does_not_hold(lossy: bool, said: str, tmp_path: Path) -> None:
    done = conversion.Conversion(mx.float16, lossy, Shards(tmp_path, 10**6))
    small = mx.full((2, 32), 1e-9)
    done.add(MlxTensor("a.weight", (2, 32), True, (lambda: small,), old="a"), "F32")
    assert " ".join([*done.lines()][1].split()) == f"F32 1 {said}"


@pytest.mark.parametrize(
    ("types", "dtype"),
    [
        (["Q4_K", "F32"], mx.float16),
        (["MXFP4", "Q8_0", "BF16"], mx.float16),  # that of scales
        (["MXFP4", "F32"], mx.bfloat16),
        (["MXFP4", "F16"], mx.float16),
        (["F32", "F16", "BF16", "BF16"], mx.bfloat16),
        (["F32", "F32", "F16"], mx.float16),
        (["F32"], mx.float32),
    ],
)
def test_the_type_of_floats(types: list[str], dtype: mx.Dtype) -> None:
    assert conversion._floats(types) == dtype


@pytest.mark.parametrize("name", BLOCKS)
def test_what_a_tensor_takes_at_most(name: str) -> None:
    """Its codes, and a scale and a bias of 32 bits for each group."""
    numbers = np.load(GOLDEN / "blocks.npz")
    weight = BLOCKS[name].matrix(numbers[f"{name}.raw"])
    near = in_mlx_layout(weight) or rounded(weight)[0]
    tensor = MlxTensor("w", numbers[f"{name}.numbers"].shape, False, ())
    assert conversion._most_bytes(tensor, name) == near.weight.nbytes + 8 * near.scales.size
    assert conversion._most_bytes(tensor, "BF16") == 2 * numbers[f"{name}.numbers"].size


def test_what_is_no_gguf_file(tmp_path: Path) -> None:
    assert "m is no GGUF file; mlx_lm.convert takes" in refusal(tmp_path / "m", tmp_path / "n")


def test_texts_and_chats_are_cut_alike(exact: Path, tmp_path: Path) -> None:
    convert(exact, tmp_path / "m")
    before, after = load_tokenizer(exact), load_tokenizer(tmp_path / "m")
    assert before.encode(TEXT) == after.encode(TEXT) == MLX_LM["ids"].tolist()
    assert before.chat_template == after.chat_template
    assert after.eos == 1 and MLX_LM["chat"].tolist().count(0) == 1
    said = json.loads((tmp_path / "m" / "config.json").read_text())
    assert said["eos_token_id"] == [1]


def test_a_file_in_several_shards(exact: Path, tmp_path: Path) -> None:
    whole = convert(exact, tmp_path / "m")
    parts = convert(exact, tmp_path / "parts", limit=100_000)
    assert (tmp_path / "parts" / INDEX).exists() and parts.shards.bytes == whole.shards.bytes
    assert np.array_equal(logits(tmp_path / "parts"), logits(tmp_path / "m"))


@pytest.mark.parametrize("name", MOVED)
def test_families_that_mlx_lm_has_otherwise(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make_golden.py`'s files have no vocabulary to speak of."""
    some = Tokenizer(tokenizers.Tokenizer(BPE({"t": 0}, [])), {}, None, {})
    monkeypatch.setattr(conversion, "load_tokenizer", lambda *_, **__: some)
    convert(GOLDEN / f"{name}.gguf", tmp_path / name)
    if name == "qwen3_5_moe":  # whose text alone has another name than the whole
        said = json.loads((tmp_path / name / "config.json").read_text())
        assert said["model_type"] == name
    if name == "gpt_oss":
        names = open_checkpoint(tmp_path / name).tensors
        assert "model.layers.0.mlp.experts.gate_proj.weight" in names
    off = logits(tmp_path / name, LONG) - np.load(GOLDEN / f"{name}.npy")
    assert np.abs(off).max() < 1e-4


@pytest.mark.parametrize("name", APART)
def test_families_that_mlx_lm_cannot_take(name: str, tmp_path: Path) -> None:
    said = refusal(GOLDEN / f"{name}.gguf", tmp_path / name)
    assert "in another shape than GGUF files" in said


def test_numbers_that_mlx_cannot_hold(tmp_path: Path) -> None:
    path = typed(tmp_path / "m.gguf", HALVES)
    said = refusal(path, tmp_path / "m")
    counts = r"has 1 tensors in Q3_K \(\S+\) and 2 tensors in Q6_K \(\S+ and others\)"
    assert re.search(counts, said) and "--lossy rounds them" in said


def test_codes_that_would_have_to_be_transposed() -> None:
    """Older files have a latent's expansion whole, which MLX has with the keys' part transposed."""
    whole = MlxTensor("a.embed_q.weight", (1, 1, 32), False, (), old="a.kv_b_proj", by_rows=False)
    with pytest.raises(ValueError, match=r"older converter, which left a\.kv_b_proj whole"):
        conversion._require_layout(Path("m"), [whole], {whole.name: "Q8_0"}, lossy=True)
    conversion._require_layout(Path("m"), [whole], {whole.name: "F16"}, lossy=False)


def test_directories_that_are_there(exact: Path, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    convert(exact, tmp_path / "m")  # an empty one is taken
    before = sorted((tmp_path / "m").iterdir())
    with pytest.raises(ValueError, match="exists already; name a new directory"):
        convert(exact, tmp_path / "m")
    assert sorted((tmp_path / "m").iterdir()) == before


def test_a_disk_that_is_too_small(
    exact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage: Any = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 0, 700_000))
    assert "0.0007 GB left, and m may take 0.000721" in refusal(exact, tmp_path / "a" / "m")
    assert not (tmp_path / "a").exists()


def test_nothing_is_left_of_what_failed(
    exact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("no")

    (tmp_path / "m").mkdir()
    monkeypatch.setattr(conversion, "_describe", fail)
    with pytest.raises(ValueError, match="no"):
        convert(exact, tmp_path / "m")
    assert not any((tmp_path / "m").iterdir()) and not (tmp_path / "m.part").exists()


def test_the_command(exact: Path, tmp_path: Path) -> None:
    into = tmp_path / "m"
    command = [sys.executable, "-P", "-m", "bessemer.http.entry", "convert", str(exact)]
    done = subprocess.run([*command, str(into)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.endswith(f"{into}: 0.000644 GB\n"), done.stderr
    assert open_checkpoint(into).tensors["model.embed_tokens.weight"].dtype == "U32"
    again = subprocess.run([*command, str(into)], capture_output=True, text=True, timeout=60)
    assert again.returncode == 2 and again.stderr.endswith(
        "exists already; name a new directory.\n"
    )
