"""Checkpoints in fewer bits: what mlx_lm makes of them, what stays, what is refused."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from bessemer.architectures.registry import FAMILIES
from bessemer.engine.checkpoint.checkpoint import open_checkpoint
from bessemer.engine.checkpoint.quantize import QuantRecipe, main, quantize
from bessemer.engine.checkpoint.weight_files import INDEX, CheckpointError
from bessemer.engine.checkpoint.weights import Reading
from bessemer.engine.model import load
from tests.architectures.parity import tiny
from tests.architectures.steps import prefill
from tests.architectures.tiny import Floats, Tiny, prompts
from tests.engine.test_model import BFLOAT16, large

from ..quantized import CASES, GOLDEN, ROWS, Case, label_fp8

FOUR, EIGHT = QuantRecipe.of(32, 4), QuantRecipe.of(128, 8)
# mlx_lm has no such families; what becomes of them is for us alone.
OURS = {"gemma3n_text": Case("gemma3n_odd_biased"), "ministral": Case("mistral_ministral_by_layer")}
ALL = CASES | OURS
# Those that see images have the text side's names; where text is by itself it gets their names.
ALIKE = {"qwen3_5_moe": "qwen3_5_moe_text"}
SIZES = {"U32": 4, "F32": 4, "U8": 1}


def logits(path: Path) -> Floats:
    return prefill(load(path, Reading(exact=True)), prompts()[0])


def written(path: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((path / "config.json").read_text())
    return config


@pytest.mark.parametrize("name", list(CASES))
def test_logits_are_those_of_mlx_lm_from_the_same_files(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    source, into = case.tiny().write(tmp_path / "source"), tmp_path / "into"
    size = quantize(source, into, QuantRecipe.of(*case.recipe))
    with np.load(GOLDEN) as file:
        assert np.abs(logits(into)[ROWS] - file[name]).max() <= 2e-4
    tensors = open_checkpoint(into).tensors.values()
    assert size == sum(int(np.prod(t.shape)) * SIZES[t.dtype] for t in tensors)
    assert any(t.dtype == "U32" for t in tensors)


def test_every_family_has_a_case() -> None:
    families = {case.tiny().config["model_type"] for case in ALL.values()}
    assert {ALIKE.get(family, family) for family in FAMILIES} == families


@pytest.mark.parametrize("name", list(ALL))
def test_logits_are_about_the_source_s(name: str, tmp_path: Path) -> None:
    """Halves or experts in another's place would be the same to mlx_lm and to us.

    Few matrices are so wide that they have a group of 128.
    """
    source, into = ALL[name].tiny().write(tmp_path / "source"), tmp_path / "into"
    quantize(source, into, EIGHT)
    oracle, out = logits(source), logits(into)
    dense = all(t.dtype == "F32" for t in open_checkpoint(into).tensors.values())
    assert np.median(np.abs(out - oracle)) <= (0 if dense else 0.05 * oracle.std())


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.recipe[-1]])
def test_a_mixed_recipe_chooses_as_mlx_lm_does(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    quantize(
        case.tiny().write(tmp_path / "source"), tmp_path / "into", QuantRecipe.of(*case.recipe)
    )
    with np.load(GOLDEN) as file:
        oracle: dict[str, int] = json.loads(str(file[f"{name} bits"]))
    how = written(tmp_path / "into")["quantization"]
    assert (how["group_size"], how["bits"]) == (32, 3)
    names = open_checkpoint(tmp_path / "into").tensors
    modules = [name.removesuffix(".scales") for name in names if name.endswith(".scales")]
    bits = {name: how.get(name, how)["bits"] for name in modules}
    assert bits == {name: oracle[name] for name in modules}
    assert set(bits.values()) == {3, 6}


def test_layers_that_a_mixed_recipe_is_careful_with() -> None:
    """Of 32, by mlx_lm's mixed_quant_predicate_builder: the ends, and every third between."""
    recipe = QuantRecipe.of(64, 4, mixed="mixed_3_6")
    bits = {i: recipe._bits(f"model.layers.{i}.mlp.down_proj", 32) for i in range(32)}
    careful = {*range(4), *range(6, 28, 3), *range(28, 32)}
    assert {layer for layer, each in bits.items() if each == 6} == careful
    assert {bits[layer] for layer in range(32) if layer not in careful} == {3}
    assert recipe._bits("model.layers.0.mlp.up_proj", 32) == 3
    assert recipe._bits("lm_head", 32) == 6


