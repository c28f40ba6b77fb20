"""Gemma 3n's streams and blocks against what transformers writes of them."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from bessemer.architectures.config import (
    SANDWICH,
    AltUpConfig,
    BlockConfig,
    Paged,
    PerLayerConfig,
    Rope,
    SharingConfig,
)
from bessemer.architectures.feed_forward_config import MlpConfig
from bessemer.architectures.layers.altup import AltUp, AltUpBlock, Laurel, Streams

from ..formulas import Array, near, rms, wide
from ..held import EPS, HIDDEN, draw, held, model_of, prompt, random_weights
from ..steps import stale

ROWS, STREAMS, ACTIVE, RANK, WIDTH, DIM, INNER = 5, 3, 1, 4, 6, 8, 40
ROPE = Rope(DIM, 100.0)
CONFIG = AltUpConfig(STREAMS, ACTIVE, RANK, scaled=True)
BLOCK = BlockConfig(SharingConfig(4, 2, DIM, ROPE), MlpConfig(INNER, "gelu_tanh"), SANDWICH)
PER_LAYER = PerLayerConfig(20, WIDTH, "gelu_tanh")
MODEL = replace(model_of(None), blocks=(BLOCK,), altup=CONFIG, per_layer=PER_LAYER)
L = "model__layers__0__"
SHAPES = {
    "altup__router_norm__weight": (HIDDEN,),
    "altup__modality_router": (STREAMS, HIDDEN),
    "altup__prediction_coefs": (STREAMS**2, STREAMS),
    "altup__correction_coefs": (STREAMS, STREAMS),
    "altup__correct_output_scale": (HIDDEN,),
    "laurel__linear_left": (RANK, HIDDEN),
    "laurel__linear_right": (HIDDEN, RANK),
    "laurel__post_laurel_norm__weight": (HIDDEN,),
    "self_attn__q_proj": (4 * DIM, HIDDEN),
    "self_attn__k_proj": (2 * DIM, HIDDEN),
    "self_attn__v_proj": (2 * DIM, HIDDEN),
    "self_attn__o_proj": (HIDDEN, 4 * DIM),
    "self_attn__q_norm__weight": (DIM,),
    "self_attn__k_norm__weight": (DIM,),
    "mlp__gate_proj": (INNER, HIDDEN),
    "mlp__up_proj": (INNER, HIDDEN),
    "mlp__down_proj": (HIDDEN, INNER),
    "input_layernorm__weight": (HIDDEN,),
    "post_attention_layernorm__weight": (HIDDEN,),
    "pre_feedforward_layernorm__weight": (HIDDEN,),
    "post_feedforward_layernorm__weight": (HIDDEN,),
    "per_layer_input_gate": (WIDTH, HIDDEN),
    "per_layer_projection": (HIDDEN, WIDTH),
    "post_per_layer_input_norm__weight": (HIDDEN,),
}
ARRAYS = random_weights(**{f"{L}{name}": shape for name, shape in SHAPES.items()})
NAME = "model.layers.0"
X, COMPUTED = draw("streams", (ROWS, STREAMS, HIDDEN)), draw("computed", (ROWS, HIDDEN))


def part(name: str) -> Array:
    return wide(ARRAYS[f"{NAME}.{name}"])


def size(x: Array) -> Array:
    return np.sqrt((x * x).mean(axis=-1, keepdims=True))


def modes(x: Array) -> Array:
    normed = rms(x, part("altup.router_norm.weight"), EPS) / HIDDEN
    return np.tanh(normed @ part("altup.modality_router").T)


def predicted(x: Array) -> Array:
    """Each stream with a share of every one, and itself."""
    out = x.copy()
    coefficients = modes(x[:, ACTIVE]) @ part("altup.prediction_coefs").T
    for row in range(ROWS):
        matrix = coefficients[row].reshape(STREAMS, STREAMS)
        for to in range(STREAMS):
            out[row, to] += sum(matrix[to, stream] * x[row, stream] for stream in range(STREAMS))
    return out


def corrected(before: Array, computed: Array) -> Array:
    shares = modes(computed) @ part("altup.correction_coefs").T + 1
    way = computed - before[:, ACTIVE]
    return before + np.stack([shares[:, [stream]] * way for stream in range(STREAMS)], axis=1)


def test_streams_are_as_large_as_the_first() -> None:
    shapes = {
        f"model__altup_{way}projections__{i}": (HIDDEN, HIDDEN)
        for way in ("", "unembed_")
        for i in range(STREAMS - 1)
    }
    arrays = random_weights(**shapes)
    streams, x = Streams.load(held(arrays), MODEL, CONFIG), wide(COMPUTED)
    into, back = (
        [wide(arrays[f"model.altup_{way}projections.{i}"]) for i in range(STREAMS - 1)]
        for way in ("", "unembed_")
    )
    others = [x @ matrix.T for matrix in into]
    spread = np.stack([x, *(y * size(x) / size(y) for y in others)], axis=1)
    assert near(streams.spread(mx.array(COMPUTED)), spread)
    first, *rest = (wide(X)[:, stream] for stream in range(STREAMS))
    rest = [y @ matrix.T for y, matrix in zip(rest, back, strict=True)]
    gathered = (first + sum(y * size(first) / size(y) for y in rest)) / STREAMS
    assert near(streams.gather(mx.array(X)), gathered)


def test_prediction_and_correction() -> None:
    altup = AltUp.load(held(ARRAYS), MODEL, CONFIG, f"{NAME}.altup")
    before = predicted(wide(X))
    assert near(altup.predict(mx.array(X)), before)
    actual = altup.correct(mx.array(before.astype(np.float32)), mx.array(COMPUTED))
    assert near(actual, corrected(before, wide(COMPUTED)))


def laurel(x: Array) -> Array:
    few = x @ part("laurel.linear_left").T @ part("laurel.linear_right").T
    return x + rms(few, part("laurel.post_laurel_norm.weight"), EPS)


def test_the_path_of_few_dimensions() -> None:
    layer = Laurel.load(held(ARRAYS), MODEL, CONFIG, f"{NAME}.laurel")
    assert near(layer(mx.array(COMPUTED)), laurel(wide(COMPUTED)))


@pytest.mark.parametrize("scaled", [True, False])
def test_a_block(scaled: bool) -> None:
    """Attention, feed-forward layer and gate have other tests, and are used here."""
    inputs = mx.array(draw("inputs", (ROWS, 1, WIDTH)))
    step, cache = prompt(ROWS, ROPE, inputs=inputs), stale(Paged(2, DIM, DIM), 4)
    model = replace(MODEL, altup=replace(CONFIG, scaled=scaled))
    block = AltUpBlock.load(held(ARRAYS), model, 0)

    def norm(x: Array, name: str) -> Array:
        return rms(x, part(f"{name}_layernorm.weight"), EPS)

    def run(layer: object, x: Array, *rest: object) -> Array:
        out = layer(mx.array(x.astype(np.float32)), *rest)  # type: ignore[operator]
        return wide(np.array(out[0] if isinstance(out, tuple) else out))

    before = predicted(wide(X))
    active = before[:, ACTIVE]
    normed = norm(active, "input")
    attended = run(block.attention, normed, None, None, step, cache)
    active = (active + norm(attended, "post_attention") + laurel(normed)) / 2**0.5
    fed = run(block.feed_forward, norm(active, "pre_feedforward"), None, None)
    out = corrected(before, active + norm(fed, "post_feedforward"))
    seen = out[:, ACTIVE] * (part("altup.correct_output_scale") if scaled else 1)
    out[:, 1:] += run(block.gate, seen, step)[:, None]
    actual, _ = block(mx.array(X), step, stale(Paged(2, DIM, DIM), 4))
    assert near(actual, out, 5e-5)
