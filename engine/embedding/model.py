"""Embedding and reranking models, loaded: vectors of texts and scores of pairs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import mlx.core as mx
import numpy as np

from ...architectures.config import ConfigError, ModelConfig
from ...architectures.encoder import Encoder
from ...architectures.encoder_config import EncoderConfig, configure
from ...architectures.encoder_families import FAMILIES
from ...architectures.recipe import Recipe
from ..checkpoint.checkpoint import Checkpoint, open_checkpoint
from ..checkpoint.weights import PLAIN, Reading, Weights, rename_tensors
from .chat_template import check_pairs
from .decoder import LABELS, Tokens, configure_decoder, headless, load_backbone, load_scorer
from .inputs import Input, InputError, InputReader, load_reader
from .pooling import Floats, Normalize, Pipeline, Pooling, load_pipeline
from .sentence_transformers import (
    CONFIG,
    LOGIT_SCORE,
    Description,
    DescriptionError,
    LogitFile,
    Mode,
    ModelOptions,
    classifies,
    read_options,
)

BATCH = 4096  # tokens that go through a model together
Activation = Literal["sigmoid", "raw"]
# Activations of sentence-transformers' CrossEncoder, by the names that checkpoints give them.
SIGMOID = "torch.nn.modules.activation.Sigmoid"
ACTIVATIONS: dict[str, Activation] = {SIGMOID: "sigmoid", "torch.nn.modules.linear.Identity": "raw"}
PoolingName = Literal["mean", "last"]
POOLING: dict[PoolingName, Mode] = {"mean": "mean", "last": "lasttoken"}


class Backbone(Protocol):
    """The part before pooling, be it an encoder or a decoder."""

    @property
    def width(self) -> int:
        """The width of a hidden state."""
        ...

    def __call__(self, batch: Sequence[Input]) -> list[Floats]:
        """Return each input's hidden states, (tokens, width), whatever else is in the batch."""
        ...


class Scorer(Protocol):
    """The part that scores pairs of texts: an encoder's classifier, or a decoder and its head."""

    def __call__(self, batch: Sequence[Input]) -> list[float]:
        """Return each input's logit, whatever else is in the batch."""
        ...


@dataclass(frozen=True, slots=True)
class EncoderBackbone:
    encoder: Encoder

    @property
    def width(self) -> int:
        return self.encoder.config.hidden_size

    def __call__(self, batch: Sequence[Input]) -> list[Floats]:
        states = [rows.astype(mx.float32) for rows in self.states(batch)]
        mx.eval(states)
        return [np.array(rows) for rows in states]

    def states(self, batch: Sequence[Input]) -> list[mx.array]:
        config = self.encoder.config
        types = [each.types for each in batch] if config.pairs and config.types > 1 else ()
        return self.encoder([each.tokens for each in batch], types)


@dataclass(frozen=True, slots=True)
class EncoderScorer:
    """A scorer by a classifier of one label."""

    backbone: EncoderBackbone

    def __call__(self, batch: Sequence[Input]) -> list[float]:
        classifier = self.backbone.encoder.classifier
        assert classifier is not None
        scores = classifier(self.backbone.states(batch))
        return [float(score) for score in np.array(scores)[:, 0]]


@dataclass(frozen=True, slots=True, eq=False)
class Embedder:
    backbone: Backbone
    reader: InputReader
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
        """Embed texts, after a prompt if one is named, or bare tokens: (inputs, dimension)."""
        return self.vectors(self.read(inputs, prompt, truncate), dimensions)

    def read(
        self,
        inputs: Sequence[str | Sequence[int]],
        prompt: str | None = None,
        truncate: bool = True,
    ) -> list[Input]:
        """Tokenize inputs; without `truncate` raise InputError for one that is too long."""
        return [
            self.reader.text(each, prompt, truncate)
            if isinstance(each, str)
            else self.reader.tokens(each, truncate)
            for each in inputs
        ]

    def vectors(self, inputs: Sequence[Input], dimensions: int | None = None) -> Floats:
        """Return (inputs, dimension), or the first `dimensions`, of length 1 if all were."""
        if dimensions is not None and not 1 <= dimensions <= self.dimension:
            raise InputError(f"dimensions is {dimensions}; the model has 1 to {self.dimension}")
        vectors = np.zeros((len(inputs), self.dimension), np.float32)
        for batch in batches([len(each.tokens) for each in inputs], self.batch_tokens):
            chosen = [inputs[i] for i in batch]
            vectors[batch] = self.pipeline(self.backbone(chosen), [i.prompted for i in chosen])
        if dimensions is None or dimensions == self.dimension:
            return vectors
        cut = vectors[:, :dimensions]
        return Normalize()(cut) if self.pipeline.normalizes else cut


