"""Texts and conversations to tokens and back, as llama.cpp's server and vLLM have it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from . import openai_chat
from .chat import Chat
from .decode import invalid
from .fields import RequestDecoder
from .openai_shape import filled
from .operation import Operation
from .sampling import TokenId

MAX_TOKENS = 2**19  # that are put into words at once: two of the longest contexts


@dataclass(frozen=True, slots=True)
class Tokenize:
    """A text, or a conversation by its model's template, that is to become tokens.

    `pieces`: each with its text, or `names`: with its name in the vocabulary.
    """

    model: str
    text: str = ""
    chat: Chat | None = None
    add_special: bool = False  # what a model expects around a bare text, as a BOS
    parse_special: bool = True  # names of control tokens in the text are these tokens
    pieces: bool = False
    names: bool = False
    counted: bool = False  # as vLLM has it
    client: str = ""


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a text; their pieces and names only where they are asked for."""

    ids: Sequence[int]
    pieces: Sequence[bytes] = ()
    names: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Detokenize:
    model: str
    ids: tuple[int, ...]


class TextRequest(Struct, kw_only=True):
    """A text, which is `content` in llama.cpp's requests and `prompt` in vLLM's."""

    model: str | None = None
    content: str | None = None
    prompt: str | None = None
    messages: list[Any] | None = None
    add_special: bool | None = None
    add_special_tokens: bool | None = None
    parse_special: bool | None = None
    with_pieces: bool | None = None
    return_token_strs: bool | None = None


class TokensRequest(Struct, kw_only=True):
    model: str | None = None
    tokens: Annotated[list[TokenId], Meta(max_length=MAX_TOKENS)]


class PieceBody(Struct):
    """A token with its text, or its bytes where they are no text by themselves."""

    id: int
    piece: str | list[int]


class TokensBody(Struct):
    tokens: list[int] | list[PieceBody]


class CountedBody(Struct):
    count: int
    max_model_len: int | None
    tokens: list[int]
    token_strs: list[str] | UnsetType = UNSET


class TextBody(Struct):
    """A text by both of its names."""

    content: str
    prompt: str


class PromptBody(Struct):
    prompt: str


TEXT: RequestDecoder[TextRequest] = RequestDecoder(TextRequest, {})
TOKENS: RequestDecoder[TokensRequest] = RequestDecoder(TokensRequest, {})


def decode_tokenize(body: bytes) -> Tokenize:
    request = TEXT.decode(body)
    text = request.content if request.content is not None else request.prompt
    names = bool(request.return_token_strs)
    if text is None and request.messages is not None:
        chat = openai_chat.decode_request(body)
        return Tokenize(request.model or "", chat=chat, names=names, counted=True)
    if text is None:
        message = "is required, or else prompt or messages"
        raise invalid("content", message, "missing_required_parameter")
    counted = request.content is None
    special = request.add_special_tokens if counted else request.add_special
    return Tokenize(
        model=request.model or "",
        text=text,
        add_special=counted if special is None else special,
        parse_special=request.parse_special is not False,
        pieces=bool(request.with_pieces) and not counted,
        names=names and counted,
        counted=counted,
    )


def encode_tokenize(request: Tokenize, tokens: Tokens, context: int | None) -> bytes:
    if request.counted:
        body = CountedBody(len(tokens.ids), context, [*tokens.ids])
        body.token_strs = [*tokens.names] if request.names else UNSET
        return msgspec.json.encode(body)
    if not request.pieces:
        return msgspec.json.encode(TokensBody([*tokens.ids]))
    pieces = map(_piece, tokens.ids, tokens.pieces)
    return filled(TokensBody([]), tokens=pieces)


def decode_detokenize(body: bytes) -> Detokenize:
    request = TOKENS.decode(body)
    return Detokenize(request.model or "", tuple(request.tokens))


def encode_detokenize(text: str) -> bytes:
    return msgspec.json.encode(TextBody(text, text))


def encode_prompt(text: str) -> bytes:
    return msgspec.json.encode(PromptBody(text))


def _piece(id: int, raw: bytes) -> PieceBody:
    try:
        return PieceBody(id, raw.decode())
    except UnicodeDecodeError:
        return PieceBody(id, list(raw))


TOKENIZE = Operation(
    summary="Turn a text or a conversation into tokens, as llama.cpp's server and vLLM do",
    request=TEXT,
    response=dict[str, Any],
    example={"content": "Hello!"},
)
DETOKENIZE = Operation(
    summary="Turn tokens into a text", request=TOKENS, response=TextBody, example={"tokens": [1]}
)
APPLY_TEMPLATE = Operation(
    summary="Turn a conversation into its model's prompt",
    request=openai_chat.DECODER,
    response=PromptBody,
    example={"messages": [{"role": "user", "content": "Hello!"}]},
)
