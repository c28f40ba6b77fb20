"""A GGUF file of a random model for llama.cpp: the same weights in blocks of equal bytes."""

import importlib
import json
import mmap
from collections.abc import Callable, Iterator, Mapping
from math import tau
from pathlib import Path
from typing import Any

import numpy as np

from bessemer.bench.compare.contest import Unavailable
from bessemer.bench.models.shapes import ModelShape, TensorSpec, head_dim, tensors
from bessemer.bench.models.synthetic import Array, Storage, as_float32, replacing
from bessemer.engine.command_line import install

ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "qwen3_moe": "qwen3moe",
    "deepseek_v2": "deepseek2",
}
BLOCK = 32
ROWS = 1 << 23  # values converted at a time
Q6_K = (256, 210)  # values and bytes of a block


def gguf_file(shape: ModelShape, storage: Storage, checkpoint: Path, head: str = "") -> Path:
    """Return the file beside other models in the cache, written from the checkpoint if need be."""
    suffix = f"-{head}-head" if head else ""
    target = checkpoint.with_name(f"{checkpoint.name}{suffix}-gguf")
    if not target.exists():
        with replacing(target) as scratch:
            write(scratch / "model.gguf", shape, storage, checkpoint, head)
    return target / "model.gguf"


def format_name(storage: Storage) -> str:
    """Return GGUF's name of blocks with this very content, or of dense numbers."""
    if not storage.bits:
        return {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}[storage.dtype]
    kind = {4: "Q4_0", 8: "Q8_0"}.get(storage.bits)
    if kind is None:
        raise Unavailable(
            f"GGUF has no format with the same content as MLX's {storage.bits} bits; "
            "compare at --bits 4 or 8, or leave llama.cpp out"
        )
    return kind


def write(path: Path, shape: ModelShape, storage: Storage, checkpoint: Path, head: str) -> None:
    gguf = require_gguf()
    architecture = ARCHITECTURES.get(shape.config["model_type"])
    if architecture is None:
        raise Unavailable(f"no GGUF of {shape.name} is written; leave llama.cpp out")
    writer = gguf.GGUFWriter(path, architecture)
    _settings(writer, gguf, shape.config)
    _tokenizer(writer, checkpoint)
    kind = format_name(storage)
    jobs: list[Callable[[], Array]] = []
    with MappedSafetensors(checkpoint / "model.safetensors") as source:
        for tensor in tensors(shape.config):
            job, dtype, raw = _plan(source, tensor, shape, storage, kind, head)
            name = f"{tensor.gguf}.{'bias' if tensor.kind == 'bias' else 'weight'}"
            number = gguf.GGMLQuantizationType[dtype]
            writer.add_tensor_info(name, raw[0], np.dtype(raw[1]), raw[2], number)
            jobs.append(job)
        if factors := list(llama3_factors(shape.config)):
            divisors = np.array(factors, np.float32)
            info = (divisors.shape, divisors.dtype, divisors.nbytes, gguf.GGMLQuantizationType.F32)
            writer.add_tensor_info("rope_freqs.weight", *info)
            jobs.append(lambda: divisors)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for job in jobs:
            writer.write_tensor_data(job())
    writer.close()


def require_gguf() -> Any:
    try:
        return importlib.import_module("gguf")
    except ModuleNotFoundError:
        raise Unavailable(
            f"writing a GGUF file for llama.cpp needs the gguf package: {install('gguf')}"
        ) from None


