"""Files that llama.cpp's converter wrote give the logits that transformers computes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bessemer.engine.checkpoint.weight_files import CheckpointError
from bessemer.engine.checkpoint.weights import Reading
from bessemer.engine.gguf.container import Gguf, read_gguf
from bessemer.engine.gguf.families import FAMILIES, family
from bessemer.engine.model import load
from tests.architectures.steps import prefill

from .make_golden import GOLDEN, PROMPT

NAMES = sorted(path.stem for path in GOLDEN.glob("*.gguf"))


@pytest.mark.parametrize("name", NAMES)
def test_the_logits_are_those_of_transformers(name: str) -> None:
    model = load(GOLDEN / f"{name}.gguf", Reading(exact=True))
    logits = prefill(model, PROMPT)
    assert np.abs(logits - np.load(GOLDEN / f"{name}.npy")).max() < 1e-4


def test_every_family_is_among_them() -> None:
    """Those of encoders are test_families_encoders.py's."""
    assert {read_gguf(path).architecture for path in GOLDEN.rglob("*.gguf")} == {*FAMILIES}


def test_an_architecture_that_is_not_known() -> None:
    with pytest.raises(CheckpointError, match=r"has the architecture 'new', .* llama, .* are read"):
        family(Gguf(Path("m"), {"general.architecture": "new"}, {}))


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ({"general.type": "adapter", "general.architecture": "llama"}, "an adapter"),
        ({"general.type": "mmproj", "general.architecture": "clip"}, "a model's eyes or ears"),
        ({"general.architecture": "clip"}, "a model's eyes or ears"),
        ({"general.type": "imatrix"}, "what was measured to quantize"),
    ],
)
def test_what_is_no_model(said: dict[str, str], what: str) -> None:
    with pytest.raises(CheckpointError, match=f"m is {what}.*; give the file of the model"):
        family(Gguf(Path("m"), said, {}))


def without(name: str, field: str) -> Gguf:
    """A golden file that says nothing of a field."""
    gguf = read_gguf(GOLDEN / f"{name}.gguf")
    return replace(gguf, metadata={k: v for k, v in gguf.metadata.items() if k != field})


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("qwen3_moe", "qwen3moe.expert_used_count"),
        ("mixtral", "llama.expert_used_count"),
        ("mistral", "llama.attention.layer_norm_rms_epsilon"),
        ("starcoder2", "starcoder2.attention.layer_norm_epsilon"),
        ("cohere", "command-r.attention.layer_norm_epsilon"),
        ("lfm2", "lfm2.attention.layer_norm_rms_epsilon"),
        ("mamba2", "mamba2.attention.layer_norm_rms_epsilon"),
        ("encoders/bert", "bert.attention.layer_norm_epsilon"),
        ("cohere2", "cohere2.attention.sliding_window"),
        ("cohere2", "cohere2.logit_scale"),
        ("gemma3n", "gemma3n.attention.sliding_window"),
        ("gemma4", "gemma4.attention.sliding_window"),
        ("gpt_oss", "gpt-oss.attention.sliding_window"),
        ("granite", "granite.logit_scale"),
        ("granitemoe", "granitemoe.logit_scale"),
    ],
)
def test_fields_without_a_usual_value(name: str, field: str) -> None:
    with pytest.raises(CheckpointError, match=f"lacks the field {field}"):
        family(without(name, field)).config(without(name, field))


@pytest.mark.parametrize(
    ("name", "field", "said", "value"),
    [
        ("qwen2_moe", "qwen2moe.expert_feed_forward_length", "moe_intermediate_size", 32),
        ("qwen3_moe", "qwen3moe.expert_feed_forward_length", "moe_intermediate_size", 32),
        ("olmo3", "olmo2.attention.sliding_window_pattern", "sliding_window", 8),
        ("nemotron_h", "nemotron_h.attention.layer_norm_rms_epsilon", "layer_norm_epsilon", 1e-5),
        ("gemma3", "gemma3.attention.sliding_window", "sliding_window_pattern", 1),
        ("gemma3", "gemma3.rope.scaling.type", "rope_scaling", {"rope_type": "linear"}),
    ],
)
def test_fields_that_others_stand_for(name: str, field: str, said: str, value: Any) -> None:
    """As in llama.cpp, whose logits are the same with them and without."""
    config = family(without(name, field)).config(without(name, field))
    shown = config[said]
    assert (value.items() <= shown.items()) if isinstance(value, dict) else shown == value


def test_positions_that_are_stretched_by_two_sets_of_factors(tmp_path: Path) -> None:
    """Phi 3 has one for short prompts; those of the golden file are longer than it was trained."""
    model = load(GOLDEN / "phi3.gguf", Reading(exact=True))
    rope = model.config.ropes[0]
    assert rope.short_factors == pytest.approx((1.0, 1.1, 1.3, 1.6))
    assert rope.long_factors == pytest.approx((1.0, 1.5, 2.5, 4.0))
