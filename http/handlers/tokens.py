"""POST /tokenize, /detokenize and /apply-template: texts as a model sees them."""

from dataclasses import dataclass, replace

from ...translate import openai_chat
from ...translate.tokens import (
    decode_detokenize,
    decode_tokenize,
    encode_detokenize,
    encode_prompt,
    encode_tokenize,
)
from ..backends import Backends
from ..message import HttpRequest, Response
from .answers import decode_body


@dataclass(frozen=True, slots=True)
class TokenizeText:
    """POST a text or a conversation, get its tokens."""

    backends: Backends

    async def __call__(self, request: HttpRequest) -> Response:
        asked = await decode_body(decode_tokenize, request.body)
        backend, chat = self.backends.find(asked.model), asked.chat
        chat = chat and replace(chat, client=request.caller)
        tokens = await backend.tokenize(replace(asked, chat=chat, client=request.caller))
        return Response(200, encode_tokenize(asked, tokens, backend.status().context))


@dataclass(frozen=True, slots=True)
class DetokenizeText:
    """POST tokens, get their text, in which control tokens have their names."""

    backends: Backends

    async def __call__(self, request: HttpRequest) -> Response:
        asked = await decode_body(decode_detokenize, request.body)
        text = await self.backends.find(asked.model).detokenize(asked)
        return Response(200, encode_detokenize(text))


@dataclass(frozen=True, slots=True)
class ApplyTemplate:
    """POST a chat completion's body, get the text that its model would go on with."""

    backends: Backends

    async def __call__(self, request: HttpRequest) -> Response:
        chat = await decode_body(openai_chat.decode_request, request.body)
        backend = self.backends.find(chat.model)
        return Response(
            200, encode_prompt(await backend.render(replace(chat, client=request.caller)))
        )
