"""Fields of a config.json that may be there unread, since they leave what is computed as it is."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

# Fields without effect on a forward pass: bookkeeping, training, generation, layouts of machines.
_HARMLESS = """
_commit_hash _from_model_config _name_or_path _num_labels add_bos_token add_cross_attention
add_eos_token architectures auto_map bad_words_ids base_model_name_or_path begin_suppress_tokens
bos_token cache_implementation chat_template chunk_size_feed_forward cls_token
cross_attention_hidden_size diversity_penalty do_sample dtype early_stopping
encoder_no_repeat_ngram_size encoder_repetition_penalty eos_token ep_size epsilon_cutoff eta_cutoff
exponential_decay_length_penalty ffn_dim_multiplier finetuned finetuning_task force_words_ids
frequency_penalty guidance_scale id2label input_jitter_noise is_decoder is_encoder_decoder
is_llama_config keys_to_ignore_at_inference label2id language length_penalty library_name license
mask_token max_length max_new_tokens max_seq_len max_seq_length max_sequence_length max_time
max_window_layers min_length min_new_tokens min_p mm_tokens_per_image model_max_length model_type
mtp_num_hidden_layers multiple_of n_ctx name_or_path no_repeat_ngram_size num_beam_groups num_beams
num_key_value_groups num_labels num_logits_to_keep num_mtp_layers num_mtp_modules
num_nextn_predict_layers num_return_sequences output_attentions output_hidden_states
output_router_logits output_scores pad_token penalty_alpha pipeline_tag pooling_mode pp_size prefix
presence_penalty pretraining_tp problem_type pruned_heads quantization quantization_config
remove_invalid_values renormalize_logits repetition_penalty return_dict return_dict_in_generate
router_jitter_noise sep_token seq_aux seq_length sequence_bias stop_strings suppress_tokens tags
task_specific_params temperature tensor_parallel_size tie_encoder_decoder top_h top_k top_p
torch_dtype torchscript tp_size transformers.js_config typical_p unk_token use_bfloat16 use_cache
use_mamba_kernels use_return_dict vision_feature_layer
"""
HARMLESS = frozenset(_HARMLESS.split())
# The same by what is in their names.
PATTERN = re.compile(
    r".*(dropout|pdrop|layerdrop|drop_path|loss|flash_attn|flash_attention).*"
    r"|.*(gradient_checkpointing|attn_implementation).*"
    r"|.*_token(_id|_ids|_index|_type_id)|.*_version|.*_dtype|.*_in_fp32"
    r"|(initializer|summary|tokenizer|training|unsloth)_.*"
    r"|init_(method|range|std)|.*_init_(method|range|scheme|std)"
)
# What multiplies by 1 or divides by it, or is one group, or every layer.
_ONES = """
attention_in_multiplier attention_out_multiplier attn_factor decoder_sparse_step emb_scale
embedding_multiplier embedding_scale extrapolation_factor interpolate_factor key_multiplier
lm_head_multiplier logit_scale logits_scale logits_scaling long_mscale mlp_multipliers
moe_layer_freq n_group no_rope_layers num_expert_group output_multiplier output_scale
partial_rotary_factor residual_multiplier residual_scale residual_scaling rope_factor rope_ratio
rope_scaling_factor rotary_emb_fraction rotary_pct rotary_percentage routed_scaling_factor
router_scaling_factor scale_emb short_mscale ssm_in_multiplier ssm_multipliers ssm_out_multiplier
topk_group
"""
_WINDOWS = "attention_chunk_size attention_window sliding_window sliding_window_size window_size"
# The values with which a field changes nothing; of a list each has to be one of them.
NEUTRAL: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        **dict.fromkeys(_ONES.split(), (1,)),
        **dict.fromkeys(_WINDOWS.split(), (-1,)),
        "layer_types": ("full_attention",),
        "rope_type": ("default",),
        "scale_attn_weights": (True,),
    }
)


def is_neutral(name: str, value: Any) -> bool:
    """Return whether a field that nobody read may be there: it is off, or changes nothing."""
    if value is None or value is False or value in ("", 0) or value in ([], {}):
        return True
    if name in HARMLESS or PATTERN.fullmatch(name):
        return True
    values = value if isinstance(value, list) else [value]
    return all(_same(each, NEUTRAL.get(name, ())) for each in values)


def _same(value: Any, neutral: tuple[Any, ...]) -> bool:
    """Return whether a value is one of these; true is not 1."""
    return any(isinstance(value, bool) == isinstance(n, bool) and value == n for n in neutral)
