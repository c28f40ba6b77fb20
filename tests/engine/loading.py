"""Embedders and rerankers of a directory, outside of a worker."""

from pathlib import Path

from bessemer.engine.embedding import model as embed
from bessemer.engine.embedding.model import Embedder, Pooled, Reranker, read_files
from bessemer.engine.embedding.sentence_transformers import describe


def load_embedder(path: Path, pooling: Pooled | None = None) -> Embedder:
    return embed.load_embedder(read_files(describe(path)), pooling=pooling)


def load_reranker(path: Path) -> Reranker:
    return embed.load_reranker(read_files(describe(path)))
