"""Alibaba's GTE: Nomic's BERT with biases, and with the gate last."""

from .encoder_config import EncoderConfig, Names, gate
from .fields import Fields
from .nomic_bert import rotary

NAMES = Names(
    layers="encoder.layer",
    projections=("attention.qkv_proj",),
    attended="attention.o_proj",
    attention_norm="attn_ln",
    up=("mlp.up_gate_proj",),
    down="mlp.down_proj",
    feed_forward_norm="mlp_ln",
    gate_last=True,
)


def configure(fields: Fields) -> EncoderConfig:
    activation = gate(fields, "hidden_act")
    prefix = r"^(gte|new)\."
    return rotary(fields, prefix, NAMES, theta=160_000.0, types=1, activation=activation)
