"""Decoders that embed texts or score pairs: their hidden states, their next token, their labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import mlx.core as mx
import numpy as np

from ..architectures.config import ConfigError, ModelConfig
from ..architectures.decoder import Decoder
from ..architectures.layers.linear import Linear
from ..architectures.registry import configure
from .causal import Causal, TwoWay
from .checkpoint import Checkpoint
from .model import read_decoder
from .passages import Passage
from .pooling import Floats
from .sentence import LogitFile, SentenceError, read
from .weights import Reading, Weights

States = Callable[[Sequence[Sequence[int]]], list[mx.array]]
LABELS = "score"  # the module that transformers puts behind a decoder which classifies
# Of sentence-transformers, in a model's config.json: what becomes of a score.
AFTERWARDS = ("sentence_transformers", "sbert_ce_default_activation_function")


class Score(Protocol):
    def __call__(self, last: mx.array) -> mx.array:
        """Hidden states before the last norm, (passages, width), to (passages,) float32."""
        ...


@dataclass(frozen=True, slots=True)
class DecoderBackbone:
    decoder: Decoder
    states: States

    @property
    def width(self) -> int:
        return self.decoder.config.hidden_size

    def __call__(self, batch: Sequence[Passage]) -> list[Floats]:
        rows = self.states([passage.tokens for passage in batch])
        found = [self.decoder.norm(each).astype(mx.float32) for each in rows]
        mx.eval(found)
        return [np.array(each) for each in found]


@dataclass(frozen=True, slots=True)
class DecoderScorer:
    """By what follows a passage's last token."""

    decoder: Decoder
    states: States
    score: Score

    def __call__(self, batch: Sequence[Passage]) -> list[float]:
        rows = self.states([passage.tokens for passage in batch])
        return [float(score) for score in np.array(self.score(mx.stack([r[-1] for r in rows])))]


@dataclass(frozen=True, slots=True)
class TokenScore:
    """The logit of a token, less that of another if there is one."""

    decoder: Decoder
    yes: int
    no: int | None

    def __call__(self, last: mx.array) -> mx.array:
        logits = self.decoder.logits(last)
        return logits[:, self.yes] - (0 if self.no is None else logits[:, self.no])


@dataclass(frozen=True, slots=True)
class LabelScore:
    """By a classifier of one label."""

    decoder: Decoder
    label: Linear

    def __call__(self, last: mx.array) -> mx.array:
        return self.label(self.decoder.norm(last)).astype(mx.float32)[:, 0]


def load_backbone(
    checkpoint: Checkpoint, most: int, reading: Reading
) -> tuple[DecoderBackbone, int]:
    """With the bytes of its weights; `most` tokens go through it together."""
    config = headless(configured(checkpoint))
    decoder, weight_bytes = read_decoder(checkpoint, config, reading)
    return DecoderBackbone(decoder, _states(decoder, most)), weight_bytes


def load_token_scorer(
    checkpoint: Checkpoint, yes: int, no: int | None, most: int, reading: Reading
) -> tuple[DecoderScorer, int]:
    config = _bare(configured(checkpoint))
    if max(yes, no or 0) >= config.vocab_size:
        raise SentenceError(
            f"{checkpoint.path} scores by the tokens {yes} and {no}, "
            f"and the model has {config.vocab_size}"
        )
    decoder, weight_bytes = read_decoder(checkpoint, config, reading)
    score = TokenScore(decoder, yes, no)
    return DecoderScorer(decoder, _states(decoder, most), score), weight_bytes


def load_label_scorer(
    checkpoint: Checkpoint, most: int, reading: Reading
) -> tuple[DecoderScorer, int]:
    config = headless(configured(checkpoint))
    weights = Weights(checkpoint, config, reading)
    labels = weights.shape(f"{LABELS}.weight")[0]
    if labels != 1:
        raise ConfigError(f"{checkpoint.path} scores {labels} labels, and a reranker has one")
    decoder = Decoder.load(config, weights)
    label = Linear.load(weights, [(LABELS, 1)], config.hidden_size, False)
    weights.finish()
    score = LabelScore(decoder, label)
    return DecoderScorer(decoder, _states(decoder, most), score), weights.bytes


def read_logit_file(directory: Path) -> LogitFile:
    found = read(directory / "config.json", LogitFile)
    if found is None:
        raise SentenceError(f"{directory / 'config.json'} is missing")
    return found


def configured(checkpoint: Checkpoint) -> ModelConfig:
    """A decoder's config, whatever is said in it of what comes after."""
    raw = checkpoint.config
    return configure({name: raw[name] for name in raw if name not in AFTERWARDS})


def headless(config: ModelConfig) -> ModelConfig:
    """Without a head: it is said to be the embeddings, which costs nothing, and is not asked."""
    return replace(_bare(config), tied=True, head_bias=False)


def _bare(config: ModelConfig) -> ModelConfig:
    """One whose tensors may have been saved without the module that holds them all."""
    inner = rf"^({config.embed}|layers|{config.final_norm})\."
    return replace(config, renames=((inner, rf"{config.model}.\1."), *config.renames))


def _states(decoder: Decoder, most: int) -> States:
    return TwoWay(decoder) if decoder.config.bidirectional else Causal(decoder, most)