class MappedSafetensors:
    """The arrays of a safetensors file that synthetic wrote, mapped, not read."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        length = int.from_bytes(self._map[:8], "little")
        self._header = json.loads(self._map[8 : 8 + length])
        self._start = 8 + length

    def __enter__(self) -> "MappedSafetensors":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getitem__(self, name: str) -> Array:
        entry = self._header[name]
        dtype = {"U32": "<u4", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}[entry["dtype"]]
        start, end = (self._start + offset for offset in entry["data_offsets"])
        count = (end - start) // np.dtype(dtype).itemsize
        return np.frombuffer(self._map, dtype, count, start).reshape(entry["shape"])


Plan = tuple[Callable[[], Array], str, tuple[tuple[int, ...], str, int]]


def _plan(
    source: MappedSafetensors,
    tensor: TensorSpec,
    shape: ModelShape,
    storage: Storage,
    kind: str,
    head: str,
) -> Plan:
    """Return how to make a tensor's bytes, its GGUF type, and (shape, dtype, bytes) of those."""
    order = _rope_order(shape.config, tensor)
    if not storage.quantizes(tensor):
        name = f"{tensor.name}.{'bias' if tensor.kind == 'bias' else 'weight'}"
        return _dense(source, tensor, name, storage, order)
    is_head = tensor.gguf == ("token_embd" if shape.config["tie_word_embeddings"] else "output")
    if head and is_head:
        return _six_bits(tensor)
    *rows, columns = tensor.shape
    width = columns // BLOCK * (18 if kind == "Q4_0" else 34)
    size = int(np.prod(rows)) * width
    raw = ((*rows, width), "uint8", size)
    return lambda: _blocks(source, tensor, storage, order).reshape(raw[0]), kind, raw


def _dense(
    source: MappedSafetensors, tensor: TensorSpec, name: str, storage: Storage, order: Array | None
) -> Plan:
    """Plan numbers; vectors and routers are float32 in GGUF whatever the rest is."""
    small = tensor.kind in ("norm", "bias", "router")
    kind = (
        "F32" if small else {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}[storage.dtype]
    )
    width = 4 if kind == "F32" else 2

    def make() -> Array:
        rows = source[name] if order is None else source[name][order]
        return as_float32(rows, storage.dtype) if small else np.ascontiguousarray(rows)

    dtype = {"F32": "float32", "F16": "float16", "BF16": "uint8"}[kind]
    shape = (*tensor.shape[:-1], tensor.shape[-1] * 2) if kind == "BF16" else tensor.shape
    return make, kind, (shape, dtype, tensor.size * width)