@dataclass(frozen=True, slots=True, eq=False)
class Reranker:
    """A reranking model; `activation` is of its logit, a raw one has no bounds."""

    scorer: Scorer
    reader: InputReader
    activation: Activation
    weight_bytes: int
    batch_tokens: int = BATCH

    def score(self, query: str, documents: Sequence[str], truncate: bool = True) -> list[float]:
        """Score each document by its worth as an answer to the query: the more the better."""
        return self.scores(self.read(query, documents, truncate))

    def read(
        self, query: str, documents: Sequence[str], truncate: bool = True, prompt: str | None = None
    ) -> list[Input]:
        """Tokenize pairs; a prompt, or the model's default one, may say what to seek."""
        return [self.reader.pair(query, document, truncate, prompt) for document in documents]

    def scores(self, inputs: Sequence[Input]) -> list[float]:
        scores = np.zeros(len(inputs))
        for batch in batches([len(each.tokens) for each in inputs], self.batch_tokens):
            scores[batch] = self.scorer([inputs[i] for i in batch])
        if self.activation == "sigmoid":
            scores = 0.5 * (1 + np.tanh(scores / 2))  # no overflow, wherever the logit is
        return [float(score) for score in scores]


def batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Group indices, shortest first, up to so many tokens, or one that has more."""
    groups: list[list[int]] = []
    total = batch_tokens
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        total += lengths[index]
        if total > batch_tokens:
            groups.append([])
            total = lengths[index]
        groups[-1].append(index)
    return groups


@dataclass(frozen=True, slots=True, eq=False)
class ModelFiles:
    """A model's files, read but for its weights; the checkpoint's tensors are renamed."""

    description: Description
    checkpoint: Checkpoint
    config: EncoderConfig | ModelConfig
    options: ModelOptions
    reader: InputReader


def read_files(description: Description, parse_special: bool = False) -> ModelFiles:
    """Read a model's files; raises ValueErrors with one sentence for the user."""
    checkpoint = open_checkpoint(description.modules.backbone, description.config)
    encodes = str(checkpoint.config.get("model_type")) in FAMILIES
    config = (configure if encodes else configure_decoder)(checkpoint.config)
    options = read_options(description.directory)
    about = (config.context, config.vocab_size, parse_special)
    reader = load_reader(description, options, *about)
    return ModelFiles(description, rename_tensors(checkpoint, config), config, options, reader)


def load_embedder(
    files: ModelFiles, reading: Reading = PLAIN, pooling: PoolingName | None = None
) -> Embedder:
    """Load an embedding model; raises ValueErrors with one sentence for the user.

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
            raise DescriptionError(
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
        pipeline = Pipeline(Pooling((POOLING[pooling],), True), (Normalize(),), backbone.width)
    return Embedder(backbone, files.reader, pipeline, weights.bytes)


def load_reranker(files: ModelFiles, reading: Reading = PLAIN) -> Reranker:
    """Load a reranking model; raises ValueErrors with one sentence for the user."""
    scorer: Scorer
    reader = files.reader
    if isinstance(files.config, EncoderConfig):
        classifier = files.config.classifier
        _check_labels(files.description.directory, classifier.labels if classifier else 0)
        weights = Weights(files.checkpoint, files.config, reading)
        scorer = EncoderScorer(EncoderBackbone(Encoder.load(files.config, weights)))
    else:
        tokens, recipe = _compared(files, files.config)
        if template := reader.template or recipe:
            check_pairs(files.description.directory, template)
            reader = replace(reader, template=template)
        config = files.config if tokens else headless(files.config)
        weights = Weights(files.checkpoint, config, reading)
        if tokens is None:
            _check_labels(files.checkpoint.path, weights.shape(f"{LABELS}.weight")[0])
        elif max(tokens[0], tokens[1] or 0) >= config.vocab_size:
            raise DescriptionError(
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
    """Return the tokens that a decoder scores by, None if it has a classifier, and its recipe.

    The tokens are those of its files, else of its family's recipe, which is returned only then.
    """
    description, recipe = files.description, config.recipe
    logit = dict(description.modules.after).get(LOGIT_SCORE)
    if logit is not None:
        file = description.module(logit, LogitFile)
        if file is None:
            raise DescriptionError(f"{logit / CONFIG} is missing")
        return (file.true_token_id, file.false_token_id), None
    if classifies(files.checkpoint.config):
        return None, None
    if recipe is None or description.modules.listed:
        raise DescriptionError(
            f"{description.directory} says nothing of how it scores a document for a query"
        )
    yes, no = map(files.reader.tokenizer.token_to_id, (recipe.yes, recipe.no))
    if yes is None or no is None:
        names = f"{recipe.yes!r} and {recipe.no!r}"
        raise DescriptionError(f"{description.directory} has no tokens {names} to score by")
    return (yes, no), recipe


def activation(files: ModelFiles) -> Activation:
    """Return a score's activation, which versions of sentence-transformers name in three places."""
    raw = files.checkpoint.config
    inner = raw.get("sentence_transformers")
    names = (
        files.options.activation_fn,
        inner.get("activation_fn") if isinstance(inner, dict) else None,
        raw.get("sbert_ce_default_activation_function"),
    )
    name = next((name for name in names if name is not None), SIGMOID)
    if name not in ACTIVATIONS:
        path, known = files.description.directory, ", ".join(ACTIVATIONS)
        raise DescriptionError(
            f"{path}: the scores' activation is {name!r}, expected one of {known}"
        )
    return ACTIVATIONS[name]
