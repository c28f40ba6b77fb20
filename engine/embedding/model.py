"""Vectors of texts and scores of pairs: what an embedding or a reranking model is loaded for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import mlx.core as mx
import numpy as np

from ...architectures.config import ConfigError, ModelConfig
from ...architectures.encoder import Encoder
from ...architectures.encoder_config import FAMILIES, EncoderConfig, configure
from ...architectures.recipe import Recipe
from ..checkpoint.checkpoint import Checkpoint, open_checkpoint
from ..checkpoint.weights import PLAIN, Reading, Weights, named
from . import inputs as passages
from .chat_template import check_pairs
from .decoder import LABELS, Tokens, configured, headless, load_backbone, load_scorer
from .inputs import Passage, PassageError, PassageReader
from .pooling import Floats, Normalize, Pipeline, Pooling
from .pooling import load as load_pipeline
from .sentence_transformers import (
    CONFIG,
    LOGIT_SCORE,
    About,
    Description,
    LogitFile,
    Mode,
    SentenceError,
    classifies,
    read_about,
)

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


@dataclass(frozen=True, slots=True, eq=False)
class ModelFiles:
    """What a model's files say, but for its weights; the checkpoint is a `named` one."""

    description: Description
    checkpoint: Checkpoint
    config: EncoderConfig | ModelConfig
    about: About
    reader: PassageReader


def read_files(description: Description) -> ModelFiles:
    """Raises ValueErrors with one sentence for the user."""
    checkpoint = open_checkpoint(description.modules.backbone, description.config)
    encodes = str(checkpoint.config.get("model_type")) in FAMILIES
    config = (configure if encodes else configured)(checkpoint.config)
    about = read_about(description.directory)
    reader = passages.load(description, about, config.context, config.vocab_size)
    return ModelFiles(description, named(checkpoint, config), config, about, reader)


def load_embedder(
    files: ModelFiles, reading: Reading = PLAIN, pooling: Pooled | None = None
) -> Embedder:
    """Raises ValueErrors with one sentence for the user.

    `pooling` is needed where no files of sentence-transformers are with a decoder, and goes before
    them: vectors are the mean of a text's hidden states, or the last one, made as long as 1.
    """
    description = files.description
    backbone: Backbone
    if isinstance(files.config, EncoderConfig):
        weights = Weights(files.checkpoint, files.config, reading)
        backbone = EncoderBackbone(Encoder.load(files.config, weights))
    else:
        if pooling is None and not description.modules.listed:
            raise SentenceError(
                f"{description.directory} says nothing of how it embeds: "
                "it does if pooling is given as mean or last"
            )
        config = headless(files.config)
        weights = Weights(files.checkpoint, config, reading)
        backbone = load_backbone(config, weights, BATCH)
    weights.finish()
    if pooling is None:
        pipeline = load_pipeline(description, backbone.width)
    else:
        pipeline = Pipeline(Pooling((POOLED[pooling],), True), (Normalize(),), backbone.width)
    return Embedder(backbone, files.reader, pipeline, weights.bytes)


def load_reranker(files: ModelFiles, reading: Reading = PLAIN) -> Reranker:
    """Raises ValueErrors with one sentence for the user."""
    scorer: Scorer
    reader = files.reader
    if isinstance(files.config, EncoderConfig):
        classifier = files.config.classifier
        _check_labels(files.description.directory, classifier.labels if classifier else 0)
        weights = Weights(files.checkpoint, files.config, reading)
        scorer = EncoderScorer(EncoderBackbone(Encoder.load(files.config, weights)))
    else:
        tokens, recipe = _compared(files, files.config)
        if form := reader.form or recipe:
            check_pairs(files.description.directory, form)
            reader = replace(reader, form=form)
        config = files.config if tokens else headless(files.config)
        weights = Weights(files.checkpoint, config, reading)
        if tokens is None:
            _check_labels(files.checkpoint.path, weights.shape(f"{LABELS}.weight")[0])
        elif max(tokens[0], tokens[1] or 0) >= config.vocab_size:
            raise SentenceError(
                f"{files.checkpoint.path} scores by the tokens {tokens[0]} and {tokens[1]}, "
                f"and the model has {config.vocab_size}"
            )
        scorer = load_scorer(config, weights, tokens, BATCH)
    weights.finish()
    return Reranker(scorer, reader, activation(files), weights.bytes)


def _check_labels(path: Path, labels: int) -> None:
    if labels != 1:
        raise ConfigError(f"{path} scores {labels} labels, and a reranker has one")


def _compared(files: ModelFiles, config: ModelConfig) -> tuple[Tokens | None, Recipe | None]:
    """The tokens that a decoder scores by, None if it has a classifier; the recipe if it has one.

    As its files say, else as its family's recipe.
    """
    description, recipe = files.description, config.recipe
    logit = dict(description.modules.after).get(LOGIT_SCORE)
    if logit is not None:
        file = description.module(logit, LogitFile)
        if file is None:
            raise SentenceError(f"{logit / CONFIG} is missing")
        return (file.true_token_id, file.false_token_id), None
    if classifies(files.checkpoint.config):
        return None, None
    if recipe is None or description.modules.listed:
        raise SentenceError(
            f"{description.directory} says nothing of how it scores a document for a query"
        )
    yes, no = map(files.reader.whole.token_to_id, (recipe.yes, recipe.no))
    if yes is None or no is None:
        names = f"{recipe.yes!r} and {recipe.no!r}"
        raise SentenceError(f"{description.directory} has no tokens {names} to score by")
    return (yes, no), recipe


def activation(files: ModelFiles) -> Score:
    """Of a score of one label; three versions of sentence-transformers name it in three places."""
    raw = files.checkpoint.config
    inner = raw.get("sentence_transformers")
    names = (
        files.about.activation_fn,
        inner.get("activation_fn") if isinstance(inner, dict) else None,
        raw.get("sbert_ce_default_activation_function"),
    )
    name = next((name for name in names if name is not None), SIGMOID)
    if name not in SCORES:
        path, known = files.description.directory, ", ".join(SCORES)
        raise SentenceError(f"{path}: the scores' activation is {name!r}, expected one of {known}")
    return SCORES[name]
