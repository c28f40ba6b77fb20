"""Qwen 3 with experts: all layers have them but those that the config names."""

from .config import BlockConfig, ModelConfig
from .fields import Fields
from .qwen3 import mixers
from .read import decoder, layer_count, mixture, mlp, rms


def configure(fields: Fields) -> ModelConfig:
    experts = mixture(
        fields, counts=128, chosens=8, widths=768, normalise=fields.flag("norm_topk_prob", False)
    )
    chosen = sparse(fields)
    blocks = [
        BlockConfig(mixer, experts if layer in chosen else mlp(fields))
        for layer, mixer in enumerate(mixers(fields))
    ]
    return decoder(fields, blocks, rms(fields))


def sparse(fields: Fields) -> set[int]:
    """Return the layers that have experts: every so many of them, without those in a list."""
    step, dense = fields.integer("decoder_sparse_step", 1), fields.indices("mlp_only_layers")
    fields.ignore("intermediate_size")  # if no layer is dense
    return {i for i in range(layer_count(fields)) if i not in dense and (i + 1) % step == 0}
