"""The table of families: every one of them runs, and its arithmetic is counted right."""

import mlx.core as mx
import pytest

from bessemer.architectures.registry import supported
from bessemer.bench.models.families import (
    caches,
    decode,
    families,
    load_family,
    measure,
    mixing_work,
    prefill,
    step,
    table,
)


def test_every_decoder_has_its_line() -> None:
    assert families().keys() <= set(supported())


def test_the_work_of_llama_is_that_of_its_matrices() -> None:
    config = families()["llama"]
    hidden, width, layers = (
        config[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers")
    )
    kv = config["num_key_value_heads"] * config["head_dim"]
    assert load_family("llama").work == layers * 2 * (
        2 * hidden**2 + 2 * hidden * kv + 3 * hidden * width
    )


def test_the_work_of_experts_is_that_of_the_chosen_ones() -> None:
    config = families()["qwen3_moe"]
    hidden, width = config["hidden_size"], config["moe_intermediate_size"]
    kv = config["num_key_value_heads"] * config["head_dim"]
    layer = 2 * hidden**2 + 2 * hidden * kv + config["num_experts"] * hidden
    chosen = config["num_experts_per_tok"] * 3 * hidden * width
    assert load_family("qwen3_moe").work == config["num_hidden_layers"] * 2 * (layer + chosen)


@pytest.mark.parametrize("name", list(families()))
def test_every_family_runs(name: str) -> None:
    family = load_family(name)
    config = family.decoder.config
    assert family.work > 0
    assert all(mixing_work(block, 64) >= 0 for block in config.blocks)
    prompts, tokens = prefill(family, 40), decode(family, 33)
    assert prompts.work > tokens.work > family.work
    for timed in (prompts, tokens):
        timed.run()
    ids = mx.zeros((3,), mx.int32)
    x, _ = family.decoder.hidden(ids, step(config, 0, 3), caches(config, 3))
    assert mx.isfinite(x).all().item()


def test_the_table_names_what_is_over() -> None:
    prompts = {"llama": [1.0, 1.0], "other": [1.5, 1.5]}
    shown = table(prompts, {"llama": [1.0, 1.0], "other": [1.0, 1.0]}, 1.3)
    assert list(shown.columns[5].cells) == ["", "over 1.3"]
    assert list(shown.columns[2].cells) == ["1.00", "1.50"]


def test_rounds_take_turns() -> None:
    family = load_family("llama")
    timed = {"llama": prefill(family, 8), "again": prefill(family, 8)}
    speeds = measure(timed, 3, 1)
    assert [len(each) for each in speeds.values()] == [3, 3]
