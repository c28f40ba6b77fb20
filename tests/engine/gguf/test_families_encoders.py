"""Encoders that llama.cpp's converter wrote embed as the models that they were made from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bessemer.architectures.encoder import Encoder
from bessemer.architectures.encoder_config import configure
from bessemer.engine.checkpoint.checkpoint import open_checkpoint
from bessemer.engine.checkpoint.weights import Reading, Weights, rename_tensors
from bessemer.engine.embedding.model import Embedder, load_embedder, read_files
from bessemer.engine.embedding.sentence_transformers import DescriptionError, describe
from bessemer.engine.gguf.container import read_gguf
from tests.architectures.tiny_encoders import golden, sampled, sequences, types

from .make_golden import GOLDEN
from .make_golden_encoders import MODELS, VOCAB
from .writer import Raw, Uint32, write

FOLDER = GOLDEN / "encoders"
POOLING = "bert.pooling_type"
F32 = 0
TEXT = "W3 a 7b, w12"


def embedder(path: Path) -> Embedder:
    return load_embedder(read_files(describe(path)), Reading(exact=True))


def pooled(folder: Path, kind: int, **more: Any) -> Path:
    """Write the tiny BERT again, which says how it pools."""
    gguf = read_gguf(FOLDER / "bert.gguf")
    said = {
        name: Uint32(value) if type(value) is int else value
        for name, value in gguf.metadata.items()
    }
    tensors = {name: Raw(each.shape[::-1], F32, each.read()) for name, each in gguf.tensors.items()}
    said |= {name.replace("__", "."): value for name, value in more.items()}
    return write(folder / f"{kind}.gguf", said | {POOLING: Uint32(kind)}, tensors)


@pytest.mark.parametrize("name", MODELS)
def test_hidden_states_are_those_of_transformers(name: str) -> None:
    case, checkpoint = golden(name), open_checkpoint(FOLDER / f"{name}.gguf")
    config = configure(checkpoint.config)
    weights = Weights(rename_tensors(checkpoint, config), config, Reading(exact=True))
    encoder = Encoder.load(config, weights)
    weights.finish()
    texts = sequences(name)
    hidden = encoder(texts, [types(name, list(each)) for each in texts])
    ours = np.stack([sampled(np.array(rows)) for rows in hidden])
    assert np.abs(ours - case.hidden).max() < 2e-4


def test_vectors_by_what_a_file_says(tmp_path: Path) -> None:
    """They are as long as 1, as llama.cpp's own."""
    mean, first = (embedder(pooled(tmp_path, kind)) for kind in (1, 2))
    tokens = mean.read([TEXT])
    (rows,) = mean.backbone(tokens)
    for vectors, expected in (
        (mean.embed([TEXT]), rows.mean(axis=0)),
        (first.embed([TEXT]), rows[0]),
    ):
        assert np.abs(vectors[0] - expected / np.linalg.norm(expected)).max() < 1e-6
    assert np.array_equal(embedder(FOLDER / "bert.gguf").embed([TEXT]), mean.embed([TEXT]))


def test_a_decoder_embeds_where_its_file_says_how(tmp_path: Path) -> None:
    assert describe(GOLDEN / "qwen3.gguf").purpose == "generate"
    said = {"general.architecture": "qwen3", "qwen3.pooling_type": Uint32(3)}
    said |= {"qwen3.attention.layer_norm_rms_epsilon": 1e-6}
    table = {"token_embd.weight": Raw((1, 1), F32, bytes(4))}
    description = describe(write(tmp_path / "m.gguf", said, table))
    assert description.purpose == "embed" and description.config is not None
    assert description.config["pooling_mode"] == "lasttoken"


def test_rerankers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DescriptionError, match="pools in a way that is not known here, 4"):
        describe(pooled(tmp_path, 4))


def test_texts_are_cut_as_bert_does() -> None:
    reader = read_files(describe(FOLDER / "bert.gguf")).reader
    tokens = [VOCAB[token] for token in reader.text(TEXT).tokens]
    assert tokens == ["[CLS]", "w3", "a", "[UNK]", "[UNK]", "w12", "[SEP]"]
    assert reader.longest == golden("bert").config["max_position_embeddings"]


def test_a_vocabulary_with_capitals_keeps_them(tmp_path: Path) -> None:
    words = ["\u2581" + word if word[0] not in "[#" else word for word in VOCAB]
    words[words.index("\u2581a")] = "\u2581Big"
    said = {"tokenizer__ggml__normalizer__lowercase": False}
    path = pooled(tmp_path, 1, tokenizer__ggml__tokens=words, **said)
    reader = read_files(describe(path)).reader
    assert reader.text("Big b").tokens == [2, words.index("\u2581Big"), words.index("\u2581b"), 3]
