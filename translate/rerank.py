"""Rerank as Jina and Cohere have it, and vLLM's score: request to Ranking, scores to JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from .chat import Identity
from .decode import invalid
from .fields import RERANK, RERANK_IGNORED, RequestDecoder
from .openai_embeddings import InputUsage, PoolingRequest
from .openai_shape import AnswerBody, encode_json, filled
from .operation import Operation

MAX_PAIRED = 2**25  # characters of a query, once for each document
MAX_DOCUMENTS = 10_000  # https://docs.cohere.com/docs/reranking-best-practices


@dataclass(frozen=True, slots=True)
class Ranking:
    """A request to order documents by what they are worth to a query; all, or the `top` of them.

    `prompt` and `truncate` as in Embedding, of a query and a document together.
    """

    model: str
    query: str
    documents: tuple[str, ...]
    top: int | None = None
    show: bool = False  # the documents too
    prompt: str | None = None
    truncate: bool = False
    client: str = ""


@dataclass(frozen=True, slots=True)
class Scores:
    """A score for each document; `tokens` is how many all pairs had."""

    values: Sequence[float]
    tokens: int


class RerankDocument(Struct):
    text: str


Documents = Annotated[list[str | RerankDocument], Meta(min_length=1, max_length=MAX_DOCUMENTS)]
Texts = Annotated[list[str], Meta(min_length=1, max_length=MAX_DOCUMENTS)]


class RerankRequest(PoolingRequest, kw_only=True):
    query: str
    documents: Documents
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool | None = None


class ScoreRequest(PoolingRequest, kw_only=True):
    text_1: str | Annotated[list[str], Meta(min_length=1)]
    text_2: str | Texts


class Result(Struct):
    index: int
    relevance_score: float
    document: RerankDocument | UnsetType = UNSET


class RerankBody(Struct):
    id: str
    model: str
    results: list[Result]
    usage: InputUsage


class ScoreBody(Struct, tag_field="object", tag="score"):
    index: int
    score: float


class ScoreList(AnswerBody, tag_field="object", tag="list"):
    data: list[ScoreBody]
    usage: InputUsage


RERANK_DECODER = RequestDecoder(RerankRequest, RERANK, RERANK_IGNORED)
SCORE_DECODER = RequestDecoder(ScoreRequest, RERANK, RERANK_IGNORED)
RERANK_OPERATION = Operation(
    summary="Order documents by what they are worth to a query, as Jina and Cohere do",
    request=RERANK_DECODER,
    response=RerankBody,
    example={"query": "What is red?", "documents": ["A tomato.", "The sky."]},
)
SCORE_OPERATION = Operation(
    summary="Score pairs of texts, as vLLM does",
    request=SCORE_DECODER,
    response=ScoreList,
    example={"text_1": "What is red?", "text_2": ["A tomato.", "The sky."]},
)


def decode_request(body: bytes) -> Ranking:
    request = RERANK_DECODER.decode(body)
    ranking = Ranking(
        model=request.model or "",
        query=_not_empty("query", request.query),
        documents=tuple(each if isinstance(each, str) else each.text for each in request.documents),
        top=request.top_n,
        show=request.return_documents or False,
        prompt=request.prompt_name,
        truncate=request.truncates,
    )
    return _bounded(ranking, "query")


def _bounded(request: Ranking, field: str) -> Ranking:
    """Refuse a query that is read, with each document anew, for longer than documents may take."""
    longest = MAX_PAIRED // len(request.documents)
    if len(request.query) > longest:
        problem = f"must have at most {longest} characters beside {len(request.documents)} texts"
        raise invalid(field, problem)
    return request


def encode_response(request: Ranking, scores: Scores, identity: Identity) -> bytes:
    """Encode the best first; of equals, the one that came first in the request."""
    order = sorted(range(len(scores.values)), key=lambda row: -scores.values[row])[: request.top]
    shown = [RerankDocument(text) if request.show else UNSET for text in request.documents]
    results = (Result(row, scores.values[row], shown[row]) for row in order)
    usage = InputUsage(scores.tokens, scores.tokens)
    return filled(RerankBody(identity.id, identity.model, [], usage), results=results)


def decode_score(body: bytes) -> Ranking:
    request = SCORE_DECODER.decode(body)
    first = [request.text_1] if isinstance(request.text_1, str) else request.text_1
    second = [request.text_2] if isinstance(request.text_2, str) else request.text_2
    if len(first) > 1:
        raise invalid("text_1", "must be one text, which is scored with each of text_2")
    ranking = Ranking(
        model=request.model or "",
        query=_not_empty("text_1", first[0]),
        documents=tuple(second),
        prompt=request.prompt_name,
        truncate=request.truncates,
    )
    return _bounded(ranking, "text_1")


def encode_score(_: Ranking, scores: Scores, identity: Identity) -> bytes:
    """Encode the scores in the order of the request's texts."""
    data = [ScoreBody(row, value) for row, value in enumerate(scores.values)]
    usage = InputUsage(scores.tokens, scores.tokens)
    return encode_json(ScoreList(identity.id, identity.created, identity.model, data, usage))


def _not_empty(field: str, text: str) -> str:
    if not text:
        raise invalid(field, "must not be empty")
    return text
