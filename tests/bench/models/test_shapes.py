"""Shapes: the parameters that their makers publish, what a token reads, and scaling."""

from pathlib import Path

import pytest

from bessemer.bench.compare.contest import Unavailable
from bessemer.bench.models.cost import cost
from bessemer.bench.models.shapes import head_dim, kv_values, published, shape, tensors
from bessemer.bench.models.synthetic import Storage, write


@pytest.mark.parametrize("name", published())
def test_the_tensors_add_up_to_the_published_parameters(name: str) -> None:
    model = shape(name)
    assert model.parameters == published()[name]["parameters"]
    assert model.mark == "" and head_dim(model.config) % 32 == 0


def test_some_sizes_that_everybody_knows() -> None:
    assert shape("llama-3.2-1b").parameters == 1_235_814_400
    assert shape("qwen3-30b-a3b").parameters == 30_532_122_624
    active = sum(t.size * t.share for t in tensors(shape("qwen3-30b-a3b").config))
    assert 3.0e9 < active < 3.4e9  # the A3B
    assert kv_values(shape("llama-3.1-8b").config) == 32 * 2 * 8 * 128


def test_fewer_layers_are_marked() -> None:
    small = shape("llama-3.1-8b").scaled(2)
    assert (small.layers, small.published_layers, small.mark) == (2, 32, "scaled: 2 of 32 layers")
    with pytest.raises(Unavailable, match="has 32 layers"):
        shape("llama-3.1-8b").scaled(33)
    with pytest.raises(Unavailable, match=r"llama-3\.2-1b"):
        shape("gpt-17")


def test_a_token_reads_all_but_an_untied_embedding_and_the_chosen_experts(tmp_path: Path) -> None:
    config = dict(shape("qwen3-30b-a3b").config)
    sizes = {"vocab_size": 2560, "hidden_size": 64, "moe_intermediate_size": 32, "num_experts": 8}
    config |= {**sizes, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    config |= {"num_experts_per_tok": 2, "head_dim": 32}
    model = type(shape("tiny"))("small", config, 1)
    (tmp_path / "dense").mkdir()
    write(tmp_path / "dense", model, Storage(0, 64, "bfloat16"), 0)
    costs = cost(tmp_path / "dense")
    listed = list(tensors(config))
    assert costs.parameters == model.parameters and costs.bytes == 2 * model.parameters
    assert costs.read == pytest.approx(sum(2 * t.size * t.share for t in listed))
    experts = sum(2 * t.size for t in listed if "switch_mlp" in t.name)
    both = costs.read_at(10, streams=2) - costs.read - 20 * costs.kv_bytes
    assert both == pytest.approx(experts * (1 - 0.75**2 - 0.25))
