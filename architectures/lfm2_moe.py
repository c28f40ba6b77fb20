"""LFM2 with experts in all but the first layers."""

from .config import ModelConfig
from .feed_forward_config import MlpConfig
from .fields import Fields
from .lfm2 import hybrid
from .read import META, layer_count, mixture


def configure(fields: Fields) -> ModelConfig:
    fields.assume(hidden_size=2048, intermediate_size=7168)
    experts = mixture(
        fields,
        counts=32,
        chosens=4,
        widths=1792,
        scoring="sigmoid",
        normalise=fields.flag("norm_topk_prob", True),
        scale=fields.number("routed_scaling_factor", 1.0),
        correction="expert_bias" if fields.flag("use_expert_bias", True) else None,
    )
    dense = MlpConfig(fields.integer("intermediate_size"))
    first = fields.integer("num_dense_layers", 2, minimum=0)
    layers = range(layer_count(fields))
    feed_forwards = [dense if layer < first else experts for layer in layers]
    return hybrid(fields, feed_forwards, renames=META)
