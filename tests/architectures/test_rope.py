"""The spellings of rotary positions, and the constants that models were published with."""

from typing import Any

import pytest

from bessemer.architectures.config import ConfigError, Rope
from bessemer.architectures.fields import Fields
from bessemer.architectures.registry import configure
from bessemer.architectures.rope import magnitude, read_local, read_rope, score_scale

from .tiny import BASE, LLAMA3, YARN

LLAMA = BASE | {"model_type": "llama"}


def rope(raw: dict[str, Any]) -> Rope:
    """Return the rope that all layers share."""
    (rope_read,) = configure(raw).ropes
    return rope_read


def read(scaling: dict[str, Any], context: int = 131_072, dim: int = 64, **fields: Any) -> Rope:
    raw = {"rope_theta": 1e6, "max_position_embeddings": context, "rope_scaling": scaling}
    return read_rope(Fields(raw | fields), dim)


@pytest.mark.parametrize("scaling", [None, LLAMA3, YARN, {"type": "linear", "factor": 2.0}])
def test_rope_spellings_agree(scaling: dict[str, Any] | None) -> None:
    old = LLAMA | {"rope_scaling": scaling, "torch_dtype": "float32"}
    within = {"rope_theta": 1000.0, "rope_type": "default", **(scaling or {})}
    if "type" in within:
        within["rope_type"] = within.pop("type")
    new = {key: value for key, value in LLAMA.items() if key != "rope_theta"}
    new |= {"rope_parameters": within, "dtype": "float32"}
    assert configure(old) == configure(new)


# Every parameter of transformers 5.24's kinds, which it warns of and leaves where a kind has no use
# for them, and what makes no difference to YaRN's own code and to vLLM.
ALL = {
    "original_max_position_embeddings": 64,
    "attention_factor": None,
    "beta_fast": 32,
    "beta_slow": 1,
    "mscale": 1.0,
    "mscale_all_dim": 0,
    "truncate": True,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "short_factor": [1.0] * 8,
    "long_factor": [1.0] * 8,
    "partial_rotary_factor": 1.0,
    "attn_factor": 1.0,
    "extrapolation_factor": 1,
    "finetuned": True,
    "mrope_section": [2, 3, 3],
}
NEEDED: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": (),
    "dynamic": (),
    "llama3": ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor"),
    "yarn": ("original_max_position_embeddings",),
    "longrope": ("original_max_position_embeddings", "short_factor", "long_factor"),
}


@pytest.mark.parametrize("kind", NEEDED)
@pytest.mark.parametrize("name", ["rope_scaling", "rope_parameters"])
def test_what_a_kind_has_no_use_for_may_be_there(kind: str, name: str) -> None:
    factor = 1.0 if kind == "default" else 4.0
    needed = {"rope_type": kind, "factor": factor} | {key: ALL[key] for key in NEEDED[kind]}
    plain = rope(LLAMA | {name: needed})
    assert rope(LLAMA | {name: ALL | needed}) == plain
    assert rope(LLAMA | {name: ALL | needed | {"type": kind}}) == plain
    with pytest.raises(ConfigError, match=rf"{name}\.attn_factor is 2\.0, expected nothing"):
        configure(LLAMA | {name: ALL | needed | {"attn_factor": 2.0}})


@pytest.mark.parametrize(
    "kind", [{"rope_type": "default"}, {"type": None}, {"rope_type": None}, {}]
)
def test_no_kind_stretches_nothing(kind: dict[str, Any]) -> None:
    assert rope(LLAMA | {"rope_scaling": kind | ALL}) == rope(LLAMA)
    assert rope(LLAMA | {"rope_scaling": kind | {"factor": 1}}) == rope(LLAMA)
    with pytest.raises(ConfigError, match=r"rope_scaling\.factor is 8, expected 1, or a "):
        configure(LLAMA | {"rope_scaling": kind | {"factor": 8}})


def test_both_spellings_may_say_the_same() -> None:
    new = {"rope_type": "yarn", "rope_theta": 500.0, **YARN}
    del new["type"]
    plain = rope(LLAMA | {"rope_parameters": new})
    assert rope(LLAMA | {"rope_parameters": new, "rope_scaling": YARN}) == plain
    assert plain.theta == 500
    assert rope(LLAMA | {"rope_parameters": new, "rope_scaling": {}}) == plain
    stretched = {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}
    assert rope(LLAMA | stretched | {"rope_scaling": YARN}) == plain
    sets = {"rope_parameters": {"full_attention": {"rope_theta": 500.0}}}
    with pytest.raises(ConfigError, match="rope_parameters"):
        configure(LLAMA | sets | {"rope_scaling": YARN})
    for other in (YARN | {"factor": 8.0}, {"type": "linear", "factor": 4.0}):
        with pytest.raises(ConfigError, match="rope_parameters is"):
            configure(LLAMA | {"rope_parameters": new, "rope_scaling": other})


def test_original_context_is_looked_for_where_transformers_does() -> None:
    yarn = {"rope_type": "yarn", "factor": 2.0}
    assert rope(LLAMA | {"rope_scaling": yarn}).original_context == 256
    outside = {"rope_scaling": YARN, "original_max_position_embeddings": 128}
    assert rope(LLAMA | outside).original_context == 128


