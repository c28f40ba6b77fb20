"""The spellings of rotary positions in a config.json, read as one `Rope`."""

import math
from dataclasses import replace
from typing import Any

from .config import Rope
from .fields import Fields

KINDS = ("default", "linear", "llama3", "yarn", "longrope", "dynamic", "proportional")
SPELLINGS = (*KINDS, "su", "mrope")  # Phi-3's first name for longrope; text takes mrope's one axis
ORIGINAL = "original_max_position_embeddings"
# What the kinds are told in a table; each looks at what it needs.
_PARAMETERS = """
attention_factor beta_fast beta_slow factor high_freq_factor long_factor low_freq_factor
max_position_embeddings mscale mscale_all_dim original_max_position_embeddings short_factor truncate
"""
PARAMETERS = tuple(_PARAMETERS.split())


def read_rope(
    fields: Fields, head_dim: int, *, share: float = 1.0, layers: str = "", theta: float = 10_000.0
) -> Rope:
    """Read rope_parameters, as transformers 5 has all, or 4's rope_theta and rope_scaling.

    `share` of the head rotates if the config does not say how much; `layers` is the kind of layer
    whose values are read, where a config has several sets of them.
    """
    scaling = scaling_of(fields, layers)
    theta = scaling.number("rope_theta", fields.number("rope_theta", theta))
    if theta <= 1:
        raise (scaling if "rope_theta" in scaling else fields).refuse("rope_theta", "more than 1")
    share = scaling.number("partial_rotary_factor", fields.number("partial_rotary_factor", share))
    dims = int(head_dim * share)
    if share > 1 or dims % 2:
        source = scaling if "partial_rotary_factor" in scaling else fields
        raise source.refuse("partial_rotary_factor", f"an even part of head_dim, {head_dim}")
    name = "rope_type" if "rope_type" in scaling else "type"
    scaling.ignore("type", "mrope_section", "mrope_interleaved")  # of images alone
    fields.ignore(ORIGINAL)  # what the kind has no use for
    kind = scaling.choice(name, SPELLINGS, KINDS[0])
    scaling.ignore(*PARAMETERS)  # transformers looks at what its kind needs, and so is done below
    if kind == "proportional":  # pairs span the head, though only a share of them rotates
        return Rope(head_dim, theta, kind, scaling.number("factor", 1.0), rotated_dims=dims)
    if kind not in READERS:
        if scaling.get("factor") not in (None, 1):
            raise scaling.refuse("factor", f"1, or a {name} that stretches positions")
        return Rope(dims, theta)
    return READERS[kind](fields, scaling, Rope(dims, theta, kind))


def read_local(fields: Fields, head_dim: int, theta: float, layers: str) -> Rope:
    """Read the rope of layers that a config with one set of values does not scale."""
    name = "rope_parameters"
    if name not in fields:
        return Rope(head_dim, theta)
    sets = fields.table(name)
    if layers not in sets or "rope_scaling" in fields:
        raise fields.refuse(name, "a set of values for each kind of layer, and no rope_scaling")
    sets.table(layers).assume(rope_theta=theta)
    return read_rope(fields, head_dim, layers=layers)


def scaling_of(fields: Fields, layers: str = "") -> Fields:
    """Return the table that says how positions are scaled, of these layers if it has several."""
    name = "rope_scaling" if "rope_scaling" in fields else "rope_parameters"
    scaling = fields.table(name)
    if name == "rope_scaling" and fields.raw.get("rope_parameters") is not None:
        _add_parameters(fields, scaling)
    sets = [key for key, value in scaling.raw.items() if isinstance(value, dict)]
    if layers and layers in sets:
        scaling.ignore(*sets)
        return scaling.table(layers)
    if sets:
        raise fields.refuse(name, "one set of values for all layers")
    return scaling


