"""Storage of every kind, and checkpoints that contradict their config."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from bessemer.architectures.config import ModelConfig
from bessemer.architectures.encoder_config import configure as configure_encoder
from bessemer.architectures.layers.attention import Attention
from bessemer.architectures.layers.mlp import MLP
from bessemer.architectures.registry import configure
from bessemer.architectures.storage import Quantization, Stored
from bessemer.engine.checkpoint.checkpoint import open_checkpoint
from bessemer.engine.checkpoint.weight_files import CheckpointError
from bessemer.engine.checkpoint.weights import Reading, Weights, rename_entries
from bessemer.engine.model import load
from bessemer.http.hub import BUILT_IN
from bessemer.kernels.cpu.library import compiled
from bessemer.kernels.linear.linear import linear
from bessemer.kernels.linear.weight import FINE, Dense, Packed, Quantized, widen
from tests.architectures.parity import tiny
from tests.architectures.steps import prefill
from tests.architectures.tiny import BASE, Tiny, prompts

from ..quantized import label_fp8

CONFIG = BASE | {"model_type": "llama"}
FORMATS = Path(__file__).parents[2] / "kernels" / "golden" / "formats.npz"


def write(path: Path, arrays: dict[str, mx.array]) -> Path:
    path.mkdir(exist_ok=True)
    Tiny(CONFIG).write(path)
    mx.save_safetensors(str(path / "model.safetensors"), arrays)
    return path


def weights(path: Path, quantization: Quantization | None = None) -> Weights:
    config: ModelConfig = configure(CONFIG)
    return Weights(
        open_checkpoint(path), replace(config, quantization=quantization or Quantization())
    )


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_quantized_grid(bits: int, group: int, dtype: mx.Dtype, tmp_path: Path) -> None:
    """The oracle takes words apart bit by bit: a row is one little-endian stream of integers."""
    random = np.random.RandomState(0)
    words = random.randint(0, 2**32, (24, 256 * bits // 32), dtype=np.uint32)
    scales, biases = (mx.array(random.randn(24, 256 // group)).astype(dtype) for _ in range(2))
    path = write(tmp_path, {"m.weight": mx.array(words), "m.scales": scales, "m.biases": biases})
    out = weights(path, Quantization(Stored(group, bits))).matrix("m", 24, 256)
    assert isinstance(out, Quantized)
    assert (out.scales.dtype, out.group, out.bits) == (dtype, group, bits)
    stream = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")
    integers = stream.reshape(24, 256, bits) @ (1 << np.arange(bits))
    wide = [
        np.repeat(np.array(part.astype(mx.float32)), group, axis=1) for part in (scales, biases)
    ]
    oracle = integers * wide[0] + wide[1]
    assert np.allclose(np.array(widen(out)), oracle, rtol=1e-6, atol=1e-5)
    x = random.randn(3, 256).astype(np.float32)
    product = np.array(linear(mx.array(x), replace(out, exact=True)))
    assert np.abs(product - x @ oracle.T).max() <= 1e-5 * np.abs(product).max()


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_dense_matrices_stay_as_they_are_stored(dtype: mx.Dtype, tmp_path: Path) -> None:
    path = write(tmp_path, {"m.weight": mx.ones((8, 16), dtype), "n": mx.ones((16,), dtype)})
    reader = weights(path)
    out = reader.matrix("m", 8, 16)
    assert isinstance(out, Dense)
    assert out.weight.dtype == dtype
    assert reader.vector("n", 16).dtype == reader.dtype == mx.float32
    assert reader.bytes == (8 * 16 + 16) * dtype.size


@pytest.mark.parametrize("block", [(32, 64), None])
def test_eight_bit_floats_by_blocks_as_torch_has_them(
    block: tuple[int, int] | None, tmp_path: Path
) -> None:
    """The last blocks are cut; without blocks a single scale holds for all."""
    with np.load(FORMATS) as golden:
        codes, scales = mx.array(golden["codes"]), mx.array(golden["scales"])
        oracle = golden["bfloat16"]
    if block is None:
        rows, columns = 32, 64  # of the first block
        codes, scales, oracle = codes[:rows, :columns], scales[0, 0], oracle[:rows, :columns]
    path = write(tmp_path, {"m.weight": codes, "m.weight_scale_inv": scales, "n": mx.ones(1)})
    label_fp8(path / "model.safetensors", "m.weight")
    out = weights(path, Quantization(block=block)).matrix("m", *oracle.shape)
    assert isinstance(out, Dense) and out.weight.dtype == mx.bfloat16
    assert np.array_equal(np.array(out.weight.astype(mx.float32)), oracle, equal_nan=True)


# A number of four bits: a sign, two of exponent, one of mantissa (OCP Microscaling, E2M1).
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def test_experts_in_blocks_as_openai_published_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    blocks = rng.integers(0, 256, (2, 3, 2, 16), np.uint8)
    scales = rng.integers(120, 134, (2, 3, 2), np.uint8)
    codes = np.stack([blocks & 15, blocks >> 4], -1).reshape(2, 3, 2, 32)
    oracle = E2M1[codes] * 2.0 ** (scales[..., None].astype(np.float32) - 127)
    arrays = {"m_blocks": mx.array(blocks), "m_scales": mx.array(scales), "n": mx.ones(1)}
    out = weights(write(tmp_path, arrays)).stack("m", 2, 3, 64)
    assert isinstance(out, Quantized)
    assert np.array_equal(np.array(widen(out)), oracle.reshape(6, 64))


def test_entries_of_modules_come_before_the_default(tmp_path: Path) -> None:
    arrays = {"dense.weight": mx.ones((8, 128))}
    for name, group, bits in (("own", 32, 8), ("common", 64, 4)):
        parts = mx.quantize(mx.ones((8, 128)), group_size=group, bits=bits)
        for part, array in zip(("weight", "scales", "biases"), parts, strict=True):
            arrays[f"{name}.{part}"] = array
    modules = {"own": Stored(32, 8), "dense": None}
    reader = weights(write(tmp_path, arrays), Quantization(Stored(64, 4), modules))
    kinds = [reader.matrix(name, 8, 128) for name in ("own", "common", "dense")]
    assert [w.bits if isinstance(w, Quantized) else None for w in kinds] == [8, 4, None]
    reader.finish()


def test_what_has_no_scales_is_not_quantized(tmp_path: Path) -> None:
    reader = weights(write(tmp_path, {"m.weight": mx.ones((8, 16))}), Quantization(Stored(64, 4)))
    assert isinstance(reader.matrix("m", 8, 16), Dense)


# A golden file's config, a name of a module in `quantization`, and the name that layers ask for.
INNER = "language_model.model.layers.0"
ENTRIES = [
    (
        "qwen3_5_affine",
        "model.language_model.layers.0.linear_attn.in_proj_a",
        f"{INNER}.linear_attn.in_proj_a",
    ),
    ("qwen3_5_affine", "model.layers.0.linear_attn.in_proj_a", f"{INNER}.linear_attn.in_proj_a"),
    ("qwen3_5_affine", f"{INNER}.mlp.up_proj", f"{INNER}.mlp.up_proj"),
    ("qwen3_5_affine", "lm_head", "language_model.lm_head"),
    (
        "qwen3_5_experts_affine",
        "model.language_model.embed_tokens",
        "language_model.model.embed_tokens",
    ),
    ("mistral3_affine", "model.language_model.layers.0.mlp.up_proj.weight", f"{INNER}.mlp.up_proj"),
    ("gemma3_affine", "lm_head", "language_model.lm_head"),
    ("gemma3_text_affine", "layers.0.mlp.up_proj", "model.layers.0.mlp.up_proj"),
    ("gemma4_affine_per_layer", "embed_tokens", "model.embed_tokens"),
    (
        "mixtral_affine",
        "model.layers.0.block_sparse_moe.experts.3.w2",
        "model.layers.0.block_sparse_moe.experts.3.down_proj",
    ),
    (
        "granitemoehybrid_affine_dense",
        "model.layers.0.shared_mlp.input_linear",
        "model.layers.0.mlp.gate_up_proj",
    ),
    (
        "granitemoe_affine",
        "model.layers.0.block_sparse_moe.router",
        "model.layers.0.block_sparse_moe.router.layer",
    ),
    ("nemotron_h_affine", "model.layers.0.mixer.in_proj", "backbone.layers.0.mixer.in_proj"),
    ("mamba2_affine", "backbone.embedding", "backbone.embeddings"),
]


@pytest.mark.parametrize(("golden", "written", "asked"), ENTRIES)
def test_entries_follow_the_renames_of_tensors(golden: str, written: str, asked: str) -> None:
    config = configure(tiny(golden).config)
    for value in (Stored(64, 8), Stored(16, 4, "nvfp4"), None):
        known = Quantization(Stored(32, 4), {written: value})
        assert rename_entries(replace(config, quantization=known))[asked] == value


@pytest.mark.parametrize(
    ("kind", "written", "asked"),
    [
        ("bert", "bert.encoder.layer.0.output.dense", "encoder.layer.0.output.dense"),
        ("xlm-roberta", "roberta.pooler.dense", "pooler.dense"),
        ("modernbert", "model.layers.0.mlp.Wi", "layers.0.mlp.Wi"),
        ("nomic_bert", "nomic_bert.encoder.layers.0.mlp.fc2", "encoder.layers.0.mlp.fc2"),
    ],
)
def test_entries_of_encoders_too(kind: str, written: str, asked: str) -> None:
    sizes = {"hidden_size": 48, "num_attention_heads": 3, "num_hidden_layers": 1}
    sizes |= {"vocab_size": 90, "intermediate_size": 80, "pad_token_id": 1}
    raw = {"model_type": kind, "quantization": {"group_size": 64, "bits": 4, written: {"bits": 8}}}
    assert rename_entries(configure_encoder(raw | sizes))[asked] == Stored(64, 8)


def test_the_name_that_layers_ask_for_goes_before_one_that_leads_there() -> None:
    config = configure(tiny("qwen3_5_affine").config)
    names = (f"{INNER}.mlp.up_proj", "model.language_model.layers.0.mlp.up_proj")
    for order in (names, names[::-1]):
        entries = {name: Stored(64, 8 if name == names[0] else 2) for name in order}
        known = rename_entries(replace(config, quantization=Quantization(None, entries)))
        assert known[names[0]] == Stored(64, 8)


def by_hugging_face(name: str) -> str:
    return name.replace("language_model.model.", "model.language_model.").replace(
        "language_model.lm_head", "lm_head"
    )


@pytest.mark.parametrize("golden", ["qwen3_5_affine", "qwen3_5_experts_affine", "mistral3_affine"])
def test_a_mixed_checkpoint_by_hugging_face_s_names(golden: str, tmp_path: Path) -> None:
    made, text = tiny(golden), prompts()[0]
    entries = {by_hugging_face(name): how for name, how in made.config["quantization"].items()}
    tensors = {by_hugging_face(name): array for name, array in made.tensors.items()}
    renamed = Tiny(made.config | {"quantization": entries}, tensors).write(tmp_path / "hf")
    oracle = prefill(load(made.write(tmp_path / "mlx"), Reading(exact=True)), text)
    assert (prefill(load(renamed, Reading(exact=True)), text) == oracle).all()


def test_experts_one_by_one_with_entries_of_their_own(tmp_path: Path) -> None:
    """As Mixtral's maker names them; MLX's files have them stacked."""
    made, text = tiny("mixtral_affine"), prompts()[0]
    meta = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}
    tensors, entries = {}, dict(made.config["quantization"])
    for name, array in made.tensors.items():
        stack, _, rest = name.partition(".switch_mlp.")
        for i, part in enumerate(array if rest else ()):
            module, leaf = rest.split(".")
            tensors[f"{stack}.experts.{i}.{meta[module]}.{leaf}"] = np.ascontiguousarray(part)
            entries[f"{stack}.experts.{i}.{meta[module]}"] = {"group_size": 32, "bits": 4}
        if not rest:
            tensors[name] = array
            module = name.rpartition(".")[0]
            if f"{module}.scales" in made.tensors and module not in entries:
                entries[module] = {"group_size": 32, "bits": 4}
    mixed = made.config | {"quantization": entries | {"group_size": 64, "bits": 8}}
    path = Tiny(mixed, tensors).write(tmp_path / "apart")
    oracle = prefill(load(made.write(tmp_path / "mlx"), Reading(exact=True)), text)
    assert (prefill(load(path, Reading(exact=True)), text) == oracle).all()


KINDS = [
    Stored(64, 4),
    Stored(32, 8),
    Stored(64, 6),
    Stored(32, 4, "mxfp4"),
    Stored(16, 4, "nvfp4"),
    Stored(32, 8, "mxfp8"),
]


@pytest.mark.parametrize("default", KINDS)
def test_entries_under_names_that_nobody_asks_for(default: Stored, tmp_path: Path) -> None:
    """What fits is found among what the config says, and never what it does not say."""
    arrays = {"n": mx.ones((1,))}
    for i, how in enumerate(KINDS):
        entry: dict[str, Any] = how.entry
        parts = mx.quantize(mx.random.normal((8, 128)), **entry)
        for part, array in zip(("weight", "scales", "biases"), parts, strict=False):
            arrays[f"m{i}.{part}"] = array
    path = write(tmp_path, arrays)
    others = {f"elsewhere.m{i}": how for i, how in enumerate(KINDS)}
    reader = weights(path, Quantization(default, others))
    for i, how in enumerate(KINDS):
        read = reader.matrix(f"m{i}", 8, 128)
        assert isinstance(read, Quantized)
        assert (read.group, read.bits, read.mode) == (how.group, how.bits, how.mode)
    silent = weights(path, Quantization(default, {"elsewhere.x": Stored(128, 2), "y": None}))
    for i, how in enumerate(KINDS):
        if how != default:
            with pytest.raises(CheckpointError, match=rf"m{i}\.(weight|scales) (has shape|is )"):
                silent.matrix(f"m{i}", 8, 128)


def quantized_parts(**changes: Any) -> dict[str, mx.array]:
    words, scales, biases = mx.quantize(mx.ones((8, 128)), group_size=64, bits=4)
    parts = {"m.weight": words, "m.scales": scales, "m.biases": biases}
    parts |= {f"m.{part}": array for part, array in changes.items()}
    return {name: array for name, array in parts.items() if array is not None}


CONTRADICTIONS: list[tuple[dict[str, mx.array], Quantization, str]] = [
    ({"x": mx.ones(1)}, Quantization(), "lacks the tensor m.weight"),
    ({"m.weight": mx.ones((8, 127))}, Quantization(), "m.weight has shape (8, 127)"),
    ({"m.weight": mx.ones((8, 128, 1))}, Quantization(), "m.weight has shape (8, 128, 1)"),
    (
        {"m.weight": mx.ones((8, 128), mx.int32), "x": mx.ones(1)},
        Quantization(),
        "m.weight is I32, expected F32 or F16 or BF16",
    ),
    (quantized_parts(), Quantization(), "config.json says nothing of quantization"),
    (quantized_parts(), Quantization(Stored(64, 8)), "m.weight has shape (8, 16)"),
    (quantized_parts(), Quantization(Stored(32, 4)), "m.scales has shape (8, 2)"),
    (quantized_parts(), Quantization(Stored(64, 4), {"m": None}), "m.weight is U32"),
    (quantized_parts(biases=None), Quantization(Stored(64, 4)), "lacks the tensor m.biases"),
    (
        quantized_parts(scales=None),
        Quantization(Stored(64, 4), {"m": Stored(64, 4)}),
        "lacks the tensor m.scales",
    ),
    (
        quantized_parts(weight=mx.ones((8, 16), mx.int32)),
        Quantization(Stored(64, 4)),
        "m.weight is I32, expected U32",
    ),
]


@pytest.mark.parametrize(("arrays", "quantization", "message"), CONTRADICTIONS)
def test_contradictions_name_the_tensor(
    arrays: dict[str, mx.array], quantization: Quantization, message: str, tmp_path: Path
) -> None:
    reader = weights(write(tmp_path, arrays), quantization)
    with pytest.raises(CheckpointError) as caught:
        reader.matrix("m", 8, 128)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_columns_that_no_group_fits(tmp_path: Path) -> None:
    reader = weights(write(tmp_path, quantized_parts()), Quantization(Stored(64, 4)))
    with pytest.raises(CheckpointError, match="m has 100 columns, quantized by 64 at a time"):
        reader.matrix("m", 8, 100)


def test_a_file_that_mlx_cannot_read(tmp_path: Path) -> None:
    header = (
        b'{"x":{"dtype":"F8_E5M2","shape":[4],"data_offsets":[0,4]},'
        b'"n":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}'
    )
    Tiny(CONFIG).write(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read by MLX"):
        weights(tmp_path).vector("n", 1)


def test_no_floating_tensor_at_all(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no tensor of F32, F16, BF16"):
        weights(write(tmp_path, {"m": mx.ones((1,), mx.int32)}))


def test_tensors_left_over(tmp_path: Path) -> None:
    arrays = {"model.layers.0.self_attn.rotary_emb.inv_freq": mx.ones(8)}
    weights(write(tmp_path, arrays)).finish()
    arrays |= {"model.layers.7.mlp.up_proj.weight": mx.ones((2, 2)), "visual.a": mx.ones(1)}
    with pytest.raises(CheckpointError) as caught:
        weights(write(tmp_path, arrays)).finish()
    assert "model.layers.7.mlp.up_proj.weight and 1 more" in str(caught.value)


def test_a_file_is_read_lazily_and_once(tmp_path: Path) -> None:
    """Taking one of many tensors peaks at that one."""
    many = {f"m{i}": mx.ones((1 << 20,)) for i in range(16)}
    path = write(tmp_path, many)
    del many
    reader = weights(path)
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    taken = reader.vector("m3", 1 << 20)
    assert mx.get_peak_memory() - before <= taken.nbytes * 1.01
    with pytest.raises(CheckpointError, match="lacks the tensor m3"):
        reader.vector("m3", 1 << 20)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_numbers_that_are_none(broken: float, tmp_path: Path) -> None:
    arrays = {"m.weight": mx.full((8, 64), broken), "n": mx.ones((4,))}
    path = write(tmp_path, arrays)
    assert isinstance(weights(path).matrix("m", 8, 64), Dense)  # unless they are looked for
    reader = Weights(open_checkpoint(path), configure(CONFIG), Reading(check=True))
    assert reader.vector("n", 4).tolist() == [1, 1, 1, 1]
    with pytest.raises(CheckpointError) as caught:
        reader.matrix("m", 8, 64)
    assert str(caught.value) == f"{path / 'model.safetensors'}: m.weight holds NaN or infinity"


def test_scales_that_are_none(tmp_path: Path) -> None:
    path = write(tmp_path, quantized_parts(scales=mx.full((8, 2), float("nan"))))
    config = replace(configure(CONFIG), quantization=Quantization(Stored(64, 4)))
    with pytest.raises(CheckpointError, match=r"m\.scales holds NaN"):
        Weights(open_checkpoint(path), config, Reading(check=True)).matrix("m", 8, 128)


@pytest.mark.skipif(not compiled(), reason="there are no C kernels")
@pytest.mark.parametrize("fine", [False, True])
def test_outliers_are_apart_where_the_residual_stream_is_read_and_in_the_last_mlp(
    fine: bool,
) -> None:
    decoder: Any = load(BUILT_IN, Reading(fine=fine)).decoder
    first, last = (each.feed_forward for each in (decoder.blocks[0], decoder.blocks[-1]))
    mixer = decoder.blocks[0].mixer
    assert isinstance(first, MLP) and isinstance(last, MLP) and isinstance(mixer, Attention)
    weights = [
        mixer.output.parts[0][0],
        decoder.head,
        *(mlp.down.parts[0][0] for mlp in (last, first)),
    ]
    weights += [mlp.gate_up.parts[0][0] for mlp in (last, first)]
    assert all(isinstance(weight, Packed) for weight in weights)
    ways = [weight.matrix.exact for weight in weights if isinstance(weight, Packed)]
    assert ways == ([0, FINE, FINE, 0, FINE, FINE] if fine else [0] * 6)
