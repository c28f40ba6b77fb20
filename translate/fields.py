"""The fields that requests may have: which this version refuses by name, and which it ignores.

A part of a field is written with a point.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Raw, Struct

from ..engine.request import Refusal
from .decode import decode, parse, unsupported

Body = TypeVar("Body", bound=Struct)

NOTHING: tuple[Any, ...] = (False, "", [], {})  # 0 too, which equals False


@dataclass(frozen=True, slots=True)
class Unbuilt:
    """What a field asks for, and the values that ask for nothing, as null always does.

    It also asks for nothing where it equals the field `like`, and where a field that it only adds
    to has one of the values in `beside`.
    """

    what: str
    neutral: tuple[Any, ...] = NOTHING
    beside: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    like: str = ""

    def asks(self, name: str, sent: Mapping[str, Any]) -> bool:
        """Return whether a request that sent these fields asks for it."""
        value = sent[name.partition(".")[0]]
        if "." in name:
            value = value.get(name.partition(".")[2]) if isinstance(value, dict) else None
        if value is None or value in self.neutral or (self.like and value == sent[self.like]):
            return False
        return not any(sent[other] in values for other, values in self.beside.items())


Table = Mapping[str, Unbuilt]


def _rows(
    what: str,
    names: str,
    neutral: tuple[Any, ...] = NOTHING,
    beside: Mapping[str, tuple[Any, ...]] | None = None,
) -> Table:
    return {name: Unbuilt(what, neutral, beside or {}) for name in names.split()}


_NO_PENALTY = {"repetition_penalty": (1,), "repeat_penalty": (1,)}
_BREAKERS = (*NOTHING, ["\n", ":", '"', "*"])  # llama.cpp's own
_FLOAT = (*NOTHING, "float", ["float"])

# Of all endpoints that generate, where they do not honour it.
GENERATION: Table = {
    **_rows(
        "structured output of this kind",
        "guided_whitespace_pattern structural_tag structured_outputs.structural_tag "
        "structured_outputs.whitespace_pattern "
        "structured_outputs.disable_any_whitespace "
        "structured_outputs.disable_additional_properties",
    ),
    **_rows("output other than text", "modalities", (*NOTHING, ["text"])),
    **_rows("audio output", "audio"),
    **_rows("templates sent with a request", "chat_template"),
    **_rows("filling in before a suffix", "suffix"),
    "best_of": Unbuilt("choosing the best of several answers", (*NOTHING, 1), like="n"),
    **_rows("beam search", "use_beam_search early_stopping diversity_penalty"),
    **_rows("beam search", "num_beams length_penalty", (0, 1)),
    **_rows("typical sampling", "typical_p typical typ_p", (1,)),
    **_rows("tail-free sampling", "tfs_z tfs", (1,)),
    **_rows("top-a sampling", "top_a"),
    **_rows("top-n-sigma sampling", "top_n_sigma nsigma", (0, -1)),
    **_rows("epsilon and eta cutoffs", "epsilon_cutoff eta_cutoff"),
    **_rows("XTC sampling", "xtc_probability"),
    **_rows("XTC sampling", "xtc_threshold", (0, 0.1), {"xtc_probability": (0,)}),
    **_rows("DRY sampling", "dry_multiplier"),
    **_rows("DRY sampling", "dry_base", (1.75,), {"dry_multiplier": (0,)}),
    **_rows("DRY sampling", "dry_allowed_length", (2,), {"dry_multiplier": (0,)}),
    **_rows("DRY sampling", "dry_penalty_last_n dry_range", (0, -1), {"dry_multiplier": (0,)}),
    **_rows("DRY sampling", "dry_sequence_breakers", _BREAKERS, {"dry_multiplier": (0,)}),
    **_rows("Mirostat sampling", "mirostat mirostat_mode"),
    **_rows("Mirostat sampling", "mirostat_tau", (5,), {"mirostat": (0,), "mirostat_mode": (0,)}),
    **_rows("Mirostat sampling", "mirostat_eta", (0.1,), {"mirostat": (0,), "mirostat_mode": (0,)}),
    **_rows("dynamic temperatures", "dynatemp_range dynamic_temperature"),
    **_rows("dynamic temperatures", "dynatemp_exponent", (1,), {"dynatemp_range": (0,)}),
    **_rows("smoothed sampling", "smoothing_factor"),
    **_rows("another order of samplers", "samplers sampler_priority"),
    **_rows("penalties of another kind", "no_repeat_ngram_size"),
    **_rows("penalties of another kind", "encoder_repetition_penalty", (0, 1)),
    **_rows(
        "penalties over the newest tokens alone",
        "repetition_context_size repeat_last_n",
        (-1,),
        _NO_PENALTY,
    ),
    **_rows(
        "penalties over the newest tokens alone",
        "presence_context_size presence_penalty_context_size",
        (-1,),
        {"presence_penalty": (0,)},
    ),
    **_rows(
        "penalties over the newest tokens alone",
        "frequency_context_size frequency_penalty_context_size",
        (-1,),
        {"frequency_penalty": (0,)},
    ),
    **_rows("guidance", "guidance_scale cfg_scale", (0, 1)),
    **_rows("guidance", "negative_prompt"),
    **_rows("logits processors", "logits_processors custom_logit_processor vllm_xargs"),
    **_rows("stop expressions", "stop_regex"),
    **_rows("adapters", "adapters adapter lora lora_path lora_request"),
    **_rows("speculative decoding", "draft_model num_draft_tokens speculation"),
    **_rows("web search", "web_search_options", ()),
    **_rows("time limits of a request", "timeout"),
    **_rows("time limits of a request", "t_max_predict_ms", (0, -1)),
    **_rows("priorities", "priority"),
    **_rows("prompts that are not cached", "cache_prompt", (True,)),
    **_rows("cutting of prompts", "truncate_prompt_tokens truncation_length"),
    **_rows("special tokens around a prompt as asked", "add_special_tokens", (False,)),
    **_rows("control tokens in a conversation's texts", "parse_special"),
    **_rows("the echo of a prompt here", "echo"),
    **_rows("logprobs of chosen ids", "logprob_token_ids n_probs"),
    **_rows("probabilities after the samplers", "post_sampling_probs"),
    **_rows("a least number of candidates", "min_keep"),
    **_rows("token ids in an answer", "return_token_ids return_tokens_as_token_ids return_tokens"),
    **_rows("an answer of chosen fields", "response_fields"),
    **_rows("hidden states", "return_hidden_states"),
    **_rows("prompts as embeddings", "prompt_embeds"),
    **_rows("image input", "images image_data mm_processor_kwargs media_io_kwargs"),
    **_rows("moderation", "moderation"),
}
_TEMPLATES: Table = {
    **_rows(
        "chat templates at this endpoint",
        "chat_template_kwargs enable_thinking documents continue_final_message",
    ),
    **_rows("chat templates at this endpoint", "add_generation_prompt", (True,)),
    **_rows("reasoning of this form at this endpoint", "thinking reasoning reasoning_effort"),
    **_rows(
        "reasoning of this form at this endpoint",
        "thinking_budget thinking_token_budget reasoning_budget_tokens reasoning_budget",
        (-1,),
    ),
    **_rows(
        "reasoning of this form at this endpoint", "include_reasoning separate_reasoning", (True,)
    ),
    **_rows(
        "reasoning of this form at this endpoint",
        "reasoning_format",
        ("auto", "deepseek", "parsed"),
    ),
}
_CALLS: Table = {
    **_rows("tool calls at this endpoint", "tools functions"),
    **_rows("tool calls at this endpoint", "tool_choice function_call", (*NOTHING, "none", "auto")),
}
COMPLETIONS: Table = {
    **GENERATION,
    **_CALLS,
    **_rows("special tokens around a prompt as asked", "add_special_tokens", (True,)),
    **_TEMPLATES,
}
_FORMATS: Table = {
    **_rows("streams of another form at this endpoint", "stream_format", (*NOTHING, "sse")),
    **_rows("streams of another form at this endpoint", "stream_chunk_size", (1,)),
}
_USAGE: tuple[Any, ...] = (*NOTHING, {"include_usage": True}, {"include_usage": False})
MESSAGES: Table = {
    **GENERATION,
    **_TEMPLATES,
    **_FORMATS,
    **_rows("chat templates at this endpoint", "enable_thinking", ()),  # `thinking` says that
    **_rows("usage in every piece of a stream at this endpoint", "stream_options", _USAGE),
    **_rows("tool calls of this form at this endpoint", "functions"),
    **_rows(
        "tool calls of this form at this endpoint", "function_call", (*NOTHING, "none", "auto")
    ),
    **_rows("progress and timings at this endpoint", "return_progress timings_per_token"),
    **_rows("MCP servers", "mcp_servers"),
    **_rows("containers", "container"),
    **_rows("conversations that the server holds", "thread"),
    **_rows("compaction by the server", "compaction"),
    **_rows("several answers to one request", "n", (1,)),
    **_rows("logprobs at this endpoint", "logprobs top_logprobs"),
    **_rows("logprobs at this endpoint", "prompt_logprobs", ()),
}
OLLAMA: Table = {
    **_rows("templates sent with a request", "template"),
    **_rows("image input", "images"),
    **_rows("image output", "width height steps"),
    **_rows("prompts that are only shown", "_debug_render_only"),
}
OLLAMA_OPTIONS: Table = {
    **GENERATION,
    **_rows("penalties without newlines", "penalize_newline", (True,)),
}
OLLAMA_EMBEDDINGS: Table = {**_rows("image input", "images")}
RESPONSES: Table = {
    **GENERATION,
    **_TEMPLATES,
    **_FORMATS,
    **_rows("tool calls of this form at this endpoint", "functions"),
    **_rows(
        "tool calls of this form at this endpoint", "function_call", (*NOTHING, "none", "auto")
    ),
    **_rows(
        "usage in every piece of a stream at this endpoint", "stream_options.continuous_usage_stats"
    ),
    **_rows("conversations of this form at this endpoint", "messages conversation"),
    **_rows("several answers to one request", "n", (1,)),
    **_rows("logprobs of this form at this endpoint", "logprobs"),
    **_rows("logprobs of this form at this endpoint", "prompt_logprobs", ()),
    **_rows("prompts of OpenAI's own store", "prompt"),
    **_rows("progress and timings at this endpoint", "return_progress timings_per_token"),
}
EMBEDDINGS: Table = {
    **_rows("embeddings of conversations", "messages"),
    **_rows("prompts other than the model's own", "prompt instruction input_type task"),
    **_rows("vectors of another type", "embedding_type embedding_types output_dtype", _FLOAT),
    **_rows("vectors of another type", "embed_dtype", ("float32",)),
    **_rows("late chunking", "late_chunking"),
    **_rows("special tokens around a text as asked", "add_special_tokens", (True,)),
    **_rows("priorities", "priority"),
    **_rows("adapters", "adapters adapter lora"),
}
RERANK: Table = {
    **_rows("prompts other than the model's own", "prompt instruction input_type task"),
    **_rows("documents in several fields", "rank_fields"),
    **_rows("documents cut by their own length", "max_tokens_per_doc"),
    **_rows("scores of another kind", "activation use_activation raw_scores normalize"),
    **_rows("special tokens around a text as asked", "add_special_tokens", (True,)),
    **_rows("priorities", "priority"),
    **_rows("adapters", "adapters adapter lora"),
}

# What clients send and an answer is as good without, by endpoint.
_USUAL = "user metadata service_tier session_id request_id keep_alive ttl"
_OPTIONS = (
    "num_ctx num_batch num_gpu main_gpu num_thread num_keep use_mmap use_mlock numa low_vram "
    "f16_kv draft_num_predict vocab_only logits_all embedding_only"
)
GENERATION_IGNORED = tuple(
    f"""{_USUAL} store safety_identifier client_metadata verbosity prediction prompt_cache_key
    prompt_cache_retention prompt_cache_options n_keep id_slot spaces_between_special_tokens
    stream_options.include_obfuscation reasoning.summary guided_decoding_backend
    structured_outputs.disable_fallback""".split()
)
MESSAGES_IGNORED = (
    *GENERATION_IGNORED,
    *("context_management", "inference_geo", "speed", "diagnostics", "fallbacks"),
    *("fallback_credit_token", "billing_policy", "user_profile_id", "workspace_id"),
)
RESPONSES_IGNORED = (
    *(name for name in GENERATION_IGNORED if name != "reasoning.summary"),
    *("max_tool_calls", "text.verbosity", "reasoning.mode", "reasoning.context"),
    *("access_programs", "image", "context_management"),
)
OLLAMA_EMBEDDINGS_IGNORED = tuple(f"options.{name}" for name in _OPTIONS.split())
OLLAMA_IGNORED = ("shift", *OLLAMA_EMBEDDINGS_IGNORED)
EMBEDDINGS_IGNORED = tuple(_USUAL.split())
RERANK_IGNORED = (*EMBEDDINGS_IGNORED, "max_chunks_per_doc")
IGNORED = frozenset(
    (*MESSAGES_IGNORED, *RESPONSES_IGNORED, *OLLAMA_IGNORED, *EMBEDDINGS_IGNORED, *RERANK_IGNORED)
)


class RequestDecoder(Generic[Body]):
    """A decoder of an endpoint's requests: it honours the struct's fields and refuses a table's.

    What neither has is ignored: what is known of (`ignored`), and what no API has. One that is not
    `strict` takes whole numbers as 128.0 too.
    """

    def __init__(
        self,
        request: type[Body],
        table: Table,
        ignored: Collection[str] = (),
        strict: bool = True,
    ) -> None:
        self.type = request
        self.honoured = frozenset(each.encode_name for each in msgspec.structs.fields(request))
        self.unbuilt = {name: row for name, row in table.items() if name not in self.honoured}
        self.ignored = tuple(name for name in ignored if name not in {*self.honoured, *table})
        names = {name.partition(".")[0] for name in self.unbuilt}
        names |= {name for row in self.unbuilt.values() for name in (*row.beside, row.like) if name}
        fields = [(name, Any, None) for name in names]
        self._unbuilt = msgspec.json.Decoder(msgspec.defstruct("UnbuiltFields", fields))
        self._request = msgspec.json.Decoder(request, strict=strict)

    def decode(self, body: bytes) -> Body:
        """Return the request. Raises Refusal, first of all for what is not built."""
        sent = msgspec.structs.asdict(decode(body, self._unbuilt))
        for name, row in self.unbuilt.items():
            if row.asks(name, sent):
                raise unsupported(name, row.what)
        return parse(body, self._request)

    def decode_part(self, raw: Raw, place: str) -> Body:
        """Return the object at a place of a request, whose fields a Refusal names as a part."""
        try:
            return self.decode(bytes(raw))
        except Refusal as refusal:
            field = refusal.field or "The request's body"
            name = f"{place}.{refusal.field}" if refusal.field else place
            message = name.join(refusal.message.rsplit(field, 1))
            raise replace(refusal, message=message, field=name) from None
