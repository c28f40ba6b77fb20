"""Loading of a model directory: its config and its decoder."""

from dataclasses import dataclass
from pathlib import Path

from ..architectures.config import ConfigError, ModelConfig
from ..architectures.decoder import Decoder
from ..architectures.registry import configure
from .checkpoint.checkpoint import Checkpoint, open_checkpoint
from .checkpoint.weights import PLAIN, Reading, Weights, rename_tensors


@dataclass(frozen=True, slots=True)
class Model:
    config: ModelConfig
    decoder: Decoder
    weight_bytes: int


def load(path: Path, reading: Reading = PLAIN) -> Model:
    """Load a model; raises ConfigError or CheckpointError, with one sentence for the user."""
    checkpoint = open_checkpoint(path)
    config = configure(checkpoint.config)
    return build(rename_tensors(checkpoint, config), config, reading)


def build(checkpoint: Checkpoint, config: ModelConfig, reading: Reading = PLAIN) -> Model:
    """Build a model, reading the weights of a checkpoint with renamed tensors layer by layer."""
    if config.bidirectional:
        raise ConfigError(
            f"{checkpoint.path}: tokens see those after them too: it embeds texts, and writes none"
        )
    weights = Weights(checkpoint, config, reading)
    decoder = Decoder.load(config, weights)
    weights.finish()
    return Model(config, decoder, weights.bytes)
