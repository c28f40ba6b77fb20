"""Vectors of texts and scores of pairs: what an embedding or a reranking model is loaded for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import mlx.core as mx
import numpy as np

from ..architectures.config import ConfigError
from ..architectures.encoder import Encoder
from ..architectures.encoder_config import FAMILIES, configure
from . import decoder_embed, passages
from .chat_form import RECIPES, Recipe, check_pairs
from .checkpoint import Checkpoint, open_checkpoint
from .passages import Passage, PassageError, PassageReader
from .pooling import Floats, Normalize, Pipeline, Pooling
from .pooling import load as load_pipeline
from .sentence import (
    LOGIT_SCORE,
    MODULES,
    Mode,
    Modules,
    SentenceError,
    classifies,
    read_about,
    read_modules,
)
from .tokenizer import load as load_tokenizer
from .weights import PLAIN, Reading, Weights

BATCH = 4096  # tokens that go through a model together
Score = Literal["sigmoid", "raw"]
# What sentence-transformers' CrossEncoder does to a logit, by the names that checkpoints give it.
SIGMOID = "torch.nn.modules.activation.Sigmoid"
SCORES: dict[str, Score] = {SIGMOID: "sigmoid", "torch.nn.modules.linear.Identity": "raw"}
Pooled = Literal["mean", "last"]
POOLED: dict[Pooled, Mode] = {"mean": "mean", "last": "lasttoken"}


class Backbone(Protocol):
    """What comes before pooling, be it an encoder or a decoder."""

    @property
    def width(self) -> int:
        """Of a hidden state."""
        ...

    def __call__(self, batch: Sequence[Passage]) -> list[Floats]:
        """Each passage's hidden states, (tokens, width), whatever else is in the batch."""
        ...


class Scorer(Protocol):
    """What a pair of texts is worth, by an encoder's classifier or by a decoder's next token."""

    def __call__(self, batch: Sequence[Passage]) -> list[float]:
        """Each passage's logit, whatever else is in the batch."""
        ...


@dataclass(frozen=True, slots=True)
class EncoderBackbone:
    encoder: Encoder

    @property
    def width(self) -> int:
        return self.encoder.config.hidden_size

    def __call__(self, batch: Sequence[Passage]) -> list[Floats]:
        found = [rows.astype(mx.float32) for rows in self.states(batch)]
        mx.eval(found)
        return [np.array(rows) for rows in found]

    def states(self, batch: Sequence[Passage]) -> list[mx.array]:
        config = self.encoder.config
        types = [passage.types for passage in batch] if config.pairs and config.types > 1 else ()
        return self.encoder([passage.tokens for passage in batch], types)


@dataclass(frozen=True, slots=True)
class EncoderScorer:
    """By a classifier of one label."""

    backbone: EncoderBackbone

    def __call__(self, batch: Sequence[Passage]) -> list[float]:
        classifier = self.backbone.encoder.classifier
        assert classifier is not None
        scores = classifier(self.backbone.states(batch))
        return [float(score) for score in np.array(scores)[:, 0]]


