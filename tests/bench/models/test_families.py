"""The table of families: every one of them runs, and its arithmetic is counted right."""

import mlx.core as mx
import pytest

from bessemer.architectures.registry import supported
from bessemer.bench.models.families import (
    attending,
    caches,
    decode,
    families,
    measure,
    prefill,
    step,
    subject,
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
    assert subject("llama").work == layers * 2 * (
        2 * hidden**2 + 2 * hidden * kv + 3 * hidden * width
    )


def test_the_work_of_experts_is_that_of_the_chosen_ones() -> None:
    config = families()["qwen3_moe"]
    hidden, width = config["hidden_size"], config["moe_intermediate_size"]
    kv = config["num_key_value_heads"] * config["head_dim"]
    layer = 2 * hidden**2 + 2 * hidden * kv + config["num_experts"] * hidden
    chosen = config["num_experts_per_tok"] * 3 * hidden * width
    assert subject("qwen3_moe").work == config["num_hidden_layers"] * 2 * (layer + chosen)


@pytest.mark.parametrize("name", list(families()))
def test_every_family_runs(name: str) -> None:
    found = subject(name)
    config = found.decoder.config
    assert found.work > 0
    assert all(attending(block, 64) >= 0 for block in config.blocks)
    prompts, tokens = prefill(found, 40), decode(found, 33)
    assert prompts.work > tokens.work > found.work
    for timed in (prompts, tokens):
        timed.run()
    words = mx.zeros((3,), mx.int32)
    x, _ = found.decoder.hidden(words, step(config, 0, 3), caches(config, 3))
    assert mx.isfinite(x).all().item()


def test_the_table_names_what_is_over() -> None:
    found = {"llama": [1.0, 1.0], "other": [1.5, 1.5]}
    shown = table(found, {"llama": [1.0, 1.0], "other": [1.0, 1.0]}, 1.3)
    assert list(shown.columns[5].cells) == ["", "over 1.3"]
    assert list(shown.columns[2].cells) == ["1.00", "1.50"]


def test_rounds_take_turns() -> None:
    found = subject("llama")
    timed = {"llama": prefill(found, 8), "again": prefill(found, 8)}
    speeds = measure(timed, 3, 1)
    assert [len(each) for each in speeds.values()] == [3, 3]
