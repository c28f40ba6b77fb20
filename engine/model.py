"""A model directory, loaded: its config and its decoder."""

from dataclasses import dataclass
from pathlib import Path

from ..architectures.config import ConfigError, ModelConfig
from ..architectures.decoder import Decoder
from ..architectures.registry import configure
from .checkpoint import Checkpoint, open_checkpoint
from .weights import Weights


@dataclass(frozen=True, slots=True)
class Model:
    config: ModelConfig
    decoder: Decoder
    weight_bytes: int


def load(path: Path, exact: bool = False, check: bool = False) -> Model:
    """Raises ConfigError or CheckpointError, both ValueErrors with one sentence for the user."""
    checkpoint = open_checkpoint(path)
    return build(checkpoint, configure(checkpoint.config), exact, check)


def build(
    checkpoint: Checkpoint, config: ModelConfig, exact: bool = False, check: bool = False
) -> Model:
    """Reads the weights, layer by layer; `exact` as in kernels.linear.Quantized.

    With `check`, weights that are no numbers are refused.
    """
    if config.bidirectional:
        raise ConfigError(
            f"{checkpoint.path}: tokens see those after them too: it embeds texts, and writes none"
        )
    weights = Weights(checkpoint, config, exact, check)
    decoder = Decoder.load(config, weights)
    weights.finish()
    return Model(config, decoder, weights.bytes)