def _blocks(
    source: MappedSafetensors, tensor: TensorSpec, storage: Storage, order: Array | None
) -> Array:
    columns = tensor.shape[-1]
    packed = source[f"{tensor.name}.weight"].reshape(-1, columns * storage.bits // 32)
    scales = source[f"{tensor.name}.scales"].reshape(-1, columns // storage.group)
    rows = np.arange(len(packed)) if order is None else order
    step = max(1, ROWS // columns)
    parts = (
        _convert(packed[some], as_float32(scales[some], storage.dtype), storage)
        for some in (rows[start : start + step] for start in range(0, len(rows), step))
    )
    return np.concatenate(list(parts))


def _convert(packed: Array, scales: Array, storage: Storage) -> Array:
    """Turn rows of MLX's little-endian packing into Q4_0 or Q8_0 blocks: a scale, then levels."""
    count = len(packed)
    levels = np.ascontiguousarray(packed).view(np.uint8).reshape(count, -1)
    scale = np.repeat(scales, storage.group // BLOCK, axis=1).astype(np.float16)
    head = scale.view(np.uint8).reshape(count, -1, 2)
    if storage.bits == 4:
        each = np.empty((count, levels.shape[1] * 2), np.uint8)
        each[:, 0::2], each[:, 1::2] = levels & 15, levels >> 4
        blocks = each.reshape(count, -1, BLOCK)
        body = blocks[..., : BLOCK // 2] | (blocks[..., BLOCK // 2 :] << 4)
    else:
        body = (levels ^ 0x80).reshape(count, -1, BLOCK)  # q - 128 as a signed byte
    return np.concatenate([head, body], axis=2).reshape(count, -1)


def _six_bits(tensor: TensorSpec) -> Plan:
    """Plan a head in Q6_K, as llama.cpp's quantizer makes it: other weights of the same spread."""
    rows, columns = tensor.shape
    values, size = Q6_K
    if columns % values:
        raise Unavailable(f"a q6_k head needs a width in multiples of {values}, not {columns}")
    shape = (rows, columns // values * size)

    def make() -> Array:
        random = np.random.default_rng(0)
        blocks = random.integers(0, 256, (rows * columns // values, size), np.uint8)
        blocks[:, 192:208] = 16
        scale = 1 / (columns**0.5 * 18.5 * 16)
        blocks[:, 208:] = np.frombuffer(np.float16(scale).tobytes(), np.uint8)
        return blocks.reshape(shape)

    return make, "Q6_K", (shape, "uint8", shape[0] * shape[1])


def _rope_order(config: Mapping[str, Any], tensor: TensorSpec) -> Array | None:
    """Return the order of rows: llama.cpp rotates neighbouring pairs of a head, MLX its halves."""
    if ARCHITECTURES[config["model_type"]] != "llama" or tensor.gguf[-2:] not in ("_q", "_k"):
        return None
    rows, size = tensor.shape[0], head_dim(config)
    return np.arange(rows).reshape(-1, 2, size // 2).swapaxes(1, 2).reshape(-1)


def _settings(writer: Any, gguf: Any, config: Mapping[str, Any]) -> None:
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    if config["model_type"] == "deepseek_v2":
        _deepseek(writer, gguf, config)
        return
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_dim(config))
    writer.add_value_length(head_dim(config))
    writer.add_rope_dimension_count(head_dim(config))
    if config["model_type"] == "qwen3_moe":
        writer.add_expert_count(config["num_experts"])
        writer.add_expert_used_count(config["num_experts_per_tok"])
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])


def _deepseek(writer: Any, gguf: Any, config: Mapping[str, Any]) -> None:
    rope = config["qk_rope_head_dim"]
    writer.add_head_count_kv(config["num_attention_heads"])
    writer.add_key_length(config["qk_nope_head_dim"] + rope)
    writer.add_value_length(config["v_head_dim"])
    writer.add_rope_dimension_count(rope)
    writer.add_kv_lora_rank(config["kv_lora_rank"])
    writer.add_q_lora_rank(0)
    writer.add_leading_dense_block_count(config["first_k_dense_replace"])
    writer.add_expert_count(config["n_routed_experts"])
    writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_expert_shared_count(config["n_shared_experts"])
    writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    writer.add_expert_weights_scale(config["routed_scaling_factor"])
    writer.add_expert_weights_norm(config["norm_topk_prob"])
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SOFTMAX)
    scaling = config["rope_scaling"]
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(float(scaling["factor"]))
    writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
    writer.add_rope_scaling_yarn_log_mul(0.1 * scaling["mscale_all_dim"])


def _tokenizer(writer: Any, checkpoint: Path) -> None:
    """Write the checkpoint's byte-level vocabulary, so that all contestants see the same tokens."""
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text(encoding="utf-8"))
    settings = json.loads((checkpoint / "tokenizer_config.json").read_text(encoding="utf-8"))
    special = {token["content"] for token in tokenizer["added_tokens"]}
    vocabulary = tokenizer["model"]["vocab"]
    names = sorted(vocabulary, key=vocabulary.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(names)
    writer.add_token_types([3 if name in special else 1 for name in names])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(vocabulary[settings["eos_token"]])
    writer.add_pad_token_id(vocabulary[settings["pad_token"]])
    writer.add_add_bos_token(False)
    writer.add_chat_template(settings["chat_template"])


def llama3_factors(config: Mapping[str, Any]) -> Iterator[float]:
    """Yield what Llama 3 divides each rotary frequency by; llama.cpp reads it as a tensor."""
    scaling = config.get("rope_scaling", {})
    if scaling.get("rope_type") != "llama3":
        return
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    for index in range(head_dim(config) // 2):
        frequency = config["rope_theta"] ** (-2 * index / head_dim(config))
        cycles = scaling["original_max_position_embeddings"] * frequency / tau
        smooth = min(max((cycles - low) / (high - low), 0), 1)
        yield 1 / ((1 - smooth) / scaling["factor"] + smooth)