def test_yarn_finds_its_factor_from_the_contexts() -> None:
    yarn = {"rope_type": "yarn", "original_max_position_embeddings": 64}
    assert rope(LLAMA | {"rope_scaling": yarn}).factor == 4


def test_linear_and_dynamic() -> None:
    assert read({"type": "linear", "factor": 4.0}) == Rope(64, 1e6, "linear", 4.0)
    dynamic = read({"type": "dynamic", "factor": 4.0}, context=2048)
    assert dynamic == Rope(64, 1e6, "dynamic", 4.0, context=2048) and dynamic.varies


def test_llama_3() -> None:
    """The values are those of meta-llama/Llama-3.1-8B."""
    scaling = {
        "factor": 8.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    }
    oracle = Rope(64, 1e6, "llama3", 8.0, original_context=8192, low=1.0, high=4.0)
    assert read(scaling) == oracle
    with pytest.raises(ConfigError, match=r"high_freq_factor is 1.0, expected more than low_freq"):
        read(scaling | {"high_freq_factor": 1.0})


def test_yarn() -> None:
    """The paper's size, 0.1 ln(s) + 1, unless the config has one or DeepSeek's two parts of one."""
    scaling = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768}
    plain = read(scaling)
    assert (plain.fast, plain.slow, plain.truncate, plain.original_context) == (32, 1, True, 32_768)
    assert plain.attention_factor == pytest.approx(1.138629436)
    assert read(scaling | {"attention_factor": 0.9}).attention_factor == 0.9
    parts = {"mscale": 0.707, "mscale_all_dim": 1.414}
    assert read(scaling | parts).attention_factor == pytest.approx(1.0980110 / 1.1960220)
    others = {"beta_fast": 16, "beta_slow": 2, "truncate": False}
    config = read(scaling | others)
    assert (config.fast, config.slow, config.truncate) == (16, 2, False)


def test_deepseek_scales_scores() -> None:
    """V3's softmax_scale: mscale_all_dim 1.0 at factor 40, squared."""
    yarn = {"type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096}
    fields = Fields({"rope_scaling": yarn | {"mscale": 1.0, "mscale_all_dim": 1.0}})
    rope_read = read_rope(fields, 64)
    assert score_scale(fields, rope_read) == pytest.approx(1.3688879454**2)
    assert rope_read.attention_factor == 1
    assert score_scale(Fields({"rope_scaling": yarn}), rope_read) == 1
    assert magnitude(1.0, 1.0) == magnitude(0.5, 3.0) == 1


@pytest.mark.parametrize("kind", ["longrope", "su"])
def test_longrope(kind: str) -> None:
    """Phi-3's 128k: its size is 1.1902380714 in the model's own code."""
    short, long = ([n + i for i in range(32)] for n in (1.0, 2.5))
    factors = {"short_factor": short, "long_factor": long}
    config = read({"type": kind} | factors, original_max_position_embeddings=4096)
    assert config.kind == "longrope" and config.varies
    assert (config.short_factors, config.long_factors) == (tuple(short), tuple(long))
    assert config.attention_factor == pytest.approx(1.1902380714238083)
    assert read({"type": kind} | factors).attention_factor == 1  # a context that is not longer
    with pytest.raises(ConfigError, match="expected 32 positive numbers"):
        read({"type": kind} | factors | {"long_factor": [1.0]})


def test_a_part_of_the_head() -> None:
    assert read({}, partial_rotary_factor=0.5).dims == 32
    assert read_rope(Fields({}), 64, share=0.25).dims == 16
    spelt = {"rope_type": "proportional", "partial_rotary_factor": 0.25}
    assert read(spelt) == Rope(64, 1e6, "proportional", rotated_dims=16)
    for share in (1.5, 0.05):
        with pytest.raises(ConfigError, match="expected an even part of head_dim, 64"):
            read({}, partial_rotary_factor=share)


def test_text_takes_the_one_axis_of_several() -> None:
    assert read({"type": "mrope", "mrope_section": [16, 24, 24]}) == Rope(64, 1e6)


def test_sets_of_values_for_kinds_of_layers() -> None:
    sets = {"a": {"rope_theta": 10.0}, "b": {"rope_type": "linear", "factor": 2.0}}
    fields = Fields({"rope_parameters": sets, "rope_theta": 50.0})
    assert read_rope(fields, 8, layers="a") == Rope(8, 10.0)
    assert read_rope(fields, 8, layers="b") == Rope(8, 50.0, "linear", 2.0)
    assert read_local(fields, 8, 70.0, "a") == Rope(8, 10.0)
    assert read_local(fields, 8, 70.0, "b") == Rope(8, 70.0, "linear", 2.0)
    assert read_local(Fields({}), 8, 70.0, "a") == Rope(8, 70.0)
    with pytest.raises(ConfigError, match="expected one set of values for all layers"):
        read_rope(fields, 8)
    with pytest.raises(ConfigError, match="expected a set of values for each kind of layer"):
        read_local(fields, 8, 70.0, "c")
