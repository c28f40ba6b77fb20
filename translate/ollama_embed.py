"""Ollama's embed and embeddings: texts to Embedding, vectors to JSON."""

from array import array
from typing import Annotated

from msgspec import Meta, Raw, Struct, field

from .decode import invalid
from .errors import OllamaErrorBody
from .fields import OLLAMA_EMBEDDINGS, OLLAMA_EMBEDDINGS_IGNORED, RequestDecoder
from .ollama_request import check_kept, decode_options
from .openai_embeddings import MAX_INPUTS, Embedding, Vectors, unit
from .openai_shape import filled
from .operation import Operation


class EmbedRequest(Struct, kw_only=True):
    model: str | None = None
    input: str | list[str] | None = None
    truncate: bool | None = None
    dimensions: Annotated[int, Meta(ge=0)] | None = None
    options: Raw = field(default_factory=Raw)
    keep_alive: float | str | None = None


class EmbeddingsRequest(Struct, kw_only=True):
    """A request of the older kind, for one text's vector as the model makes it."""

    model: str | None = None
    prompt: str | None = None
    options: Raw = field(default_factory=Raw)
    keep_alive: float | str | None = None


class EmbedBody(Struct):
    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int
    prompt_eval_count: int


class EmbeddingsBody(Struct):
    embedding: list[float]


EMBED: RequestDecoder[EmbedRequest] = RequestDecoder(
    EmbedRequest, OLLAMA_EMBEDDINGS, OLLAMA_EMBEDDINGS_IGNORED
)
EMBEDDINGS: RequestDecoder[EmbeddingsRequest] = RequestDecoder(
    EmbeddingsRequest, OLLAMA_EMBEDDINGS, OLLAMA_EMBEDDINGS_IGNORED
)


def decode_embed(body: bytes) -> Embedding:
    """Decode texts, which are cut to the model's length unless `truncate` is false."""
    request = EMBED.decode(body)
    inputs = [request.input] if isinstance(request.input, str) else request.input or []
    inputs = [] if inputs == [""] else inputs
    check_kept(request.keep_alive, bool(inputs))
    decode_options(request.options)
    if len(inputs) > MAX_INPUTS:
        raise invalid("input", f"must hold at most {MAX_INPUTS} texts")
    if "" in inputs:
        raise invalid("input", "must not hold an empty text")
    return Embedding(
        request.model or "",
        tuple(inputs),
        dimensions=request.dimensions or None,
        truncate=request.truncate is not False,
        normalize=True,
    )


def decode_embeddings(body: bytes) -> Embedding:
    request = EMBEDDINGS.decode(body)
    check_kept(request.keep_alive, bool(request.prompt))
    decode_options(request.options)
    return Embedding(
        request.model or "", (request.prompt,) if request.prompt else (), truncate=True
    )


def encode_embed(request: Embedding, vectors: Vectors, model: str) -> bytes:
    rows = (array("f", unit(row)).tolist() for row in vectors.rows)
    return filled(EmbedBody(model, [], vectors.duration, 0, vectors.tokens), embeddings=rows)


def encode_embeddings(request: Embedding, vectors: Vectors, model: str) -> bytes:
    (row,) = vectors.rows or (b"",)
    return filled(EmbeddingsBody([]), embedding=array("f", row).tolist())


EMBED_OPERATION = Operation(
    summary="Make vectors of length 1 of texts, as Ollama does",
    request=EMBED,
    response=EmbedBody,
    error=OllamaErrorBody,
    example={"input": ["Hello!"]},
)
EMBEDDINGS_OPERATION = Operation(
    summary="Make a vector of a text, as Ollama once did",
    request=EMBEDDINGS,
    response=EmbeddingsBody,
    error=OllamaErrorBody,
    example={"prompt": "Hello!"},
)