@dataclass(frozen=True, slots=True, eq=False)
class Embedder:
    backbone: Backbone
    reader: PassageReader
    pipeline: Pipeline
    weight_bytes: int
    batch_tokens: int = BATCH

    @property
    def dimension(self) -> int:
        return self.pipeline.dimension

    def embed(
        self,
        inputs: Sequence[str | Sequence[int]],
        dimensions: int | None = None,
        prompt: str | None = None,
        truncate: bool = True,
    ) -> Floats:
        """(inputs, dimension): of texts, after a prompt if one is named, or of bare tokens."""
        return self.vectors(self.passages(inputs, prompt, truncate), dimensions)

    def passages(
        self,
        inputs: Sequence[str | Sequence[int]],
        prompt: str | None = None,
        truncate: bool = True,
    ) -> list[Passage]:
        """Without `truncate` what is too long is refused."""
        return [
            self.reader.text(each, prompt, truncate)
            if isinstance(each, str)
            else self.reader.tokens(each, truncate)
            for each in inputs
        ]

    def vectors(self, given: Sequence[Passage], dimensions: int | None = None) -> Floats:
        """(passages, dimension), or the first of these `dimensions`, of length 1 if all were."""
        self._check(dimensions)
        found = np.zeros((len(given), self.dimension), np.float32)
        for batch in batches([len(passage.tokens) for passage in given], self.batch_tokens):
            chosen = [given[i] for i in batch]
            found[batch] = self.pipeline(self.backbone(chosen), [p.prompted for p in chosen])
        if dimensions is None or dimensions == self.dimension:
            return found
        cut = found[:, :dimensions]
        return Normalize()(cut) if self.pipeline.normalizes else cut

    def _check(self, dimensions: int | None) -> None:
        if dimensions is not None and not 1 <= dimensions <= self.dimension:
            raise PassageError(f"dimensions is {dimensions}; the model has 1 to {self.dimension}")


@dataclass(frozen=True, slots=True, eq=False)
class Reranker:
    """`activation`: what is done to the model's logit; a raw one has no bounds."""

    scorer: Scorer
    reader: PassageReader
    activation: Score
    weight_bytes: int
    batch_tokens: int = BATCH

    def score(self, query: str, documents: Sequence[str], truncate: bool = True) -> list[float]:
        """What each document is worth as an answer to the query: the more the better."""
        return self.scores(self.passages(query, documents, truncate))

    def passages(
        self,
        query: str,
        documents: Sequence[str],
        truncate: bool = True,
        prompt: str | None = None,
    ) -> list[Passage]:
        """Of the prompt by that name, or of the model's default one, which may say what to seek."""
        return [self.reader.pair(query, document, truncate, prompt) for document in documents]

    def scores(self, given: Sequence[Passage]) -> list[float]:
        found = np.zeros(len(given))
        for batch in batches([len(passage.tokens) for passage in given], self.batch_tokens):
            found[batch] = self.scorer([given[i] for i in batch])
        if self.activation == "sigmoid":
            found = 0.5 * (1 + np.tanh(found / 2))  # no overflow, wherever the logit is
        return [float(score) for score in found]


