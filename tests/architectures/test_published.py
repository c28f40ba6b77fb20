"""Configs of published checkpoints, about half from repositories, the others as remembered."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bessemer.architectures import encoder_config
from bessemer.architectures.config import (
    AttentionConfig,
    ConfigError,
    DeltaConfig,
    LatentConfig,
    ModelConfig,
    SharingConfig,
    SsmConfig,
)
from bessemer.architectures.feed_forward_config import (
    FeedForwardConfig,
    MoeConfig,
    ParallelConfig,
)
from bessemer.architectures.registry import configure
from bessemer.architectures.storage import Stored

PUBLISHED: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "published.json").read_text()
)


@dataclass(frozen=True, slots=True)
class Facts:
    """`windows` widest first; `experts` of a layer, without shared ones, and of a token."""

    layers: int
    context: int
    windows: tuple[int | None, ...] = (None,)
    ropes: tuple[str, ...] = ("default",)
    experts: tuple[int, int] | None = None


LONG_AND_SHORT = ("default", "linear")
FACTS = {
    "01-ai/Yi-34B": Facts(60, 4096),
    "allenai/OLMo-2-1124-7B-Instruct": Facts(32, 4096),
    "allenai/Olmo-3.1-32B-Instruct": Facts(64, 65_536, (None, 4096), ("default", "yarn")),
    "bigcode/starcoder2-15b": Facts(40, 16_384, (4096,)),
    "bigcode/starcoder2-3b": Facts(30, 16_384, (4096,)),
    "ByteDance-Seed/Seed-OSS-36B-Instruct": Facts(64, 524_288),
    "codellama/CodeLlama-34b-Instruct-hf": Facts(48, 16_384),
    "CohereForAI/c4ai-command-a-03-2025": Facts(64, 262_144, (None, 4096)),
    "CohereForAI/c4ai-command-r-08-2024": Facts(40, 131_072),
    "CohereForAI/c4ai-command-r-v01": Facts(40, 8192),
    "CohereForAI/c4ai-command-r7b-12-2024": Facts(32, 8192, (None, 4096)),
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": Facts(32, 131_072, ropes=("llama3",)),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": Facts(28, 131_072),
    "deepseek-ai/DeepSeek-V2-Lite": Facts(27, 163_840, ropes=("yarn",), experts=(64, 6)),
    "deepseek-ai/DeepSeek-V3": Facts(61, 163_840, ropes=("yarn",), experts=(256, 8)),
    "google/embeddinggemma-300m": Facts(24, 2048, (None, 257)),  # half of 512 is ahead
    "google/gemma-2-2b-it": Facts(26, 8192, (None, 4096)),
    "google/gemma-2-9b-it": Facts(42, 8192, (None, 4096)),
    "google/gemma-3-1b-it": Facts(26, 32_768, (None, 512)),
    "google/gemma-3-270m-it": Facts(18, 32_768, (None, 512)),
    "google/gemma-3-27b-it": Facts(62, 131_072, (None, 1024), LONG_AND_SHORT),
    "google/gemma-3-4b-it": Facts(34, 131_072, (None, 1024), LONG_AND_SHORT),
    "google/gemma-3n-E2B": Facts(30, 32_768, (None, 512)),
    "google/gemma-4-26B-A4B": Facts(
        30, 262_144, (None, 1024), ("default", "proportional"), (128, 8)
    ),
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": Facts(24, 8192),
    "HuggingFaceTB/SmolLM2-135M-Instruct": Facts(30, 8192),
    "HuggingFaceTB/SmolLM3-3B": Facts(36, 65_536),
    "ibm-granite/granite-3.3-8b-instruct": Facts(40, 131_072),
    "ibm-granite/granite-4.0-h-tiny": Facts(40, 131_072, ropes=(), experts=(64, 6)),
    "ibm-research/PowerMoE-3b": Facts(32, 4096, experts=(40, 8)),
    "LGAI-EXAONE/EXAONE-4.0-32B": Facts(64, 131_072, (None, 4096), ("llama3",)),
    "LiquidAI/LFM2-1.2B": Facts(16, 128_000),
    "LiquidAI/LFM2-8B-A1B": Facts(24, 128_000, experts=(32, 4)),
    "meta-llama/Llama-2-7b-hf": Facts(32, 4096),
    "meta-llama/Llama-3.2-1B-Instruct": Facts(16, 131_072, ropes=("llama3",)),
    "meta-llama/Meta-Llama-3-8B-Instruct": Facts(32, 8192),
    "meta-llama/Meta-Llama-3.1-8B": Facts(32, 131_072, ropes=("llama3",)),
    "microsoft/Phi-3-mini-4k-instruct": Facts(32, 4096, (2047,)),
    "microsoft/phi-4": Facts(40, 16_384),
    "microsoft/Phi-4-mini-instruct": Facts(32, 131_072, ropes=("longrope",)),
    "microsoft/Phi-mini-MoE-instruct": Facts(32, 4096, (2047,), experts=(16, 2)),
    "MiniMaxAI/MiniMax-M2.5": Facts(62, 196_608, experts=(256, 8)),
    "mistralai/Devstral-2-123B-Instruct-2512": Facts(88, 262_144, ropes=("yarn",)),
    "mistralai/Devstral-Small-2-24B-Instruct-2512": Facts(40, 393_216, ropes=("yarn",)),
    "mistralai/Ministral-8B-Instruct-2410": Facts(36, 32_768),
    "mistralai/Mistral-7B-Instruct-v0.2": Facts(32, 32_768),
    "mistralai/Mistral-7B-Instruct-v0.3": Facts(32, 32_768),
    "mistralai/Mistral-7B-v0.1": Facts(32, 32_768, (4096,)),
    "mistralai/Mistral-Nemo-Instruct-2407": Facts(40, 131_072),
    "mistralai/Mistral-Small-24B-Instruct-2501": Facts(40, 32_768),
    "mistralai/Mistral-Small-3.1-24B-Instruct-2503": Facts(40, 131_072),
    "mistralai/Mixtral-8x22B-v0.1": Facts(56, 65_536, experts=(8, 2)),
    "mistralai/Mixtral-8x7B-v0.1": Facts(32, 32_768, experts=(8, 2)),
    "mlx-community/gemma-3-4b-it-4bit": Facts(34, 131_072, (None, 1024), LONG_AND_SHORT),
    "mlx-community/Llama-3.2-1B-Instruct-4bit": Facts(16, 131_072, ropes=("llama3",)),
    "mlx-community/Qwen3-30B-A3B-4bit": Facts(48, 40_960, experts=(128, 8)),
    "moonshotai/Kimi-K2-Instruct": Facts(61, 131_072, ropes=("yarn",), experts=(384, 8)),
    "moonshotai/Moonlight-16B-A3B-Instruct": Facts(27, 8192, experts=(64, 6)),
    "nvidia/Nemotron-H-56B-Base-8K": Facts(118, 8192, ropes=()),
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": Facts(52, 262_144, ropes=(), experts=(128, 6)),
    "nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16": Facts(
        108, 262_144, ropes=(), experts=(512, 22)
    ),
    "nvidia/NVIDIA-Nemotron-Nano-9B-v2": Facts(56, 131_072, ropes=()),
    "openai/gpt-oss-120b": Facts(36, 131_072, (None, 128), ("yarn",), (128, 4)),
    "openai/gpt-oss-20b": Facts(24, 131_072, (None, 128), ("yarn",), (32, 4)),
    "Qwen/Qwen1.5-7B-Chat": Facts(32, 32_768),
    "Qwen/Qwen1.5-MoE-A2.7B-Chat": Facts(24, 8192, experts=(60, 4)),
    "Qwen/Qwen2-57B-A14B-Instruct": Facts(28, 32_768, experts=(64, 8)),
    "Qwen/Qwen2-7B-Instruct": Facts(28, 32_768),
    "Qwen/Qwen2.5-7B-Instruct": Facts(28, 32_768),
    "Qwen/Qwen3-0.6B": Facts(28, 40_960),
    "Qwen/Qwen3-30B-A3B-Instruct-2507": Facts(48, 262_144, experts=(128, 8)),
    "Qwen/Qwen3-Coder-480B-A35B-Instruct": Facts(62, 262_144, experts=(160, 8)),
    "Qwen/Qwen3-Embedding-0.6B": Facts(28, 32_768),
    "Qwen/Qwen3-Next-80B-A3B-Instruct": Facts(48, 262_144, experts=(512, 10)),
    "Qwen/Qwen3.5-27B": Facts(64, 262_144),
    "Qwen/Qwen3.5-35B-A3B": Facts(40, 262_144, experts=(256, 8)),
    "THUDM/GLM-4-9B-0414": Facts(40, 32_768),
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": Facts(22, 2048),
    "unsloth/gemma-2b": Facts(18, 8192),
    "unsloth/Llama-3.2-1B-Instruct": Facts(16, 131_072, ropes=("llama3",)),
    "zai-org/GLM-4.5-Air": Facts(46, 131_072, experts=(128, 8)),
    "zai-org/GLM-4.6": Facts(92, 202_752, experts=(160, 8)),
}
# Layers, context, size of hidden states.
ENCODERS = {
    "answerdotai/ModernBERT-base": (22, 8192, 768),
    "BAAI/bge-m3": (24, 8192, 1024),
    "BAAI/bge-reranker-v2-m3": (24, 8192, 1024),
    "BAAI/bge-small-en-v1.5": (12, 512, 384),
    "intfloat/multilingual-e5-large-instruct": (24, 512, 1024),
    "intsig/acge_text_embedding": (24, 1024, 1024),
    "jhu-clsp/ettin-encoder-400m": (28, 7999, 1024),
    "nomic-ai/nomic-embed-text-v1.5": (12, 8192, 768),
    "sentence-transformers/all-MiniLM-L6-v2": (6, 512, 384),
    "sentence-transformers/all-mpnet-base-v2": (12, 512, 768),
    "thenlper/gte-base": (12, 512, 768),
}
REFUSED = {
    "Alibaba-NLP/gte-base-en-v1.5": "model_type is 'new'",
    "deepseek-ai/DeepSeek-V3.2": "model_type is 'deepseek_v32'",
    "nvidia/Gemma-4-31B-IT-NVFP4": "quantization_config.quant_method is 'modelopt'",
    "Qwen/Qwen2.5-7B-Instruct-1M": "dual_chunk_attention_config is ",
    "Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4": "quantization_config.quant_method is 'gptq'",
    "TheBloke/Mistral-7B-Instruct-v0.2-AWQ": "quantization_config.quant_method is 'awq'",
    "unsloth/Llama-3.2-1B-Instruct-bnb-4bit": "quantization_config.quant_method is 'bitsandbytes'",
}


def mixture(config: ModelConfig) -> tuple[int, int] | None:
    def sparse(part: FeedForwardConfig | None) -> FeedForwardConfig | None:
        return part.sparse if isinstance(part, ParallelConfig) else part

    parts = [sparse(block.feed_forward) for block in config.blocks]
    sizes = {(part.count, part.per_token) for part in parts if isinstance(part, MoeConfig)}
    assert len(sizes) <= 1
    return sizes.pop() if sizes else None


def read(name: str) -> ModelConfig:
    return configure(PUBLISHED[name])


def test_every_config_is_tried() -> None:
    assert sorted(PUBLISHED) == sorted([*FACTS, *ENCODERS, *REFUSED])


@pytest.mark.parametrize("name", FACTS)
def test_a_model_is_what_its_card_says(name: str) -> None:
    config, facts = read(name), FACTS[name]
    assert config.layers == facts.layers
    assert config.context == facts.context
    assert config.windows == facts.windows
    assert tuple(sorted({rope.kind for rope in config.ropes})) == facts.ropes
    assert mixture(config) == facts.experts


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_is_what_its_card_says(name: str) -> None:
    config = encoder_config.configure(PUBLISHED[name])
    assert (len(config.layers), config.context, config.hidden_size) == ENCODERS[name]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_built_is_named(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configure(PUBLISHED[name])
    assert str(caught.value).startswith(f"config.json: {REFUSED[name]}")


@pytest.mark.parametrize(
    ("name", "kind", "count"),
    [
        ("google/gemma-4-26B-A4B", SharingConfig, 30),
        ("deepseek-ai/DeepSeek-V3", LatentConfig, 61),
        ("ibm-granite/granite-4.0-h-tiny", SsmConfig, 36),
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", SsmConfig, 23),
        ("nvidia/NVIDIA-Nemotron-Nano-9B-v2", AttentionConfig, 4),
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", DeltaConfig, 36),
        ("Qwen/Qwen3.5-27B", DeltaConfig, 48),
        ("LiquidAI/LFM2-1.2B", AttentionConfig, 6),
    ],
)
def test_how_many_layers_are_of_a_kind(name: str, kind: type, count: int) -> None:
    assert sum(isinstance(block.mixer, kind) for block in read(name).blocks) == count


@pytest.mark.parametrize(
    ("name", "dense"),
    [
        ("deepseek-ai/DeepSeek-V3", 3),
        ("moonshotai/Kimi-K2-Instruct", 1),
        ("zai-org/GLM-4.6", 3),
        ("Qwen/Qwen3-Coder-480B-A35B-Instruct", 0),
        ("LiquidAI/LFM2-8B-A1B", 2),
    ],
)
def test_the_first_layers_have_no_experts(name: str, dense: int) -> None:
    sparse = [isinstance(block.feed_forward, MoeConfig) for block in read(name).blocks]
    assert sparse == [layer >= dense for layer in range(len(sparse))]


def test_queries_that_do_not_grow() -> None:
    mixers = {
        name: read(f"mistralai/{name}").blocks[0].mixer
        for name in ("Devstral-2-123B-Instruct-2512", "Devstral-Small-2-24B-Instruct-2512")
    }
    tempers = [
        mixer.attention_temperature
        for mixer in mixers.values()
        if isinstance(mixer, AttentionConfig)
    ]
    assert tempers == [0.0, 0.1]


def test_the_parts_of_a_quantized_checkpoint() -> None:
    config = read("mlx-community/Qwen3-30B-A3B-4bit").quantization
    assert config.default == Stored(64, 4)
    assert config.modules["model.layers.1.mlp.gate"] == Stored(64, 8)
    assert read("mlx-community/gemma-3-4b-it-4bit").quantization.default == Stored(64, 4)
    assert read("deepseek-ai/DeepSeek-V3").quantization.method == "fp8"
    assert read("openai/gpt-oss-20b").quantization.method == "mxfp4"


# By a model: what re-uploads, older tools and whole dumps of a config add to it.
HARMLESS: dict[str, dict[str, Any]] = {
    "Qwen/Qwen3-0.6B": {"use_qk_norm": True},
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": {
        "_flash_attn_2_enabled": True,
        "is_llama_config": True,
        "max_window_layers": 21,
        "rope_interleaved": False,
        "top_k": 50,
    },
    "bigcode/starcoder2-3b": {
        "attention_softmax_in_fp32": True,
        "layer_norm_epsilon": 1e-05,
        "scale_attention_softmax_in_fp32": True,
        "scale_attn_weights": True,
    },
    "nvidia/NVIDIA-Nemotron-Nano-9B-v2": {"time_step_limit": [0.0, 1e308]},
    "openai/gpt-oss-20b": {"output_scores": True},
}
HARMFUL: dict[str, tuple[dict[str, Any], str]] = {
    "Qwen/Qwen3-0.6B": ({"use_qk_norm": False}, "use_qk_norm is False"),
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": ({"rope_interleaved": True}, "rope_interleaved is True"),
    "bigcode/starcoder2-3b": ({"scale_attn_weights": False}, "scale_attn_weights is False"),
    "ibm-research/PowerMoE-3b": ({"activation_function": "gelu"}, "activation_function is 'gelu'"),
    "nvidia/NVIDIA-Nemotron-Nano-9B-v2": (
        {"time_step_limit": [0.0, 1e37]},
        "time_step_limit is [0.0, 1e+37]",
    ),
    "unsloth/gemma-2b": (
        {"quantization_config": {"quant_algo": "FP8", "kv_cache_scheme": "FP8"}},
        "quantization_config.quant_algo is 'FP8'",
    ),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_fields_without_consequence(name: str) -> None:
    assert configure(PUBLISHED[name] | HARMLESS[name]) == read(name)


@pytest.mark.parametrize("name", HARMFUL)
def test_fields_of_consequence(name: str) -> None:
    change, says = HARMFUL[name]
    with pytest.raises(ConfigError) as caught:
        configure(PUBLISHED[name] | change)
    assert str(caught.value).startswith(f"config.json: {says}, expected")


def test_modules_that_another_tool_left_alone() -> None:
    raw = PUBLISHED["deepseek-ai/DeepSeek-V3"]
    layout = raw["quantization_config"] | {"ignored_layers": ["lm_head"]}
    config = configure(raw | {"quantization_config": layout})
    assert config == read("deepseek-ai/DeepSeek-V3")
