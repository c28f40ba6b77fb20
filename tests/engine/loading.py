"""Embedders and rerankers of a directory, outside of a worker."""

from pathlib import Path

from bessemer.engine.embedding import model
from bessemer.engine.embedding.model import Embedder, PoolingName, Reranker, read_files
from bessemer.engine.embedding.sentence_transformers import describe


def load_embedder(path: Path, pooling: PoolingName | None = None) -> Embedder:
    return model.load_embedder(read_files(describe(path)), pooling=pooling)


def load_reranker(path: Path, parse_special: bool = False) -> Reranker:
    return model.load_reranker(read_files(describe(path), parse_special))
