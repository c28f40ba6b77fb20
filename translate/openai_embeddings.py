"""OpenAI's embeddings: request to Embedding, vectors to JSON."""

import base64
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta, Struct

from .decode import invalid
from .fields import EMBEDDINGS, EMBEDDINGS_IGNORED, RequestDecoder
from .openai_shape import Prompts, each_prompt, filled
from .operation import Operation

MAX_INPUTS = 2048  # https://platform.openai.com/docs/api-reference/embeddings


@dataclass(frozen=True, slots=True)
class Embedding:
    """A request for vectors of texts or lists of token ids; `prompt` names one of the model's.

    `truncate` cuts what is too long for the model, which is refused otherwise; `normalize` makes
    vectors of length 1, as some models do anyway.
    """

    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None
    base64: bool = False
    prompt: str | None = None
    truncate: bool = False
    normalize: bool = False
    client: str = ""


@dataclass(frozen=True, slots=True)
class Vectors:
    """A row of float32 for each input, as bytes; `tokens` is how many the inputs had in all.

    `duration` is the nanoseconds that it took.
    """

    rows: Sequence[bytes]
    tokens: int
    duration: int = 0


class PoolingRequest(Struct, kw_only=True):
    """The fields that embedding, rerank and score share: how inputs are cut, as we and vLLM say."""

    model: str | None = None
    prompt_name: str | None = None
    truncate: bool | None = None
    truncate_prompt_tokens: int | None = None

    @property
    def truncates(self) -> bool:
        if self.truncate_prompt_tokens not in (None, -1):
            raise invalid("truncate_prompt_tokens", "must be -1, which is the model's own length")
        return self.truncate or self.truncate_prompt_tokens is not None


class EmbeddingRequest(PoolingRequest, kw_only=True):
    input: Prompts
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    normalize: bool | None = None


class InputUsage(Struct):
    prompt_tokens: int
    total_tokens: int


class EmbeddingBody(Struct, tag_field="object", tag="embedding"):
    index: int
    embedding: str | list[float]


class EmbeddingList(Struct, tag_field="object", tag="list"):
    data: list[EmbeddingBody]
    model: str
    usage: InputUsage


DECODER = RequestDecoder(EmbeddingRequest, EMBEDDINGS, EMBEDDINGS_IGNORED)
OPERATION = Operation(
    summary="Make vectors of texts, as OpenAI's embeddings are",
    request=DECODER,
    response=EmbeddingList,
    example={"input": "Hello!"},
)


def decode_request(body: bytes) -> Embedding:
    request = DECODER.decode(body)
    inputs = each_prompt("input", request.input, MAX_INPUTS)
    if "" in inputs:
        raise invalid("input", "must not hold an empty text")
    return Embedding(
        model=request.model or "",
        inputs=inputs,
        dimensions=request.dimensions,
        base64=request.encoding_format == "base64",
        prompt=request.prompt_name,
        truncate=request.truncates,
        normalize=request.normalize or False,
    )


def encode_response(request: Embedding, vectors: Vectors, model: str) -> bytes:
    show = _base64 if request.base64 else _numbers
    data = (
        EmbeddingBody(index, show(unit(row) if request.normalize else row))
        for index, row in enumerate(vectors.rows)
    )
    usage = InputUsage(vectors.tokens, vectors.tokens)
    return filled(EmbeddingList([], model, usage), data=data)


def unit(row: bytes) -> bytes:
    """Return a vector of length 1, or one of zeros as it is."""
    vector = array("f", row)
    length = math.hypot(*vector)
    return array("f", [x / length for x in vector]).tobytes() if length else row


def _base64(row: bytes) -> str:
    return base64.b64encode(row).decode()


def _numbers(row: bytes) -> list[float]:
    return array("f", row).tolist()