def batches(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Indices of what goes together: shortest first, up to `most` tokens, or one that has more."""
    found: list[list[int]] = []
    total = most
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        total += lengths[index]
        if total > most:
            found.append([])
            total = lengths[index]
        found[-1].append(index)
    return found


def load_embedder(path: Path, pooling: Pooled | None = None, reading: Reading = PLAIN) -> Embedder:
    """Raises ValueErrors with one sentence for the user.

    `pooling` is needed where no files of sentence-transformers are with a decoder, and goes before
    them: vectors are the mean of a text's hidden states, or the last one, made as long as 1.
    """
    modules = read_modules(path)
    checkpoint = open_checkpoint(modules.backbone)
    backbone: Backbone
    if _encodes(checkpoint):
        encoder, weight_bytes = _encoder(checkpoint, reading)
        backbone = EncoderBackbone(encoder)
        reader = _encoder_reader(path, modules, encoder)
    else:
        if pooling is None and not (path / MODULES).is_file():
            raise SentenceError(
                f"{path} says nothing of how it embeds: it does if pooling is given as mean or last"
            )
        backbone, weight_bytes = decoder_embed.load_backbone(checkpoint, BATCH, reading)
        config = backbone.decoder.config
        reader = passages.load(path, modules.backbone, config.context, config.vocab_size)
    if pooling is None:
        pipeline = load_pipeline(modules.after, backbone.width)
    else:
        pipeline = Pipeline(Pooling((POOLED[pooling],), True), (Normalize(),), backbone.width)
    return Embedder(backbone, reader, pipeline, weight_bytes)


def load_reranker(path: Path, reading: Reading = PLAIN) -> Reranker:
    """Raises ValueErrors with one sentence for the user."""
    modules = read_modules(path)
    checkpoint = open_checkpoint(modules.backbone)
    made = _cross_encoder if _encodes(checkpoint) else _judge
    scorer, reader, weight_bytes = made(path, modules, checkpoint, reading)
    return Reranker(scorer, reader, activation(path, checkpoint.config), weight_bytes)


Judge = tuple[Scorer, PassageReader, int]  # with the bytes of its weights


def _cross_encoder(path: Path, modules: Modules, checkpoint: Checkpoint, reading: Reading) -> Judge:
    encoder, weight_bytes = _encoder(checkpoint, reading)
    classifier = encoder.config.classifier
    labels = classifier.labels if classifier else 0
    if labels != 1:
        raise ConfigError(f"{path} scores {labels} labels, and a reranker has one")
    reader = _encoder_reader(path, modules, encoder)
    return EncoderScorer(EncoderBackbone(encoder)), reader, weight_bytes


def _judge(path: Path, modules: Modules, checkpoint: Checkpoint, reading: Reading) -> Judge:
    """By a decoder: as its files say, else by the recipe of its model type."""
    recipe: Recipe | None = None
    logit = dict(modules.after).get(LOGIT_SCORE)
    if logit is not None:
        file = decoder_embed.read_logit_file(logit)
        tokens = (file.true_token_id, file.false_token_id)
        scorer, weight_bytes = decoder_embed.load_token_scorer(checkpoint, *tokens, BATCH, reading)
    elif classifies(checkpoint.config):
        scorer, weight_bytes = decoder_embed.load_label_scorer(checkpoint, BATCH, reading)
    else:
        recipe = RECIPES.get(str(checkpoint.config.get("model_type")))
        if recipe is None or (path / MODULES).is_file():
            raise SentenceError(f"{path} says nothing of how it scores a document for a query")
        tokens = _answers(path, recipe)
        scorer, weight_bytes = decoder_embed.load_token_scorer(checkpoint, *tokens, BATCH, reading)
    config = scorer.decoder.config
    reader = passages.load(path, modules.backbone, config.context, config.vocab_size, recipe)
    if reader.form is not None:
        check_pairs(path, reader.form)
    return scorer, reader, weight_bytes


def _answers(path: Path, recipe: Recipe) -> tuple[int, int]:
    """The two tokens whose logits are compared."""
    tokenizer = load_tokenizer(path)
    yes, no = tokenizer.id_of(recipe.yes), tokenizer.id_of(recipe.no)
    if yes is None or no is None:
        raise SentenceError(f"{path} has no tokens {recipe.yes!r} and {recipe.no!r} to score by")
    return yes, no


def _encodes(checkpoint: Checkpoint) -> bool:
    return str(checkpoint.config.get("model_type")) in FAMILIES


def _encoder(checkpoint: Checkpoint, reading: Reading) -> tuple[Encoder, int]:
    """With the bytes of its weights."""
    config = configure(checkpoint.config)
    weights = Weights(checkpoint, config, reading)
    encoder = Encoder.load(config, weights)
    weights.finish()
    return encoder, weights.bytes


def _encoder_reader(path: Path, modules: Modules, encoder: Encoder) -> PassageReader:
    config = encoder.config
    return passages.load(path, modules.backbone, config.context, config.vocab_size)


def activation(path: Path, raw: Mapping[str, Any]) -> Score:
    """Of a score of one label; three versions of sentence-transformers name it in three places."""
    inner = raw.get("sentence_transformers")
    named = (
        read_about(path).activation_fn,
        inner.get("activation_fn") if isinstance(inner, dict) else None,
        raw.get("sbert_ce_default_activation_function"),
    )
    name = next((name for name in named if name is not None), SIGMOID)
    if name not in SCORES:
        known = ", ".join(SCORES)
        raise SentenceError(f"{path}: the scores' activation is {name!r}, expected one of {known}")
    return SCORES[name]
