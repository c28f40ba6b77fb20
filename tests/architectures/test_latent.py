"""Checkpoints of latent attention: how they store the same weights, and what is refused."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bessemer.architectures.config import ConfigError
from bessemer.architectures.decoder import Block
from bessemer.architectures.layers.mla import LatentAttention
from bessemer.architectures.registry import configure
from bessemer.engine.checkpoint.weight_files import CheckpointError
from bessemer.engine.checkpoint.weights import Reading
from bessemer.engine.model import load
from bessemer.kernels.linear.weight import Packed, widen

from .parity import tiny
from .steps import prefill
from .test_deepseek_v2 import PUBLISHED
from .test_deepseek_v3 import V3
from .tiny import Floats, Tiny, prompts, stream

NAME = "deepseek_v3_groups_yarn"
BLOCK = (16, 12)


def logits(checkpoint: Tiny, path: Path) -> Floats:
    return prefill(load(checkpoint.write(path), Reading(exact=True)), prompts()[0])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("norm_topk_prob", True),
        ("scoring_func", "sigmoid"),
        ("topk_method", "noaux_tc"),
        ("num_key_value_heads", 8),
        ("partial_rotary_factor", 0.5),
        ("mlp_bias", True),
    ],
)
def test_what_is_not_built_is_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        configure(PUBLISHED | {field: value})


@pytest.mark.parametrize(
    ("field", "value", "refused"),
    [("n_group", 3, "n_group"), ("topk_group", 9, "topk_group"), ("n_group", 64, "topk_group")],
)
def test_groups_that_cannot_be(field: str, value: int, refused: str) -> None:
    limited = {"topk_method": "group_limited_greedy", "n_group": 8, "topk_group": 3}
    configure(PUBLISHED | limited)
    with pytest.raises(ConfigError, match=refused):
        configure(PUBLISHED | limited | {field: value})


def test_layers_that_predict_further_tokens_are_left_out(tmp_path: Path) -> None:
    checkpoint = tiny(NAME)
    more = {f"model.layers.3.{part}.weight": np.ones((2, 2), np.float32) for part in ("enorm", "x")}
    checkpoint.tensors |= more
    assert (logits(checkpoint, tmp_path / "a") == logits(tiny(NAME), tmp_path / "b")).all()
    checkpoint.tensors["model.layers.4.enorm.weight"] = np.ones(2, np.float32)
    with pytest.raises(CheckpointError, match=r"model\.layers\.4\.enorm"):
        load(checkpoint.write(tmp_path / "c"))


def test_split_projections_are_the_joint_one(tmp_path: Path) -> None:
    """MLX's checkpoints hold the keys' part transposed, and the values' part by itself."""
    checkpoint = tiny(NAME)
    nope, rank = V3["qk_nope_head_dim"], V3["kv_lora_rank"]
    for layer in range(3):
        name = f"model.layers.{layer}.self_attn"
        both = checkpoint.tensors.pop(f"{name}.kv_b_proj.weight").reshape(4, -1, rank)
        keys = np.ascontiguousarray(both[:, :nope].transpose(0, 2, 1))
        checkpoint.tensors[f"{name}.embed_q.weight"] = keys
        checkpoint.tensors[f"{name}.unembed_out.weight"] = np.ascontiguousarray(both[:, nope:])
    assert (logits(checkpoint, tmp_path / "a") == logits(tiny(NAME), tmp_path / "b")).all()


def test_a_quantized_joint_projection_is_widened_to_16_bits(tmp_path: Path) -> None:
    path = tiny("deepseek_v2_affine").write(tmp_path)
    absorbed = []
    for exact in (True, False):
        block = load(path, Reading(exact=exact)).decoder.blocks[0]
        assert isinstance(block, Block)
        mixer = block.mixer
        assert isinstance(mixer, LatentAttention) and isinstance(mixer.absorb, Packed)
        absorbed.append((np.array(widen(mixer.absorb)), mixer.absorb.arrays[0].nbytes))
    (wide, size), (narrow, half) = absorbed
    assert size == wide.size * 4 and half == wide.size * 2
    assert (narrow == wide.astype(np.float16)).all()


def eight_bits(name: str, like: Floats) -> tuple[NDArray[np.uint8], Floats]:
    """Codes up to 3.75 with either sign, and scales that give about the spread of `like`."""
    random, (rows, columns) = stream(f"{name}.codes"), like.shape
    codes = random.randint(0, 2, like.shape) << 7 | random.randint(0, 72, like.shape)
    blocks = (-(-rows // BLOCK[0]), -(-columns // BLOCK[1]))
    scales = like.std() * random.uniform(0.3, 1.0, blocks)
    return codes.astype(np.uint8), scales.astype(np.float32)


def values_of(codes: NDArray[np.uint8]) -> Floats:
    """E4M3 by definition: a sign, 4 bits of exponent with a bias of 7, 3 bits of mantissa."""
    wide = codes.astype(np.int32)
    exponent, mantissa = wide >> 3 & 15, wide & 7
    size = np.where(exponent > 0, (8 + mantissa) * 2.0**exponent, 2 * mantissa) / 2**10
    return np.where(wide >> 7, -size, size).astype(np.float32)


def spread(scales: Floats, shape: tuple[int, ...]) -> Floats:
    """Each scale over its block."""
    spread_out = scales.repeat(BLOCK[0], axis=0).repeat(BLOCK[1], axis=1)
    return spread_out[: shape[0], : shape[1]]


def to_nearest_16(values: Floats) -> Floats:
    """Round to bfloat16, ties to even."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


def relabel(file: Path, names: list[str]) -> None:
    """The codes are written as plain bytes; the header is to say what they are."""
    raw = file.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    for name in names:
        header[name]["dtype"] = "F8_E4M3"
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])


@pytest.mark.parametrize(
    ("model", "chosen"), [(NAME, r"_proj"), ("minimax_m2_half", r"_proj|\.w[123]\.")]
)
def test_eight_bit_floats_in_blocks(tmp_path: Path, model: str, chosen: str) -> None:
    """DeepSeek's layout of all projections; the router and the head are as they were."""
    plain, coded = tiny(model), tiny(model)
    raw = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": list(BLOCK)}
    coded.config = coded.config | {"quantization_config": raw}
    names = [name for name in plain.tensors if re.search(chosen, name)]
    for name in names:
        codes, scales = eight_bits(name, plain.tensors[name])
        coded.tensors |= {name: codes, f"{name}_scale_inv": scales}
        plain.tensors[name] = to_nearest_16(values_of(codes) * spread(scales, codes.shape))
    path = coded.write(tmp_path / "coded")
    relabel(path / "model.safetensors", names)
    out = prefill(load(path, Reading(exact=True)), prompts()[0])
    reference = logits(plain, tmp_path / "plain")
    assert reference.std() > 1 and np.abs(out - reference).max() < 1e-4
