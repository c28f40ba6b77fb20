"""What an endpoint takes and gives, as types: the OpenAPI document is made of these."""

from dataclasses import dataclass
from typing import Any

from .errors import OpenAIErrorBody
from .fields import RequestDecoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """An endpoint's `summary`, its request's decoder, and the types of its bodies.

    `pieces` are what a piece of a stream may be, of an endpoint that streams where it is asked to;
    `mark` is the data of an event that only says that it is over.
    """

    summary: str
    response: Any
    request: RequestDecoder[Any] | None = None
    pieces: tuple[Any, ...] = ()
    mark: str = ""
    error: Any = OpenAIErrorBody
    example: Any = None  # a request that works on any server