def test_what_decides_much_keeps_its_numbers(tmp_path: Path) -> None:
    source = tiny("qwen3_moe_one_expert_some_dense").write(tmp_path / "source")
    quantize(source, tmp_path / "into", FOUR)
    tensors = open_checkpoint(tmp_path / "into").tensors
    experts = "model.layers.1.mlp.switch_mlp.down_proj"
    assert tensors[f"{experts}.weight"].shape == (3, 64, 4)
    assert tensors[f"{experts}.scales"].shape == (3, 64, 1)
    assert tensors["model.layers.1.mlp.gate.weight"].dtype == "F32"
    assert tensors["model.layers.0.input_layernorm.weight"].dtype == "F32"
    assert "model.layers.1.mlp.gate.scales" not in tensors


@pytest.mark.parametrize(
    ("name", "dense"),
    [
        ("cohere_mqa_normed_biased_untied", "model.layers.0.self_attn.q_norm"),
        ("gemma3n_sparse_lending", "model.layers.0.altup.modality_router"),
        ("gemma4_experts_keys_as_values", "model.layers.0.router.proj"),
        ("gpt_oss_yarn", "model.layers.0.mlp.router"),
        ("qwen2_moe_shared", "model.layers.0.mlp.shared_expert_gate"),
    ],
)
def test_matrices_that_stay(name: str, dense: str, tmp_path: Path) -> None:
    """The matrices are widened to what would be whole groups."""
    model = tiny(name)
    array = model.tensors[f"{dense}.weight"]
    wide = np.resize(array, (*array.shape[:-1], 64))
    source = Tiny(model.config, model.tensors | {f"{dense}.weight": wide}).write(
        tmp_path / "source"
    )
    quantize(source, tmp_path / "into", FOUR)
    tensors = {n: t for n, t in open_checkpoint(tmp_path / "into").tensors.items() if dense in n}
    assert tensors[f"{dense}.weight"].dtype == "F32" and f"{dense}.scales" not in tensors


def test_what_the_model_has_no_use_for_is_left_out(tmp_path: Path) -> None:
    model = tiny("gemma3_with_images")
    none, complete = np.ones((64, 64), np.float32), np.ones((8,), np.float32)
    more = {
        "lm_head.weight": np.ones((80, 64), np.float32),
        "model.vision_tower.layers.0.weight": none,
        "language_model.model.layers.0.self_attn.rotary_emb.inv_freq": complete,
    }
    source = Tiny(model.config, model.tensors | more).write(tmp_path / "source")
    quantize(source, tmp_path / "into", FOUR)
    names = set(open_checkpoint(tmp_path / "into").tensors)
    quantize(model.write(tmp_path / "plain"), tmp_path / "same", FOUR)
    assert names == set(open_checkpoint(tmp_path / "same").tensors)


def test_rows_that_are_no_whole_number_of_groups_stay(tmp_path: Path) -> None:
    """A row has two groups of nvfp4 at least, of 16 each: MLX and we ask for that."""
    source = tiny("llama_mqa_linear_biased_tied").write(tmp_path / "source")
    quantize(source, tmp_path / "into", QuantRecipe.of(16, 4, "nvfp4"))
    tensors = open_checkpoint(tmp_path / "into").tensors
    assert tensors["model.layers.0.self_attn.q_proj.weight"].shape == (48, 48)
    assert "model.layers.0.mlp.down_proj.scales" in tensors
    assert np.isfinite(logits(tmp_path / "into")).all()


def test_a_text_model_has_the_name_that_mlx_lm_knows(tmp_path: Path) -> None:
    quantize(tiny("qwen3_5_text").write(tmp_path / "source"), tmp_path / "into", FOUR)
    assert written(tmp_path / "into")["model_type"] == "qwen3_5"


def test_granite_s_small_numbers_have_8_bits_in_floating_modes(tmp_path: Path) -> None:
    source = tiny("granite_multiplied").write(tmp_path / "source")
    quantize(source, tmp_path / "into", QuantRecipe.of(16, 4, "nvfp4"))
    how = written(tmp_path / "into")["quantization"]
    eight = {"group_size": 64, "bits": 8, "mode": "affine"}
    assert how["lm_head"] == how["model.layers.0.self_attn.o_proj"] == eight
    assert "model.layers.0.self_attn.q_proj" not in how


def test_shards_have_an_index(tmp_path: Path) -> None:
    source = tiny("llama_llama3").write(tmp_path / "source")
    quantize(source, tmp_path / "one", FOUR)
    quantize(source, tmp_path / "many", FOUR, limit=30_000)
    files = sorted(path.name for path in (tmp_path / "many").glob("*.safetensors"))
    assert len(files) > 1 and files[0] == f"model-00001-of-{len(files):05}.safetensors"
    assert (tmp_path / "many" / INDEX).exists()
    assert (logits(tmp_path / "one") == logits(tmp_path / "many")).all()


