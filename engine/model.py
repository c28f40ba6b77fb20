"""A model directory, loaded: its config and its decoder."""

from dataclasses import dataclass
from pathlib import Path

from ..architectures.config import ModelConfig
from ..architectures.decoder import Decoder
from ..architectures.registry import configure
from .checkpoint import Checkpoint, open_checkpoint
from .weights import Weights


@dataclass(frozen=True, slots=True)
class Model:
    config: ModelConfig
    decoder: Decoder
    weight_bytes: int


def load(path: Path, exact: bool = False) -> Model:
    """Raises ConfigError or CheckpointError, both ValueErrors with one sentence for the user."""
    checkpoint = open_checkpoint(path)
    return build(checkpoint, configure(checkpoint.config), exact)


def build(checkpoint: Checkpoint, config: ModelConfig, exact: bool = False) -> Model:
    """Reads the weights, layer by layer; `exact` as in kernels.linear.Quantized."""
    weights = Weights(checkpoint, config, exact)
    decoder = Decoder.load(config, weights)
    weights.finish()
    return Model(config, decoder, weights.bytes)
