"""Decoders that embed texts or score pairs: their hidden states, their next token, their labels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import mlx.core as mx
import numpy as np

from ...architectures.config import ModelConfig
from ...architectures.decoder import Decoder
from ...architectures.layers.linear import Linear
from ...architectures.registry import configure
from ..checkpoint.weights import Weights
from .causal import Causal, TwoWay
from .inputs import Passage
from .pooling import Floats

Tokens = tuple[int, int | None]  # whose logits are compared, or one of them alone
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


def load_backbone(config: ModelConfig, weights: Weights, most: int) -> DecoderBackbone:
    """Of a `headless` config; `most` tokens go through it together."""
    decoder = Decoder.load(config, weights)
    return DecoderBackbone(decoder, _states(decoder, most))


def load_scorer(
    config: ModelConfig, weights: Weights, tokens: Tokens | None, most: int
) -> DecoderScorer:
    """By these tokens; without any by a classifier, of a `headless` config."""
    decoder = Decoder.load(config, weights)
    score: Score
    if tokens is None:
        label = Linear.load(weights, [(LABELS, 1)], config.hidden_size, False)
        score = LabelScore(decoder, label)
    else:
        score = TokenScore(decoder, *tokens)
    return DecoderScorer(decoder, _states(decoder, most), score)


def configured(raw: Mapping[str, Any]) -> ModelConfig:
    """A decoder's config, whatever is said in it of what comes after.

    Its tensors may have been saved without the module that holds them all.
    """
    config = configure({name: raw[name] for name in raw if name not in AFTERWARDS})
    inner = rf"^({config.embed}|layers|{config.final_norm})\."
    return replace(config, renames=((inner, rf"{config.model}.\1."), *config.renames))


def headless(config: ModelConfig) -> ModelConfig:
    """Without a head: it is said to be the embeddings, which costs nothing, and is not asked."""
    return replace(config, tied=True, head_bias=False)


def _states(decoder: Decoder, most: int) -> States:
    return TwoWay(decoder) if decoder.config.bidirectional else Causal(decoder, most)
