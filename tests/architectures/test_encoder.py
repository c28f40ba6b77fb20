"""Encoders of every family against transformers, and how much each of their features matters."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import load_file

from bessemer.architectures.config import ConfigError, NormConfig
from bessemer.architectures.encoder import Encoder
from bessemer.architectures.encoder_config import FAMILIES, LayerKind, Positions, configure
from bessemer.architectures.gte import NAMES as GTE
from bessemer.engine.checkpoint.checkpoint import open_checkpoint
from bessemer.engine.checkpoint.weight_files import CheckpointError
from bessemer.engine.checkpoint.weights import Reading, Weights, rename_tensors
from tests.kernels.tiers import in_turns, use

from .tiny import Config, Floats, Tiny
from .tiny_encoders import CASES, GOLDEN, Golden, golden, sampled, sequences, types

CLOSE, MOVED = 2e-4, 1e-2
NAMES = list(CASES)
Write = Callable[[Tiny], Path]


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Write:
    root = tmp_path_factory.mktemp("encoders")
    return lambda tiny: tiny.write(root / str(len(list(root.iterdir()))))


def load(path: Path, strict: bool = True, **changes: Any) -> Encoder:
    """Load an encoder; without `strict` it may leave tensors over, as a forgetful one would."""
    checkpoint = open_checkpoint(path)
    config = replace(configure(checkpoint.config), **changes)
    weights = Weights(rename_tensors(checkpoint, config), config, Reading(exact=True))
    encoder = Encoder.load(config, weights)
    if strict:
        weights.finish()
    return encoder


def run(encoder: Encoder, texts: Sequence[Sequence[int]]) -> tuple[list[Floats], Floats | None]:
    """Hidden states of each sequence, and scores where there is a classifier."""
    kind = encoder.config.model_type if encoder.config.pairs else ""
    hidden = encoder(texts, [types(kind, list(sequence)) for sequence in texts])
    scores = None if encoder.classifier is None else np.array(encoder.classifier(hidden))
    return [np.array(rows) for rows in hidden], scores


def results(encoder: Encoder, case: Golden) -> Floats:
    """Return scores, or hidden states where there are none."""
    hidden, scores = run(encoder, sequences(case.config["model_type"]))
    return np.stack([sampled(rows) for rows in hidden]) if scores is None else scores


def test_every_family_has_a_case() -> None:
    assert {config["model_type"] for _, config in CASES.values()} | {"camembert"} == set(FAMILIES)
    assert {f"encoder_{name}.npz" for name in CASES} == {p.name for p in GOLDEN.glob("encoder_*")}


@pytest.mark.parametrize("name", NAMES)
def test_hidden_states_and_scores_are_those_of_transformers(name: str, write: Write) -> None:
    case = golden(name)
    hidden, scores = run(load(write(case.tiny())), sequences(case.config["model_type"]))
    assert np.abs(np.stack([sampled(rows) for rows in hidden]) - case.hidden).max() < CLOSE
    assert (scores is None) == (case.scores is None)
    if scores is not None and case.scores is not None:
        assert np.abs(scores - case.scores).max() < CLOSE


@pytest.mark.parametrize(("tier", "name"), in_turns(NAMES))
def test_on_lower_tiers_too(
    tier: str, name: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, tier)
    case = golden(name)
    hidden, _ = run(load(write(case.tiny())), sequences(case.config["model_type"]))
    assert np.abs(np.stack([sampled(rows) for rows in hidden]) - case.hidden).max() < CLOSE


@pytest.mark.parametrize("name", NAMES)
def test_company_changes_nothing(name: str, write: Write) -> None:
    case = golden(name)
    encoder, texts = load(write(case.tiny())), sequences(case.config["model_type"])
    together, scores = run(encoder, texts)
    for index, sequence in enumerate(texts):
        (alone,), score = run(encoder, [sequence])
        assert np.abs(alone - together[index]).max() < 1e-6
        if score is not None and scores is not None:
            assert np.abs(score[0] - scores[index]).max() < 1e-5
    mixed, _ = run(encoder, texts[::-1])
    assert all(np.abs(a - b).max() < 1e-6 for a, b in zip(mixed[::-1], together, strict=True))


# A field of config.json, or several, and another value, with the same tensors.
FIELDS: list[tuple[str, Config]] = [
    ("bert", {"hidden_act": "relu"}),
    ("bert", {"hidden_act": "gelu_new", "layer_norm_eps": 0.05}),
    ("bert", {"layer_norm_eps": 0.05}),
    ("bert", {"num_attention_heads": 6}),
    ("bert_reranker", {"num_attention_heads": 5}),
    ("bert_reranker", {"layer_norm_eps": 1e-12}),
    ("bert_masked", {"hidden_act": "gelu"}),
    ("roberta", {"pad_token_id": 2}),
    ("roberta", {"model_type": "bert"}),
    ("xlm_roberta_classifier", {"pad_token_id": 1}),
    ("xlm_roberta_classifier", {"hidden_act": "gelu"}),
    ("distilbert", {"activation": "relu"}),
    ("distilbert", {"n_heads": 2}),
    ("distilbert_classifier", {"activation": "silu"}),
    ("mpnet", {"hidden_act": "silu"}),
    ("mpnet_reranker", {"layer_norm_eps": 1e-12}),
    ("nomic_bert", {"rope_parameters": None, "rope_theta": 50.0}),
    ("nomic_bert", {"hidden_act": "gelu"}),
    ("nomic_bert_reranker", {"layer_norm_eps": 1e-12}),
    ("nomic_bert_reranker", {"num_attention_heads": 4, "head_dim": None}),
    ("gte", {"rope_parameters": None, "rope_theta": 50.0}),
    ("gte", {"hidden_act": "silu"}),
    ("gte_reranker", {"rope_parameters": {"rope_type": "default", "rope_theta": 90.0}}),
    ("modernbert", {"local_attention": 18}),
    ("modernbert", {"local_attention": 14}),
    ("modernbert", {"layer_types": None}),
    ("modernbert", {"layer_types": None, "global_attn_every_n_layers": 2}),
    ("modernbert", {"rope_parameters": None, "global_rope_theta": 100.0}),
    ("modernbert", {"rope_parameters": None, "local_rope_theta": 100.0}),
    ("modernbert", {"norm_eps": 0.05}),
    ("modernbert", {"hidden_activation": "silu"}),
    ("modernbert_reranker", {"classifier_pooling": "cls"}),
    ("modernbert_reranker", {"classifier_activation": "gelu"}),
    ("modernbert_reranker", {"hidden_activation": "gelu"}),
    ("modernbert_reranker", {"local_attention": 10}),
]
SAME = {("modernbert", ("layer_types",))}  # the default is what the case has


@pytest.mark.parametrize(("name", "changes"), FIELDS)
def test_a_field_of_the_config(name: str, changes: Config, write: Write) -> None:
    case = golden(name)
    plain = results(load(write(case.tiny())), case)
    changed = results(load(write(case.tiny(**changes)), strict=False), case)
    moved = float(np.abs(changed - plain).max())
    assert moved == 0 if (name, tuple(changes)) in SAME else moved > MOVED


# What a forgetful implementation would do, said in our config.
LAYER = "layer"
FORGOTTEN: list[tuple[str, dict[str, Any]]] = [
    ("bert", {"types": 0}),
    ("bert", {"pairs": False}),
    ("bert", {"positions": None}),
    ("bert", {"attention_bias": False}),
    ("bert", {"up_bias": False}),
    ("bert", {"down_bias": False}),
    ("bert", {"norm": NormConfig(1e-5, LAYER)}),
    ("roberta", {"types": 0}),
    ("roberta", {"positions": Positions(160)}),
    ("roberta", {"positions": Positions(160, 2)}),
    ("distilbert", {"positions": None}),
    ("mpnet", {"buckets": 0}),
    ("nomic_bert", {"types": 0}),
    ("nomic_bert", {"pairs": False}),
    ("nomic_bert", {"layers": (LayerKind(), LayerKind())}),
    ("gte", {"types": 0}),
    ("gte", {"names": replace(GTE, gate_last=False)}),
    ("gte", {"attention_bias": False}),
    ("gte", {"down_bias": False}),
    ("modernbert_reranker", {"norm": NormConfig(0.02, LAYER)}),
    ("modernbert_reranker", {"attention_bias": False}),
    ("modernbert_reranker", {"up_bias": False}),
    ("modernbert_reranker", {"down_bias": False}),
]


@pytest.mark.parametrize(("name", "changes"), FORGOTTEN)
def test_a_forgotten_feature(name: str, changes: dict[str, Any], write: Write) -> None:
    case = golden(name)
    path = write(case.tiny())
    forgetful = load(path, strict=False, **changes)
    assert np.abs(results(forgetful, case) - results(load(path), case)).max() > MOVED


@pytest.mark.parametrize("forgotten", ["dense_bias", "norm"])
def test_a_forgotten_part_of_the_classifier(forgotten: str, write: Write) -> None:
    case = golden("modernbert_reranker")
    path = write(case.tiny())
    complete = load(path)
    assert complete.config.classifier is not None
    less = replace(
        complete.config.classifier, **{forgotten: False if forgotten == "dense_bias" else None}
    )
    forgetful = load(path, strict=False, classifier=less)
    assert np.abs(results(forgetful, case) - results(complete, case)).max() > MOVED


@pytest.mark.parametrize(("name", "prefix"), [("bert", "bert."), ("roberta", "roberta.")])
def test_a_prefix_makes_no_difference(name: str, prefix: str, write: Write) -> None:
    case = golden(name)
    arrays = {f"{prefix}{tensor}": value for tensor, value in case.tensors().items()}
    renamed = load(write(Tiny(case.config, arrays)))
    assert (results(renamed, case) == results(load(write(case.tiny())), case)).all()


def test_the_names_of_older_norms(write: Write) -> None:
    case = golden("bert")
    older = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    arrays = case.tensors()
    for new, old in older.items():
        arrays = {name.replace(new, old): value for name, value in arrays.items()}
    out = results(load(write(Tiny(case.config, arrays))), case)
    assert np.abs(out - case.hidden).max() < CLOSE


def test_the_fields_of_nomics_first_files(write: Write) -> None:
    case = golden("nomic_bert")
    first = {
        "n_embd": 48,
        "n_inner": 80,
        "n_head": 3,
        "n_layer": 2,
        "n_positions": 160,
        "layer_norm_epsilon": 1e-5,
        "rotary_emb_base": 1000,
        "rotary_emb_fraction": 1.0,
        "activation_function": "swiglu",
        "type_vocab_size": 2,
        "prenorm": False,
        "scale_attn_weights": True,
        "summary_type": "cls_index",
    }
    required = {name: case.config[name] for name in ("model_type", "vocab_size", "architectures")}
    encoder = load(write(Tiny(required | first, case.tensors())))
    assert np.abs(results(encoder, case) - case.hidden).max() < CLOSE
    assert encoder.config.context == 160


def test_camembert_is_roberta(write: Write) -> None:
    case = golden("roberta")
    out = results(load(write(case.tiny(model_type="camembert"))), case)
    assert np.abs(out - case.hidden).max() < CLOSE


def test_quantized_weights_are_their_numbers(tmp_path: Path, write: Write) -> None:
    """Every matrix, embeddings too, in MLX's layout; against the numbers that it stands for."""
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4}
    case = golden("bert")
    wide = {48: 64, 80: 96}
    shapes = {
        name: tuple(wide.get(size, size) for size in shape) for name, shape in case.shapes.items()
    }
    dense = Golden(case.config | sizes, shapes, case.hidden, None).tensors()
    packed: dict[str, mx.array] = {}
    for name, value in dense.items():
        packed[name] = mx.array(value)
        if value.ndim == 2:
            module = name.removesuffix(".weight")
            words, scales, biases = mx.quantize(packed[name], group_size=32, bits=8)
            packed |= {name: words, f"{module}.scales": scales, f"{module}.biases": biases}
            dense[name] = np.array(mx.dequantize(words, scales, biases, group_size=32, bits=8))
    config = case.config | sizes
    path = write(Tiny(config | {"quantization": {"group_size": 32, "bits": 8}}))
    mx.save_safetensors(str(path / "model.safetensors"), packed)
    reference = results(load(write(Tiny(config, dense))), case)
    assert np.abs(results(load(path), case) - reference).max() < CLOSE


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("bert", {"model_type": "t5"}, "model_type is 't5', which is no encoder"),
        ("bert", {"position_embedding_type": "relative_key"}, "expected 'absolute'"),
        ("bert", {"is_decoder": True}, "is_decoder is True, expected false"),
        ("bert", {"num_attention_heads": 5}, "a divisor of the hidden size, 48"),
        ("bert", {"hidden_act": "mish"}, "hidden_act is 'mish', expected one of gelu"),
        ("bert", {"embedding_size": 16}, "embedding_size is 16, expected nothing of that name"),
        ("roberta", {"max_position_embeddings": 2}, "max_position_embeddings is 2"),
        ("mpnet", {"relative_attention_num_buckets": 64}, "expected 32"),
        ("nomic_bert", {"rotary_emb_fraction": 0.5}, "rotary_emb_fraction is 0.5, expected 1.0"),
        ("nomic_bert", {"num_experts": 8}, "num_experts is 8, expected nothing of that name"),
        ("nomic_bert", {"prenorm": True}, "prenorm is True, expected false"),
        ("nomic_bert", {"head_dim": 8}, "head_dim is 8, expected 16"),
        ("gte", {"logn_attention_scale": True}, "logn_attention_scale is True, expected false"),
        ("gte", {"rope_scaling": {"type": "ntk", "factor": 2.0}}, "type is 'ntk'"),
        ("gte", {"hidden_act": "relu"}, "hidden_act is 'relu', expected one of gelu, gelu_tanh"),
        ("modernbert", {"hidden_activation": "relu"}, "hidden_activation is 'relu'"),
        ("modernbert", {"classifier_pooling": "max"}, "expected one of cls, mean"),
        ("modernbert", {"layer_types": ["full_attention"]}, "expected 5 of full_attention or"),
        ("modernbert", {"num_attention_heads": 32}, "that gives heads an even size"),
    ],
)
def test_a_config_that_is_refused(name: str, changes: Config, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configure(golden(name).config | changes)
    assert message in str(caught.value)


def test_tensors_that_are_not_used_are_refused_unless_known(write: Write) -> None:
    case = golden("bert")
    extra = {"encoder.layer.0.crossattention.self.query.weight": np.zeros((48, 48), np.float32)}
    with pytest.raises(CheckpointError, match="does not use as configured"):
        load(write(Tiny(case.config, case.tensors() | extra)))
    positions = {"embeddings.position_ids": np.arange(160)[None]}
    path = write(Tiny(case.config, case.tensors() | positions))
    assert "embeddings.position_ids" in load_file(path / "model.safetensors")
    assert np.abs(results(load(path), case) - case.hidden).max() < CLOSE


def test_a_missing_tensor(write: Write) -> None:
    case = golden("modernbert")
    arrays = case.tensors()
    del arrays["model.layers.3.mlp.Wi.weight"]
    with pytest.raises(CheckpointError, match=r"lacks the tensor layers\.3\.mlp\.Wi\.weight"):
        load(write(Tiny(case.config, arrays)))
