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
from .hidden_states import Bidirectional, Causal
from .inputs import Input
from .pooling import Floats

Tokens = tuple[int, int | None]  # the tokens whose logits are compared, or one of them alone
HiddenStates = Callable[[Sequence[Sequence[int]]], list[mx.array]]
LABELS = "score"  # the module that transformers puts behind a decoder which classifies
# Fields of sentence-transformers in a model's config.json, which say what becomes of a score.
SCORE_FIELDS = ("sentence_transformers", "sbert_ce_default_activation_function")


class ScoreHead(Protocol):
    def __call__(self, last: mx.array) -> mx.array:
        """Turn hidden states before the last norm, (inputs, width), into (inputs,) float32."""
        ...


@dataclass(frozen=True, slots=True)
class DecoderBackbone:
    decoder: Decoder
    states: HiddenStates

    @property
    def width(self) -> int:
        return self.decoder.config.hidden_size

    def __call__(self, batch: Sequence[Input]) -> list[Floats]:
        rows = self.states([each.tokens for each in batch])
        normed = [self.decoder.norm(each).astype(mx.float32) for each in rows]
        mx.eval(normed)
        return [np.array(each) for each in normed]


@dataclass(frozen=True, slots=True)
class DecoderScorer:
    """A scorer by what follows an input's last token."""

    decoder: Decoder
    states: HiddenStates
    head: ScoreHead

    def __call__(self, batch: Sequence[Input]) -> list[float]:
        rows = self.states([each.tokens for each in batch])
        return [float(score) for score in np.array(self.head(mx.stack([r[-1] for r in rows])))]


@dataclass(frozen=True, slots=True)
class TokenHead:
    """The logit of a token, less that of another if there is one."""

    decoder: Decoder
    yes: int
    no: int | None

    def __call__(self, last: mx.array) -> mx.array:
        logits = self.decoder.logits(last).astype(mx.float32)
        return logits[:, self.yes] - (0 if self.no is None else logits[:, self.no])


@dataclass(frozen=True, slots=True)
class LabelHead:
    """The one label of a classifier."""

    decoder: Decoder
    label: Linear

    def __call__(self, last: mx.array) -> mx.array:
        return self.label(self.decoder.norm(last)).astype(mx.float32)[:, 0]


def load_backbone(config: ModelConfig, weights: Weights, batch_tokens: int) -> DecoderBackbone:
    """Load a `headless` config's decoder; `batch_tokens` go through it together."""
    decoder = Decoder.load(config, weights)
    return DecoderBackbone(decoder, _states(decoder, batch_tokens))


def load_scorer(
    config: ModelConfig, weights: Weights, tokens: Tokens | None, batch_tokens: int
) -> DecoderScorer:
    """Load a scorer by these tokens; without any by the classifier of a `headless` config."""
    decoder = Decoder.load(config, weights)
    head: ScoreHead
    if tokens is None:
        label = Linear.load(weights, [(LABELS, 1)], config.hidden_size, False)
        head = LabelHead(decoder, label)
    else:
        head = TokenHead(decoder, *tokens)
    return DecoderScorer(decoder, _states(decoder, batch_tokens), head)


def configure_decoder(raw: Mapping[str, Any]) -> ModelConfig:
    """Read a decoder's config, without what it says of the modules that follow.

    Its tensors may have been saved without the module that holds them all.
    """
    config = configure({name: raw[name] for name in raw if name not in SCORE_FIELDS})
    inner = rf"^({config.embed}|layers|{config.final_norm})\."
    return replace(config, renames=((inner, rf"{config.model}.\1."), *config.renames))


def headless(config: ModelConfig) -> ModelConfig:
    """Return the config without a head: it is said to be the embeddings, and never asked."""
    return replace(config, tied=True, head_bias=False)


def _states(decoder: Decoder, batch_tokens: int) -> HiddenStates:
    bidirectional = decoder.config.bidirectional
    return Bidirectional(decoder) if bidirectional else Causal(decoder, batch_tokens)
