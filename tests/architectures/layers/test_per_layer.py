"""Each layer's embeddings against what transformers' Gemma 3n writes of them."""

from dataclasses import replace

import mlx.core as mx
import numpy as np

from bessemer.architectures.config import PerLayerConfig
from bessemer.architectures.layers.per_layer import PerLayerGate, PerLayerInputs

from ..formulas import gelu_tanh, near, rms, wide
from ..held import EPS, HIDDEN, draw, held, model_of, prompt, random_weights

ROWS, LAYERS, WIDTH, VOCABULARY = 5, 3, 8, 20
CONFIG = PerLayerConfig(VOCABULARY, WIDTH, "gelu_tanh")
MODEL = replace(model_of(*(None,) * LAYERS), per_layer=CONFIG)
X = draw("x", (ROWS, HIDDEN))
ARRAYS = random_weights(
    model__embed_tokens_per_layer=(VOCABULARY, LAYERS * WIDTH),
    model__per_layer_model_projection=(LAYERS * WIDTH, HIDDEN),
    model__per_layer_projection_norm__weight=(WIDTH,),
)
GATE = random_weights(
    model__layers__1__per_layer_input_gate=(WIDTH, HIDDEN),
    model__layers__1__per_layer_projection=(HIDDEN, WIDTH),
    model__layers__1__post_per_layer_input_norm__weight=(HIDDEN,),
)


def test_embeddings_are_half_looked_up_and_half_computed() -> None:
    """Tokens beyond this vocabulary, which images have, count as 0."""
    tokens = np.array([3, 19, 20, 0, 1000])
    inputs = PerLayerInputs.load(held(ARRAYS), MODEL, CONFIG)
    table, projection, weight = (wide(value) for value in ARRAYS.values())
    known = np.where(tokens < VOCABULARY, tokens, 0)
    looked_up = table[known].reshape(ROWS, LAYERS, WIDTH) * WIDTH**0.5
    computed = (wide(X) @ projection.T * HIDDEN**-0.5).reshape(ROWS, LAYERS, WIDTH)
    oracle = (rms(computed, weight, EPS) + looked_up) * 2**-0.5
    assert near(inputs(mx.array(tokens.astype(np.int32)), mx.array(X)), oracle)


def test_a_block_lets_its_layers_embedding_through() -> None:
    inputs = draw("inputs", (ROWS, LAYERS, WIDTH))
    gate = PerLayerGate.load(held(GATE), MODEL, CONFIG, 1)
    into, back, weight = (wide(value) for value in GATE.values())
    oracle = rms((gelu_tanh(wide(X) @ into.T) * inputs[:, 1]) @ back.T, weight, EPS)
    assert near(gate(mx.array(X), prompt(ROWS, inputs=mx.array(inputs))), oracle)
