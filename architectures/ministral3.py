"""Ministral 3: queries grow with their position, by Llama 4's scheme, on top of YaRN."""

from .config import ModelConfig
from .fields import Fields
from .read import FULL, SLIDING, alike, attention, decoder, layer_kinds, mlp, read_window, rms
from .rope import ORIGINAL, scaling_of

ROPE = {
    "rope_type": "yarn",
    "rope_theta": 1e6,
    "factor": 16.0,
    ORIGINAL: 16_384,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.1,
}


def configure(fields: Fields) -> ModelConfig:
    fields.assume(
        num_key_value_heads=8, head_dim=128, rms_norm_eps=1e-5, max_position_embeddings=262_144
    )
    if "rope_scaling" not in fields:
        fields.assume(rope_parameters=ROPE)
    scaling = scaling_of(fields)
    scaling.ignore("max_position_embeddings")
    mixer = attention(
        fields,
        window=read_window(fields),
        attention_temperature=_temperature(scaling),
        temperature_from=scaling.integer(ORIGINAL),
    )
    kind = SLIDING if "sliding_window" in fields else FULL
    layer_kinds(fields, [kind], lambda layer: kind)
    return decoder(fields, alike(fields, mixer, mlp(fields)), rms(fields))


def _temperature(scaling: Fields) -> float:
    """Read how fast queries grow; Devstral says 0, they do not."""
    name = "llama_4_scaling_beta"
    return 0.0 if scaling.get(name) == 0 else scaling.number(name)