def _add_parameters(fields: Fields, scaling: Fields) -> None:
    """Let rope_parameters say what rope_scaling does not, if the two do not contradict each other.

    Whoever stretches positions adds rope_scaling to a config that has transformers 5's default.
    """
    table = fields.table("rope_parameters")
    old, new = _by_newer_names(scaling), _by_newer_names(table)
    new["rope_type"] = new.get("rope_type") or "default"
    again = old.items() <= new.items()
    nested = any(isinstance(value, dict) for value in new.values())
    if nested or not (again or new["rope_type"] == "default"):
        raise fields.refuse("rope_parameters", "what rope_scaling says too, or nothing")
    table.ignore(*table.raw)
    if not again:
        del new["rope_type"]
    scaling.assume(**new)


def _by_newer_names(table: Fields) -> dict[str, Any]:
    return {"rope_type" if name == "type" else name: value for name, value in table.raw.items()}


def longest(fields: Fields) -> int:
    """Return the context, in tokens."""
    return fields.integer("max_position_embeddings", 2048)


def _original(fields: Fields, scaling: Fields) -> int:
    """Return the context before scaling, from where transformers looks for it, in its order."""
    return fields.integer(ORIGINAL, scaling.integer(ORIGINAL, longest(fields)))


def _linear(fields: Fields, scaling: Fields, rope: Rope) -> Rope:
    return replace(rope, factor=scaling.number("factor"))


def _dynamic(fields: Fields, scaling: Fields, rope: Rope) -> Rope:
    return replace(rope, factor=scaling.number("factor"), context=longest(fields))


def _llama3(fields: Fields, scaling: Fields, rope: Rope) -> Rope:
    low, high = scaling.number("low_freq_factor"), scaling.number("high_freq_factor")
    if high <= low:
        raise scaling.refuse("high_freq_factor", f"more than low_freq_factor, {low}")
    factor, original = scaling.number("factor"), _original(fields, scaling)
    return replace(rope, factor=factor, original_context=original, low=low, high=high)


def _yarn(fields: Fields, scaling: Fields, rope: Rope) -> Rope:
    original = _original(fields, scaling)
    factor = scaling.number("factor", longest(fields) / original)
    attention = magnitude(factor, 1.0)
    some, every = scaling.optional("mscale"), scaling.optional("mscale_all_dim")
    if some and every:
        attention = magnitude(factor, some) / magnitude(factor, every)
    return replace(
        rope,
        factor=factor,
        original_context=original,
        fast=scaling.number("beta_fast", 32.0),
        slow=scaling.number("beta_slow", 1.0),
        truncate=scaling.flag("truncate", True),
        attention_factor=scaling.number("attention_factor", attention),
    )


def _longrope(fields: Fields, scaling: Fields, rope: Rope) -> Rope:
    """Phi-3's scheme has a divisor for each dimension, and a set of them for short sequences."""
    original = _original(fields, scaling)
    if original < 2:
        raise (fields if ORIGINAL in fields else scaling).refuse(ORIGINAL, "more than 1")
    factor = scaling.number("factor", longest(fields) / original)
    attention = 1.0
    if factor > 1:
        attention = math.sqrt(1 + math.log(factor) / math.log(original))
    return replace(
        rope,
        kind="longrope",
        original_context=original,
        attention_factor=scaling.number("attention_factor", attention),
        short_factors=scaling.numbers("short_factor", rope.dims // 2),
        long_factors=scaling.numbers("long_factor", rope.dims // 2),
    )


def score_scale(fields: Fields, rope: Rope) -> float:
    """Return what DeepSeek multiplies scores by where positions are stretched."""
    scale = scaling_of(fields).optional("mscale_all_dim")
    return magnitude(rope.factor, scale) ** 2 if scale and rope.kind != "default" else 1.0


def magnitude(factor: float, scale: float) -> float:
    """Return YaRN's size of queries and keys (arXiv 2309.00071, section 3.4)."""
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


# What the kinds need besides dims and theta.
READERS = {
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
    "su": _longrope,
}
