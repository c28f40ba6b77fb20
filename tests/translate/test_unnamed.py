"""Requests that name no model, in every dialect."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from bessemer.translate import (
    anthropic_request,
    ollama_embed,
    ollama_request,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_responses_request,
    rerank,
    tokens,
)

HI = [{"role": "user", "content": "Hi"}]
# Every request that may name a model, without one.
UNNAMED: dict[Callable[[bytes], Any], dict[str, Any]] = {
    openai_chat.decode_request: {"messages": HI},
    openai_completions.decode_request: {"prompt": "Hi"},
    openai_embeddings.decode_request: {"input": "Hi"},
    openai_responses_request.decode_request: {"input": "Hi"},
    anthropic_request.decode_request: {"messages": HI, "max_tokens": 4},
    ollama_request.decode_chat: {"messages": HI},
    ollama_request.decode_prompt: {"prompt": "Hi"},
    ollama_embed.decode_embed: {"input": "Hi"},
    ollama_embed.decode_embeddings: {"prompt": "Hi"},
    rerank.decode_request: {"query": "q", "documents": ["d"]},
    rerank.decode_score: {"text_1": "a", "text_2": "b"},
    tokens.decode_tokenize: {"content": "Hi"},
    tokens.decode_detokenize: {"tokens": [1]},
}


@pytest.mark.parametrize(("decode", "body"), UNNAMED.items())
def test_a_model_of_null_is_none_that_is_named(
    decode: Callable[[bytes], Any], body: dict[str, Any]
) -> None:
    left_out, null = (decode(json.dumps(body | more).encode()) for more in ({}, {"model": None}))
    chats = [each.chat() if hasattr(each, "fields") else each for each in (left_out, null)]
    assert chats[0] == chats[1] and chats[1].model == ""
