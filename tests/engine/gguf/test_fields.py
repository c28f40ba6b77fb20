"""Fields of a file: one of another kind is a sentence, whoever reads it."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bessemer.architectures.config import ConfigError
from bessemer.architectures.encoder_config import FAMILIES as ENCODERS
from bessemer.architectures.encoder_config import configure as configure_encoder
from bessemer.architectures.registry import configure
from bessemer.engine.checkpoint.checkpoint import open_checkpoint
from bessemer.engine.checkpoint.weight_files import CheckpointError
from bessemer.engine.checkpoint.weights import rename_tensors, weight_bytes
from bessemer.engine.gguf import files, tensors, tokenizer
from bessemer.engine.gguf.container import Gguf, read_gguf
from bessemer.engine.gguf.fields import kind_of

from .make_golden import GOLDEN

KINDS = [
    ("llama.block_count", [0, 7, 2**31 - 1], [-1, 2**31, 0.5, True, "7", [7]]),
    ("llama.attention.head_count", [8, [8, 4]], [[], "88", [True], ["8"], [8, "8"], [-1]]),
    ("gemma3.attention.sliding_window_pattern", [6, [True, False], [1, 0]], [[], ["yes"], -6]),
    ("llama.attention.layer_norm_rms_epsilon", [1e-5, 1], [float("nan"), float("inf"), "", []]),
    ("llama.rope.freq_base", [1e4, 0, True], [float("inf"), "1", [1.0]]),
    ("llama.rope.scaling.type", ["yarn"], [1, ["yarn"]]),
    ("deepseek2.expert_weights_norm", [True], [1, "true"]),
    ("gemma3n.activation_sparsity_scale", [[1.5, float("-inf")]], [1.5, [float("nan")], ["1"]]),
    ("tokenizer.ggml.tokens", [["a"], []], ["a", [1], ["a", 1], None, ["a", "\udc80"]]),
    ("tokenizer.ggml.scores", [[-1e4, 0], []], [0.5, "", ["a"], [0, "a"], [0, float("nan")]]),
    ("tokenizer.ggml.eos_token_id", [2, -1, 2**32 - 1], [2.0, "2", True]),
    ("tokenizer.ggml.add_bos_token", [True], [1, "yes"]),
    ("tokenizer.chat_template", ["", "T"], [["T"], 5, "\udc80"]),
    ("tokenizer.chat_template.tool_use", ["U"], [b"U"]),
    ("split.count", [3], [-3, "3"]),
    ("general.sampling.temp", [0.6, 1], ["0.6", float("nan")]),
]
BAD: list[Any] = [
    *("nonsense", -5, 0, 1, 7, 2**30, 2**62, 0.5, True, float("inf"), None),
    *([], [1, 2, 3], [1] * 40, ["a", "b"], [True, False]),
]
MORE = ("rope.scaling.type", "rope.scaling.factor", "nextn_predict_layers", "pooling_type")
SAMPLES = 400  # of some 20,000


@pytest.mark.parametrize(("name", "good", "bad"), KINDS)
def test_kinds(name: str, good: list[Any], bad: list[Any]) -> None:
    kind = kind_of(name)
    assert all(kind.holds(value) for value in good)
    assert not any(kind.holds(value) for value in bad)


def changes() -> Iterator[Gguf]:
    """Yield golden files with one field changed."""
    chance, paths = random.Random(5), sorted(GOLDEN.rglob("*.gguf"))
    for _ in range(SAMPLES):
        gguf = read_gguf(chance.choice(paths))
        said = [name for name in gguf.metadata if not name.startswith("general")]
        name = chance.choice([*said, *(f"{gguf.architecture}.{each}" for each in MORE)])
        different = gguf.metadata | {name: chance.choice(BAD)}  # type: ignore[operator]
        yield replace(gguf, metadata={k: v for k, v in different.items() if v is not None})


def read(path: Path) -> None:
    checkpoint = open_checkpoint(path)
    encodes = checkpoint.config["model_type"] in ENCODERS
    config = (configure_encoder if encodes else configure)(checkpoint.config)
    weight_bytes(rename_tensors(checkpoint, config), config)
    settings = files.opened(path)
    tokenizer.tokenizer_config(settings)
    tokenizer.end_tokens(settings)


def test_a_field_of_any_value_is_read_or_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = 0
    for gguf in changes():
        for module in (files, tensors, tokenizer):
            monkeypatch.setattr(module, "opened", lambda _, gguf=gguf: gguf)
        try:
            read(gguf.path)
        except (CheckpointError, ConfigError) as error:
            refused += 1
            assert len(str(error)) < 500 and "\n" not in str(error)
    assert SAMPLES / 3 < refused < SAMPLES
