"""A GGUF file read as the directory that it was made from: the files that it stands for."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..checkpoint.weight_files import CheckpointError
from .container import Gguf, opened
from .families import family
from .tokenizer import end_tokens, tokenizer_config

# What a file says of drawing, by the names of a generation_config.json.
SAMPLING = {
    "temperature": "temp",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "penalty_repeat",
}


# How a text's vector is made of its tokens', by the number that files have.
POOLING = {1: "mean", 2: "cls", 3: "lasttoken"}


def gguf_pooling(path: Path) -> str | None:
    """Return how a file's vectors are made; None if it does not say. Raises CheckpointError."""
    kind = opened(path).value("pooling_type")
    if kind in (None, 0):
        return None
    if kind not in POOLING:
        raise CheckpointError(
            f"{path} pools in a way that is not known here, {kind}, as rerankers do; give the "
            "directory of the model that it was made from"
        )
    return POOLING[kind]


def gguf_file(path: Path, name: str, error: type[ValueError]) -> dict[str, Any] | None:
    """Return a JSON file of the directory; None if it has none. Raises `error`."""
    try:
        return FILES[name](opened(path)) if name in FILES else None
    except CheckpointError as flaw:
        raise error(str(flaw)) from None


def _generation_config(gguf: Gguf) -> dict[str, Any]:
    said = {name: gguf.said(f"general.sampling.{place}") for name, place in SAMPLING.items()}
    known = {name: value for name, value in said.items() if value is not None}
    drawn = {"do_sample": True} if known else {}
    never = gguf.said("tokenizer.ggml.suppress_tokens", [])
    suppressed = {"suppress_tokens": never} if never else {}
    return {**known, **drawn, **suppressed, "eos_token_id": end_tokens(gguf)}


def _config(gguf: Gguf) -> dict[str, Any]:
    pooling = gguf_pooling(gguf.path)
    return family(gguf).config(gguf) | ({"pooling_mode": pooling} if pooling else {})


FILES: Mapping[str, Callable[[Gguf], dict[str, Any]]] = {
    "config.json": _config,
    "tokenizer_config.json": tokenizer_config,
    "generation_config.json": _generation_config,
}
