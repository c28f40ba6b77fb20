"""Every field that clients are known to send is honoured, refused by name, or on a list."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import fields as struct_fields

from bessemer.engine.request import Refusal
from bessemer.translate import (
    anthropic_request,
    openai_chat,
    openai_completions,
    openai_embeddings,
    rerank,
)
from bessemer.translate.fields import (
    COMPLETIONS,
    EMBEDDINGS,
    GENERATION,
    MESSAGES,
    RERANK,
    RequestDecoder,
    Table,
    Unbuilt,
)
from bessemer.translate.openai_reasoning import BUDGETS
from bessemer.translate.sampling import LIMITS, SamplingFields

HTTP = Path(__file__).parents[2] / "http" / "README.md"
HI = [{"role": "user", "content": "Hi"}]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}
FUNCTION: dict[str, Any] = {"type": "function", "function": {"name": "f"}}

# What peers' clients send, each with a value that asks for something.
SAMPLING: dict[str, Any] = {
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 5,
    "min_p": 0.5,
    "typical_p": 0.5,
    "typical": 0.5,
    "typ_p": 0.5,
    "top_n_sigma": 1.5,
    "xtc_probability": 0.5,
    "xtc_threshold": 0.2,
    "dry_multiplier": 0.8,
    "dry_base": 2,
    "dry_allowed_length": 3,
    "dry_penalty_last_n": 64,
    "dry_sequence_breakers": ["x"],
    "mirostat": 2,
    "mirostat_mode": 2,
    "mirostat_tau": 3,
    "mirostat_eta": 0.2,
    "dynatemp_range": 0.5,
    "dynatemp_exponent": 2,
    "tfs_z": 0.9,
    "top_a": 0.1,
    "epsilon_cutoff": 3,
    "eta_cutoff": 3,
    "repetition_penalty": 1.1,
    "repeat_penalty": 1.1,
    "repetition_context_size": 20,
    "repeat_last_n": 64,
    "presence_penalty": 0.5,
    "presence_context_size": 20,
    "presence_penalty_context_size": 20,
    "frequency_penalty": 0.5,
    "frequency_context_size": 20,
    "frequency_penalty_context_size": 20,
    "no_repeat_ngram_size": 3,
    "encoder_repetition_penalty": 1.1,
    "logit_bias": {"5": 1},
    "logits_processors": ["x"],
    "seed": 7,
    "n": 2,
    "best_of": 3,
    "use_beam_search": True,
    "num_beams": 2,
    "length_penalty": 0.8,
    "early_stopping": True,
    "guidance_scale": 1.5,
    "negative_prompt": "x",
    "stop": ["a"],
    "stop_token_ids": [5],
    "stop_in_reasoning": True,
    "stop_regex": "a+",
    "min_tokens": 1,
    "max_tokens": 5,
    "max_completion_tokens": 5,
    "n_predict": 5,
    "num_predict": 5,
    "ignore_eos": True,
    "include_stop_str_in_output": True,
    "skip_special_tokens": False,
    "spaces_between_special_tokens": False,
    "allowed_token_ids": [5],
    "bad_words": ["a"],
    "logprobs": True,
    "top_logprobs": 3,
    "prompt_logprobs": 1,
    "logprob_token_ids": [5],
    "n_probs": 5,
    "min_keep": 5,
    **dict.fromkeys(("post_sampling_probs", "return_tokens"), True),
    "response_fields": ["content"],
    "stream_format": "json_lines",
    "stream_chunk_size": 3,
    "echo": True,
    "suffix": "end",
    "stream": True,
    "stream_options": {"include_usage": True},
    "stream_options.continuous_usage_stats": True,
    "stream_options.include_obfuscation": False,
    "tools": [FUNCTION],
    "tool_choice": "required",
    "functions": [{"name": "f"}],
    "function_call": {"name": "f"},
    "response_format": SCHEMA,
    "structured_outputs": {"regex": "a"},
    "structured_outputs.structural_tag": "{}",
    "structured_outputs.whitespace_pattern": "a",
    "structured_outputs.disable_any_whitespace": True,
    "structured_outputs.disable_additional_properties": True,
    "structured_outputs.disable_fallback": True,
    "guided_json": {"type": "object"},
    "guided_regex": "a+",
    "guided_choice": ["a"],
    "guided_grammar": "root ::= a",
    "guided_decoding_backend": "x",
    "grammar": "root ::= a",
    "grammar_string": "root ::= a",
    "guided_whitespace_pattern": "a",
    "structural_tag": "{}",
    "json_schema": {"type": "object"},
    "regex": "a",
    "ebnf": "a",
    "modalities": ["text", "audio"],
    "audio": {"voice": "a"},
    "chat_template": "{{ messages }}",
    "chat_template_kwargs": {"x": 1},
    "reasoning_effort": "low",
    "reasoning": {"effort": "low"},
    "reasoning.summary": "auto",
    "reasoning.max_tokens": 5,
    "thinking": {"type": "disabled"},
    "thinking.budget_tokens": 4,
    "enable_thinking": False,
    **dict.fromkeys(BUDGETS, 5),
    "include_reasoning": False,
    "separate_reasoning": False,
    "reasoning_format": "none",
    "documents": [{"text": "a"}],
    "add_generation_prompt": False,
    "continue_final_message": True,
    "add_special_tokens": None,  # by endpoint, below
    "draft_model": "x",
    "num_draft_tokens": 3,
    "speculation": {"n": 3},
    "adapters": "x",
    "lora": [{"id": 0, "scale": 1}],
    "keep_alive": "5m",
    "ttl": 60,
    "timeout": 5,
    "priority": 1,
    "session_id": "x",
    "request_id": "x",
    "cache_prompt": False,
    **dict.fromkeys(("cache_salt", "prompt_cache_key"), "x"),
    "context_overflow": "truncate",
    **dict.fromkeys(("return_progress", "timings_per_token", "return_token_ids"), True),
    "truncate_prompt_tokens": 5,
    "user": "u",
    "metadata": {"a": "b"},
    "store": True,
    "service_tier": "auto",
    "safety_identifier": "x",
    "verbosity": "low",
    "prediction": {"type": "content", "content": "x"},
    "web_search_options": {},
}
CHAT = SAMPLING | {
    "add_special_tokens": True,
    "parse_special": True,
    "tool_choice": "none",
    "parallel_tool_calls": False,
    "function_call": "none",
}
COMPLETION = SAMPLING | {
    "prompt": "else",
    "logprobs": 3,
    "enable_thinking": True,
    "add_special_tokens": False,
    "parse_special": False,
}
MESSAGE = SAMPLING | {
    "system": "Be brief.",
    "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    "stop_sequences": ["END"],
    "tools": [{"name": "f", "input_schema": {}}],
    "tool_choice": {"type": "none"},
    "output_config.format": {"type": "json_schema", "schema": {}},
    "output_format": {"type": "json_schema", "schema": {}},
    "output_config.effort": "low",
    "metadata": {"user_id": "u"},
    "container": "c",
    "context_management": {"edits": []},
    "mcp_servers": [{"url": "x"}],
    "cache_control": {"type": "ephemeral"},
    "inference_geo": "us",
    "add_special_tokens": True,
}
EMBEDDING: dict[str, Any] = {
    "input": "else",
    "messages": HI,
    "encoding_format": "base64",
    "dimensions": 8,
    "user": "u",
    "truncate_prompt_tokens": -1,
    "truncate": True,
    "input_type": "query",
    "prompt": "query: ",
    "prompt_name": "query",
    "instruction": "x",
    "normalize": True,
    "priority": 1,
    "add_special_tokens": False,
    "output_dtype": "int8",
    "request_id": "x",
}
RANKING: dict[str, Any] = {
    "query": "else",
    "documents": ["else"],
    "top_n": 1,
    "return_documents": True,
    "max_chunks_per_doc": 5,
    "max_tokens_per_doc": 5,
    "rank_fields": ["a"],
    "instruction": "x",
    "prompt_name": "x",
    "truncate": True,
    "truncate_prompt_tokens": -1,
    "user": "u",
    "priority": 1,
}
SCORING: dict[str, Any] = {
    name: RANKING[name]
    for name in ("prompt_name", "truncate", "truncate_prompt_tokens", "user", "priority")
} | {"text_1": "else", "text_2": ["else"]}

Endpoint = tuple[Callable[[bytes], Any], RequestDecoder[Any], Table, dict[str, Any], dict[str, Any]]
ENDPOINTS: dict[str, Endpoint] = {
    "chat": (
        openai_chat.decode_request,
        openai_chat.DECODER,
        GENERATION,
        {"messages": HI},
        CHAT,
    ),
    "completions": (
        openai_completions.decode_request,
        openai_completions.DECODER,
        COMPLETIONS,
        {"prompt": "Hi"},
        COMPLETION,
    ),
    "messages": (
        anthropic_request.decode_request,
        anthropic_request.DECODER,
        MESSAGES,
        {"messages": HI, "max_tokens": 9},
        MESSAGE,
    ),
    "embeddings": (
        openai_embeddings.decode_request,
        openai_embeddings.DECODER,
        EMBEDDINGS,
        {"input": "a"},
        EMBEDDING,
    ),
    "rerank": (
        rerank.decode_request,
        rerank.RERANK_DECODER,
        RERANK,
        {"query": "q", "documents": ["a", "b"]},
        RANKING,
    ),
    "score": (
        rerank.decode_score,
        rerank.SCORE_DECODER,
        RERANK,
        {"text_1": "q", "text_2": ["a", "b"]},
        SCORING,
    ),
}
# What makes a value count that says nothing alone.
WITH: dict[str, dict[str, Any]] = {
    "top_logprobs": {"logprobs": True},
    "tool_choice": {"tools": [{"name": "f", "function": {"name": "f"}}]},
    "parallel_tool_calls": {"tools": [FUNCTION]},
    "function_call": {"functions": [{"name": "f"}]},
    "stream_options.continuous_usage_stats": {"stream_options": {"include_usage": True}},
    "thinking.budget_tokens": {"thinking": {"type": "enabled"}},
    "stream_options.include_obfuscation": {"stream_options": {"include_usage": True}},
    "return_progress": {"stream": True},
}
SENT = [(at, name) for at, (*_, sent) in ENDPOINTS.items() for name in sent]


def body(base: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """Return the base with one more field, or with one in a field of it."""
    whole, _, part = name.partition(".")
    if not part:
        return base | {name: value}
    return base | {whole: base.get(whole, {}) | {part: value}}


@pytest.mark.parametrize(("at", "name"), SENT, ids=[f"{at}-{name}" for at, name in SENT])
def test_a_field_is_honoured_or_refused_by_name_or_on_the_list(at: str, name: str) -> None:
    decode, decoder, _, base, sent = ENDPOINTS[at]
    base = {"model": "m"} | base
    whole = name.partition(".")[0]
    if whole not in decoder.unbuilt:
        base |= {key: v for key, v in WITH.get(name, {}).items() if key not in decoder.unbuilt}
    plain = decode(json.dumps(base).encode())
    if name in LIMITS:  # of which one is as good as the other
        base.pop("max_tokens", None)
    try:
        changed = decode(json.dumps(body(base, name, sent[name])).encode()) != plain
    except Refusal as refusal:
        assert (refusal.status, refusal.code) == (400, "unsupported")
        assert refusal.field in (name, whole, f"{name}.type") and refusal.field in decoder.unbuilt
        assert refusal.field in refusal.message and refusal.field not in decoder.ignored
        return
    ignored = name in decoder.ignored
    assert changed != ignored, "honoured" if changed else "ignored without being on the list"
    assert ignored or whole in decoder.honoured


@pytest.mark.parametrize("at", ENDPOINTS)
def test_a_field_has_one_meaning(at: str) -> None:
    _, decoder, table, *_ = ENDPOINTS[at]
    assert not decoder.honoured & set(decoder.ignored) and not set(table) & set(decoder.ignored)
    assert decoder.unbuilt.keys() == table.keys() - decoder.honoured


NEUTRAL: dict[str, Sequence[Any]] = {
    **dict.fromkeys(("typical_p", "typical", "typ_p", "tfs_z", "tfs", "length_penalty"), (1, 1.0)),
    **dict.fromkeys(("best_of", "num_beams", "encoder_repetition_penalty"), (1,)),
    **dict.fromkeys(("top_a", "epsilon_cutoff", "eta_cutoff", "xtc_probability"), (0,)),
    **dict.fromkeys(("mirostat", "dynatemp_range", "no_repeat_ngram_size", "priority"), (0,)),
    **dict.fromkeys(("top_n_sigma", "nsigma", "dry_penalty_last_n", "dry_range"), (0, -1)),
    **dict.fromkeys(("repetition_context_size", "thinking_budget"), (-1,)),
    **dict.fromkeys(("cache_prompt", "include_reasoning"), (True,)),
    **dict.fromkeys(("use_beam_search", "echo"), (False,)),
    **dict.fromkeys(("tool_choice", "function_call"), ("none", "auto")),
    **dict.fromkeys(("tools", "functions"), ([],)),
    "xtc_threshold": [0, 0.1],
    "dry_multiplier": [0, 0.0],
    "dry_base": [1.75],  # this, and what follows: llama.cpp's defaults
    "dry_allowed_length": [2],
    "mirostat_tau": [5.0],
    "mirostat_eta": [0.1],
    "dynatemp_exponent": [1.0],
    "response_format": [{"type": "text"}],
    "modalities": [["text"]],
    "lora": [[], ""],
    "adapters": [{}, ""],
    "suffix": [""],
}

# The same of endpoints that do without what others honour.
ALSO_NEUTRAL: dict[str, dict[str, Sequence[Any]]] = {
    "completions": {"add_special_tokens": [True], "add_generation_prompt": [True]},
    "messages": {
        "stream_options": [{}, {"include_usage": True}, {"include_usage": False}],
        "add_generation_prompt": [True],
        "n": [1],
    },
    "embeddings": {
        "add_special_tokens": [True],
        **dict.fromkeys(("embedding_type", "output_dtype"), ("float", "")),
        "embedding_types": [["float"]],
        "embed_dtype": ["float32"],
    },
    "rerank": {"add_special_tokens": [True]},
}


@pytest.mark.parametrize("at", list(ALSO_NEUTRAL))
def test_what_asks_for_what_is_done_is_let_through(at: str) -> None:
    decode, _, _, base, _ = ENDPOINTS[at]
    base = {"model": "m"} | base
    plain = decode(json.dumps(base).encode())
    for name, values in ALSO_NEUTRAL[at].items():
        for value in values:
            assert decode(json.dumps(base | {name: value}).encode()) == plain, (name, value)


@pytest.mark.parametrize("at", ["chat", "completions", "messages"])
def test_what_asks_for_nothing_is_let_through(at: str) -> None:
    decode, decoder, table, base, _ = ENDPOINTS[at]
    base = {"model": "m"} | base
    plain = decode(json.dumps(base).encode())
    for name, values in NEUTRAL.items():
        for value in values:
            if at == "messages" and name == "tool_choice":
                value = {"type": value}
            assert decode(json.dumps(base | {name: value}).encode()) == plain, (name, value)
    assert decode(json.dumps(base | dict.fromkeys(table)).encode()) == plain
    required = {"model", *base}
    nothing = dict.fromkeys(decoder.honoured - required)
    assert decode(json.dumps(base | nothing | {"x_unknown": {"a": [1]}}).encode()) == plain


@pytest.mark.parametrize("at", ["embeddings", "rerank", "score"])
def test_null_asks_for_nothing(at: str) -> None:
    decode, _, table, base, _ = ENDPOINTS[at]
    base = {"model": "m"} | base
    nothing = {name: None for name in table if name not in base}
    assert decode(json.dumps(base | nothing).encode()) == decode(json.dumps(base).encode())


def test_as_many_as_are_shown_are_the_best_of() -> None:
    decode, _, _, base, _ = ENDPOINTS["chat"]
    base = {"model": "m", "n": 3} | base
    plain = decode(json.dumps(base).encode())
    assert decode(json.dumps(base | {"best_of": 3}).encode()) == plain
    with pytest.raises(Refusal):
        decode(json.dumps(base | {"best_of": 4}).encode())


def test_what_only_adds_to_a_field_that_is_off_asks_for_nothing() -> None:
    llama_cpp = {  # what its own page sends with every request
        "dry_multiplier": 0,
        "dry_base": 1.8,
        "dry_allowed_length": 3,
        "dry_penalty_last_n": 4096,
        "xtc_probability": 0,
        "xtc_threshold": 0.10000000149011612,
        "mirostat": 0,
        "mirostat_tau": 4,
        "mirostat_eta": 0.3,
        "dynatemp_range": 0,
        "dynatemp_exponent": 2,
        "repeat_penalty": 1,
        "repeat_last_n": 64,
        "typical_p": 1,
        "samplers": [],
        "timings_per_token": True,
    }
    base: dict[str, Any] = {"model": "m", "messages": HI}
    openai_chat.decode_request(json.dumps(base | llama_cpp).encode())
    for name, value in (("dry_multiplier", 0.8), ("mirostat", 1), ("repeat_penalty", 1.1)):
        with pytest.raises(Refusal) as caught:
            openai_chat.decode_request(json.dumps(base | llama_cpp | {name: value}).encode())
        assert caught.value.field in (name, "repeat_last_n")


def test_what_is_refused_is_named_before_a_field_that_is_missing() -> None:
    with pytest.raises(Refusal) as caught:
        openai_embeddings.decode_request(json.dumps({"model": "m", "messages": HI}).encode())
    assert (caught.value.code, caught.value.field) == ("unsupported", "messages")


def test_a_row_lets_null_and_its_neutral_values_through() -> None:
    row = Unbuilt("x", (7,), {"other": (0,)}, like="n")
    for value, other, asks in (
        (None, None, False),
        (7, None, False),
        (0, None, True),
        (3, None, False),  # as n
        (4, 0, False),
        (4, 1, True),
    ):
        assert row.asks("x", {"x": value, "other": other, "n": 3}) is asks


def listed(table: Table, honoured: frozenset[str] = frozenset()) -> list[str]:
    """Return the rows of the README's table: what is not built, and the fields that ask for it."""
    fields: dict[str, list[str]] = {}
    for name, row in table.items():
        if name not in honoured:
            fields.setdefault(row.what, []).append(f"`{name}`")
    return [f"| {what} | {' '.join(names)} |" for what, names in fields.items()]


@pytest.mark.parametrize("at", ENDPOINTS)
def test_the_readme_has_the_lists(at: str) -> None:
    text = HTTP.read_text()
    _, decoder, table, *_ = ENDPOINTS[at]
    own = {n: r for n, r in table.items() if GENERATION.get(n) != r or table is GENERATION}
    for row in listed(own, decoder.honoured if table is not GENERATION else frozenset()):
        assert row in text, row
    shared = text[text.index("Chat, completions and messages take") :].partition("\n\n")[0]
    assert set(re.findall(r"`([^`]+)`", shared)) >= {f.name for f in struct_fields(SamplingFields)}