def test_files_of_the_model_go_along(tmp_path: Path) -> None:
    source = tiny("llama_llama3").write(tmp_path / "source")
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        (source / name).write_text("{}")
    more = Path("additional_chat_templates") / "rag.jinja"
    (source / more).parent.mkdir()
    (source / more).write_text("{}")
    quantize(source, tmp_path / "into", FOUR)
    assert (tmp_path / "into" / more).is_file()
    names = {path.name for path in (tmp_path / "into").iterdir()}
    assert {"tokenizer.json", "chat_template.jinja", "generation_config.json"} <= names


def refusal(source: Path, into: Path, recipe: QuantRecipe = FOUR) -> str:
    """Return the refusal, after which nothing is left but the source."""
    before = sorted(into.parent.iterdir()) if into.parent.exists() else None
    with pytest.raises(CheckpointError) as caught:
        quantize(source, into, recipe)
    assert (sorted(into.parent.iterdir()) if into.parent.exists() else None) == before
    return str(caught.value)


def test_refusals(tmp_path: Path) -> None:
    source = tiny("llama_llama3").write(tmp_path / "source")
    quantize(source, tmp_path / "into", FOUR)
    assert "exists already" in refusal(source, tmp_path / "into")
    assert "quantized already" in refusal(tmp_path / "into", tmp_path / "again")
    (tmp_path / "again.part").mkdir()
    assert "again.part exists already" in refusal(source, tmp_path / "again")
    plain = tiny("starcoder2_window_tied").write(tmp_path / "plain")
    mixed = QuantRecipe.of(32, 4, mixed="mixed_3_6")
    assert "of which starcoder2 has none" in refusal(plain, tmp_path / "x", mixed)


def damage(shard: Path, how: str) -> None:
    raw = shard.read_bytes()
    match how:
        case "gone":
            shard.unlink()
        case "short":
            shard.write_bytes(raw[:-100])
        case _:
            shard.write_bytes(raw.replace(b'"F32"', b'"F99"', 1))


@pytest.mark.parametrize(
    ("how", "message"), [("gone", "is missing"), ("short", "damaged"), ("strange", "damaged")]
)
def test_a_damaged_source(how: str, message: str, tmp_path: Path) -> None:
    source = tiny("llama_llama3").write_shards(tmp_path / "source", 3)
    damage(sorted(source.glob("*.safetensors"))[1], how)
    assert message in refusal(source, tmp_path / "new" / "deep" / "into")


def run(source: Path, into: Path) -> int:
    return main([str(source), str(into), "--bits", "4", "--group-size", "32"])


def test_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tiny("llama_llama3").write(tmp_path / "source")
    (source / "tokenizer.json").write_text("{}")

    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError("[write] Unable to write 12345 bytes to file.")

    def full_too(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "tokenizer.json")

    monkeypatch.setattr(signal, "signal", lambda *_: None)
    for place, name, fault in ((mx, "save_safetensors", full), (shutil, "copy", full_too)):
        with monkeypatch.context() as patched:
            patched.setattr(place, name, fault)
            assert run(source, tmp_path / "new" / "into") == 2
        assert [path.name for path in tmp_path.iterdir()] == ["source"]
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.count("\n") == 1
        assert "the disk may be full" in printed.err or "No space left on device" in printed.err


@pytest.mark.parametrize(
    ("stop", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["TERM", "INT"]
)
def test_nothing_is_left_of_what_was_stopped(
    stop: signal.Signals, code: int, tmp_path: Path
) -> None:
    source = tiny("llama_llama3").write(tmp_path / "source")
    program = (
        "import os, sys; import mlx.core as mx;"
        "from bessemer.engine.checkpoint.quantize import main;"
        f"mx.save_safetensors = lambda *_, **__: os.kill(os.getpid(), {int(stop)});"
        "sys.exit(main(sys.argv[1:]))"
    )
    arguments = [str(source), str(tmp_path / "into"), "--bits", "4", "--group-size", "32"]
    ran = subprocess.run(
        [sys.executable, "-P", "-c", program, *arguments], capture_output=True, text=True
    )
    assert (ran.returncode, ran.stderr) == (code, "")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(Path(sys.executable).with_name("bessemer")), "quantize", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "80"},
    )


