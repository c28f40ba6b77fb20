"""Every field of the four APIs, and of what servers add to them, is honoured, refused or listed.

The union is that of features.md, Appendix A; the official packages' types say what is new.
"""

from collections.abc import Iterator
from typing import Any, get_args

import ollama._types as ollama_types
import pytest
from anthropic.types.beta.message_create_params import MessageCreateParams
from openai.types.chat.completion_create_params import CompletionCreateParams as ChatParams
from openai.types.completion_create_params import CompletionCreateParams
from openai.types.embedding_create_params import EmbeddingCreateParams
from openai.types.responses.response_create_params import ResponseCreateParams

from bessemer.translate import (
    anthropic_request,
    ollama_embed,
    ollama_request,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_responses_request,
    rerank,
)
from bessemer.translate.fields import OLLAMA_IGNORED, RequestDecoder

SAMPLING = """
temperature top_p top_k min_p typical_p top_n_sigma xtc_probability xtc_threshold dry_multiplier
dry_base dry_allowed_length dry_penalty_last_n dry_sequence_breakers mirostat mirostat_tau
mirostat_eta dynatemp_range dynatemp_exponent repetition_penalty repeat_penalty
repetition_context_size repeat_last_n presence_penalty presence_context_size frequency_penalty
frequency_context_size logit_bias seed n stop stop_token_ids min_tokens ignore_eos
include_stop_str_in_output logprobs top_logprobs prompt_logprobs echo stream stream_options
"""
CHAT = f"""
{SAMPLING} model messages max_tokens max_completion_tokens tools tool_choice parallel_tool_calls
functions function_call response_format structured_outputs guided_json guided_regex guided_choice
guided_grammar grammar json_schema reasoning_effort reasoning thinking enable_thinking
thinking_budget thinking_token_budget reasoning_budget_tokens chat_template_kwargs chat_template
add_generation_prompt continue_final_message draft_model num_draft_tokens speculation adapters lora
keep_alive ttl timeout priority session_id cache_prompt cache_salt prompt_cache_key return_progress
timings_per_token user metadata store service_tier safety_identifier verbosity modalities prediction
web_search_options
"""
COMPLETIONS = f"{SAMPLING} model prompt suffix max_tokens best_of user"
RESPONSES = """
model input instructions max_output_tokens max_tool_calls temperature top_p top_logprobs tools
tool_choice parallel_tool_calls text reasoning include store previous_response_id conversation
background truncation metadata prompt prompt_cache_key client_metadata service_tier stream
stream_options user
"""
MESSAGES = """
model max_tokens messages system stream temperature top_p top_k stop_sequences tools tool_choice
thinking output_config metadata service_tier container context_management mcp_servers cache_control
"""
EMBEDDINGS = """
model input messages encoding_format dimensions user truncate_prompt_tokens input_type prompt
normalize
"""
RERANK = "model query documents top_n return_documents max_chunks_per_doc instruction"
OLLAMA = "model format stream options keep_alive think truncate shift logprobs top_logprobs"
OPTIONS = """
num_ctx num_batch num_gpu main_gpu use_mmap num_thread draft_num_predict num_keep seed num_predict
top_k top_p min_p typical_p repeat_last_n temperature repeat_penalty presence_penalty
frequency_penalty stop
"""


def members(kind: Any) -> Iterator[str]:
    """Yield the fields of a package's type, whichever it is of a union."""
    for each in get_args(kind) or (kind,):
        yield from getattr(each, "model_fields", None) or each.__annotations__


Row = tuple[RequestDecoder[Any], str, Any]
OF: dict[str, Row] = {
    "chat": (openai_chat.DECODER, CHAT, ChatParams),
    "completions": (openai_completions.DECODER, COMPLETIONS, CompletionCreateParams),
    "responses": (openai_responses_request.DECODER, RESPONSES, ResponseCreateParams),
    "messages": (anthropic_request.DECODER, MESSAGES, MessageCreateParams),
    "embeddings": (openai_embeddings.DECODER, EMBEDDINGS, EmbeddingCreateParams),
    "rerank": (rerank.RERANK_DECODER, RERANK, None),
    "api/chat": (ollama_request.CHAT, f"{OLLAMA} messages tools", ollama_types.ChatRequest),
    "api/generate": (
        ollama_request.PROMPT,
        f"{OLLAMA} prompt suffix images system template context raw",
        ollama_types.GenerateRequest,
    ),
    "api/embed": (
        ollama_embed.EMBED,
        "model input truncate dimensions keep_alive options",
        ollama_types.EmbedRequest,
    ),
}
IN_A_HEADER = {"betas"}  # as the package sends it


@pytest.mark.parametrize("at", OF)
def test_a_known_field_is_honoured_or_refused_by_name_or_listed_as_ignored(at: str) -> None:
    decoder, union, official = OF[at]
    known = {*union.split(), *(members(official) if official else ())} - IN_A_HEADER
    assert not known - {*decoder.honoured, *decoder.unbuilt, *decoder.ignored}
    assert not {*decoder.ignored} & {*decoder.honoured, *decoder.unbuilt}


def test_so_is_each_of_ollama_s_options() -> None:
    known = {*OPTIONS.split(), *members(ollama_types.Options)}
    ignored = {name.removeprefix("options.") for name in OLLAMA_IGNORED}
    decoder = ollama_request.OPTIONS
    assert not known - {*decoder.honoured, *decoder.unbuilt, *ignored}
    assert not ignored & {*decoder.honoured, *decoder.unbuilt}