def test_the_command(tmp_path: Path) -> None:
    source, into = tiny("llama_llama3").write(tmp_path / "source"), tmp_path / "into"
    ran = command(str(source), str(into), "--bits", "4", "--group-size", "32")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert str(into) in ran.stdout
    quantize(source, tmp_path / "same", FOUR)
    assert (logits(into) == logits(tmp_path / "same")).all()


def test_the_command_s_refusals(tmp_path: Path) -> None:
    source, new = str(tiny("llama_llama3").write(tmp_path / "source")), str(tmp_path / "new")
    for arguments, message in (
        ((source, source), "exists already"),
        ((source, new, "--bits", "7"), "--bits is 7; choose one of 2, 3"),
        ((source, new, "--mixed", "best"), "--mixed is best"),
        ((source, new, "--mixed", "mixed_3_6", "--bits", "4"), "so leave --bits out"),
        ((source, new, "--mode", "nvfp4", "--bits", "4"), "--bits goes with --mode affine alone"),
        ((source, new, "--mode", "mxfp4", "--mixed", "mixed_3_6"), "--mixed goes with"),
        ((str(tmp_path / "gone"), new), "is neither a directory nor"),
    ):
        ran = command(*arguments)
        assert ran.returncode == 2, ran
        assert message in ran.stderr and ran.stderr.count("\n") == 1
    assert not Path(new).exists()


MEASURE = """
import sys
from pathlib import Path

import mlx.core as mx

from bessemer.engine.checkpoint.quantize import QuantRecipe, quantize
from bessemer.engine.checkpoint.weights import Reading


def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


mx.eval(mx.quantize(mx.ones((64, 64))))
before = peak()
size = quantize(Path(sys.argv[1]), Path(sys.argv[2]), QuantRecipe.of(64, 4), limit=20_000_000)
print(before, peak(), size)
"""


def experts(path: Path) -> int:
    """Writes 64 experts of constants; gives the size of the file."""
    plain = tiny("qwen3_moe_normalised").config
    wide = {"hidden_size": 1024, "moe_intermediate_size": 768, "num_hidden_layers": 1}
    prefix, sizes = (
        "model.layers.0.mlp.experts",
        {"gate_proj": (768, 1024), "down_proj": (1024, 768)},
    )
    sizes["up_proj"] = sizes["gate_proj"]
    path.mkdir()
    (path / "config.json").write_text(json.dumps(plain | wide | {"num_experts": 64}))
    each = {f"{i}.{part}": shape for i in range(64) for part, shape in sizes.items()}
    arrays = {f"{prefix}.{name}.weight": mx.ones(size, mx.bfloat16) for name, size in each.items()}
    mx.save_safetensors(str(path / "model.safetensors"), arrays)
    return (path / "model.safetensors").stat().st_size


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("sparse", [False, True])
def test_peak_memory(sparse: bool, tmp_path: Path) -> None:
    """The peak is a shard, a matrix and what becomes of it; not the source or the result."""
    size = experts(tmp_path / "source") if sparse else large(tmp_path / "source", BFLOAT16)
    assert size > 270e6
    ran = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / "source"), str(tmp_path / "into")],
        capture_output=True,
        text=True,
        check=True,
    )
    before, after, result = map(int, ran.stdout.split())
    assert result > 0.27 * size
    assert after - before <= 0.25 * size


def test_eight_bit_floats_are_read(tmp_path: Path) -> None:
    """DeepSeek's layout, quantized again: what its numbers stand for is what counts."""
    model = tiny("llama_llama3")
    name = "model.layers.0.mlp.up_proj.weight"
    codes = mx.to_fp8(mx.array(model.tensors[name]))
    plain = dict(model.tensors) | {name: np.array(mx.from_fp8(codes, mx.float32))}
    for kind in ("fp8", "plain"):
        path = tiny("llama_llama3").write(tmp_path / kind)
        arrays = {key: mx.array(value) for key, value in plain.items()}
        if kind == "fp8":
            arrays |= {name: codes, f"{name}_scale_inv": mx.ones((1, 1))}
            raw = {"quant_method": "fp8", "weight_block_size": [128, 128]}
            config = model.config | {"quantization_config": raw}
            (path / "config.json").write_text(json.dumps(config))
        mx.save_safetensors(str(path / "model.safetensors"), arrays)
    label_fp8(tmp_path / "fp8" / "model.safetensors", name)
    quantize(tmp_path / "plain", tmp_path / "a", FOUR)
    quantize(tmp_path / "fp8", tmp_path / "b", FOUR)
    assert np.abs(logits(tmp_path / "a") - logits(tmp_path / "b")).max() < 0.2
