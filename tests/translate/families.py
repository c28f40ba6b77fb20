"""Families of models: the control tokens that each one's tokenizer has beside its template.

A family is a row: the kind of its tokenizer (stand_ins.py), its special tokens and its other added
ones, the names of some.
"""

# ruff: noqa: RUF001 - tokens and texts hold such letters

from dataclasses import dataclass, field
from pathlib import Path

TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True, slots=True)
class Family:
    kind: str
    special: str
    plain: str = ""  # added tokens that are not special
    names: dict[str, str] = field(default_factory=dict)  # bos_token and the like
    rstrip: bool = False  # control tokens take in the spaces after them
    normalized: bool = False  # added tokens are sought in normalized text


def ends(bos: str | None, eos: str, **more: str) -> dict[str, str]:
    return ({"bos_token": bos} if bos else {}) | {"eos_token": eos} | more


CHATML = "<|endoftext|> <|im_start|> <|im_end|>"
QWEN = (
    f"{CHATML} <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|> <|quad_start|> "
    "<|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|>"
)
QWEN_2 = (
    "<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> "
    "<|repo_name|> <|file_sep|>"
)
QWEN_3 = f"{QWEN_2} <tool_response> </tool_response> <think> </think>"
QWEN_ENDS = ends(None, "<|im_end|>", pad_token="<|endoftext|>")
LLAMA = (
    "<|begin_of_text|> <|end_of_text|> <|finetune_right_pad_id|> <|start_header_id|> "
    "<|end_header_id|> <|eom_id|> <|eot_id|> <|python_tag|>"
)
LLAMA_ENDS = ends("<|begin_of_text|>", "<|eot_id|>")
DEEPSEEK = "<｜begin▁of▁sentence｜> <｜end▁of▁sentence｜> <｜▁pad▁｜> <|EOT|>"
DEEPSEEK_PLAIN = (
    "<｜fim▁hole｜> <｜fim▁begin｜> <｜fim▁end｜> <｜User｜> <｜Assistant｜> "
    "<｜tool▁calls▁begin｜> <｜tool▁calls▁end｜> <｜tool▁call▁begin｜> <｜tool▁call▁end｜> "
    "<｜tool▁outputs▁begin｜> "
    "<｜tool▁outputs▁end｜> <｜tool▁output▁begin｜> <｜tool▁output▁end｜> <｜tool▁sep｜>"
)
DEEPSEEK_ENDS = ends("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>")
GEMMA = "<pad> <eos> <bos> <unk> <start_of_turn> <end_of_turn> <start_of_image> <end_of_image>"
MISTRAL = (
    "<unk> <s> </s> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] "
    "[/TOOL_RESULTS] [TOOL_CALLS] [IMG] <pad> [IMG_BREAK] [IMG_END] [PREFIX] [MIDDLE] [SUFFIX] "
    "[SYSTEM_PROMPT] [/SYSTEM_PROMPT] [TOOL_CONTENT]"
)
GLM = (
    "<|endoftext|> [MASK] [gMASK] [sMASK] <sop> <eop> <|system|> <|user|> <|assistant|> "
    "<|observation|> <|begin_of_image|> <|end_of_image|> <|begin_of_video|> <|end_of_video|>"
)
GLM_PLAIN = (
    "/nothink <think> </think> <tool_call> </tool_call> <tool_response> </tool_response> "
    "<arg_key> </arg_key> <arg_value> </arg_value>"
)
GRANITE = "<|end_of_text|> <fim_prefix> <fim_middle> <fim_suffix> <|start_of_role|> <|end_of_role|>"
PHI = (
    "<|endoftext|> <|assistant|> <|placeholder1|> <|placeholder2|> <|placeholder3|> <|system|> "
    "<|end|> <|user|>"
)

FAMILIES = {
    "apertus": Family(
        "tekken",
        "<unk> <s> </s> <pad> <|system_start|> <|system_end|> <|developer_start|> "
        "<|developer_end|> <|user_start|> <|user_end|> <|assistant_start|> <|assistant_end|> "
        "<|inner_prefix|> <|inner_suffix|> <|tools_prefix|> <|tools_suffix|>",
        names=ends("<s>", "<|assistant_end|>"),
    ),
    "deepseek_r1_distill": Family(
        "llama3",
        DEEPSEEK,
        f"{DEEPSEEK_PLAIN} <think> </think>",
        DEEPSEEK_ENDS,
    ),
    "deepseek_v3": Family("deepseek", DEEPSEEK, DEEPSEEK_PLAIN, DEEPSEEK_ENDS, normalized=True),
    "deepseek_v3_1": Family(
        "deepseek", DEEPSEEK, f"{DEEPSEEK_PLAIN} <think> </think>", DEEPSEEK_ENDS, normalized=True
    ),
    "gemma": Family("gemma", GEMMA, names=ends("<bos>", "<eos>")),
    "gemma3": Family("gemma", GEMMA, names=ends("<bos>", "<end_of_turn>")),
    "gemma4": Family(
        "gemma",
        "<pad> <eos> <bos> <unk> <|turn> <turn|> <|channel> <channel|> <|think|> <|tool> <tool|> "
        '<|tool_call> <tool_call|> <|tool_response> <tool_response|> <|"|> <|image|> <|audio|> '
        "<|video|>",
        names=ends("<bos>", "<turn|>"),
    ),
    "glm4_5": Family("llama3", GLM, GLM_PLAIN, ends(None, "<|endoftext|>")),
    "glm4_6": Family("llama3", GLM, GLM_PLAIN, ends(None, "<|endoftext|>")),
    "gpt_oss": Family(
        "o200k",
        "<|startoftext|> <|endoftext|> <|return|> <|constrain|> <|channel|> <|start|> <|end|> "
        "<|message|> <|call|> <|endofprompt|>",
        names=ends("<|startoftext|>", "<|return|>"),
    ),
    "granite3_3": Family(
        "gpt2",
        f"{GRANITE} <|tool_call|> <|start_of_cite|> <|end_of_cite|> <|start_of_plugin|>",
        names=ends("<|end_of_text|>", "<|end_of_text|>"),
    ),
    "granite4": Family(
        "llama3",
        GRANITE,
        "<think> </think> <tool_call> </tool_call> <tool_response> </tool_response>",
        ends("<|end_of_text|>", "<|end_of_text|>"),
    ),
    "idefics3": Family(
        "llama3",
        f"{LLAMA} <fake_token_around_image> <image> <end_of_utterance>",
        names=LLAMA_ENDS,
    ),
    "kimi_k2": Family(
        "llama3",
        "[BOS] [EOS] <|im_end|> <|im_user|> <|im_assistant|> <|start_header_id|> "
        "<|end_header_id|> [EOT] <|im_system|> <|im_middle|> <|media_start|> <|media_content|> "
        "<|media_end|> <|media_pad|>",
        "<|tool_calls_section_begin|> <|tool_calls_section_end|> <|tool_call_begin|> "
        "<|tool_call_argument_begin|> <|tool_call_end|>",
        ends("[BOS]", "[EOS]"),
    ),
    "lfm2": Family(
        "llama3",
        f"<|pad|> <|startoftext|> {CHATML} <|tool_list_start|> <|tool_list_end|> "
        "<|tool_call_start|> <|tool_call_end|> <|tool_response_start|> <|tool_response_end|>",
        names=ends("<|startoftext|>", "<|im_end|>"),
    ),
    "ling_3": Family(
        "deepseek",
        "<|startoftext|> <|endoftext|> [CLS] [gMASK] <|role_end|>",
        "<role> </role> <think> </think> <tool_call> </tool_call> <arg_key> </arg_key> "
        "<arg_value> </arg_value>",
        ends("<|startoftext|>", "<|role_end|>"),
    ),
    "llama2": Family("prepend", "<unk> <s> </s>", names=ends("<s>", "</s>")),
    "llama3": Family("llama3", LLAMA, names=LLAMA_ENDS),
    "llama3_1": Family("llama3", LLAMA, names=LLAMA_ENDS),
    "llama3_2": Family("llama3", LLAMA, names=LLAMA_ENDS),
    "llava_next": Family("prepend", "<unk> <s> </s> <image> <pad>", names=ends("<s>", "</s>")),
    "minimax_m2": Family(
        "llama3",
        "]~!b[ ]~b] [e~[ ]!p~[ <fim_prefix> <fim_middle> <fim_suffix>",
        "<minimax:tool_call> </minimax:tool_call> <think> </think>",
        ends("]~!b[", "[e~["),
    ),
    "ministral_3": Family(
        "tekken",
        f"{MISTRAL} [ARGS] [CALL_ID] [THINK] [/THINK]",
        names=ends("<s>", "</s>"),
    ),
    "mistral_nemo": Family("tekken", MISTRAL, names=ends("<s>", "</s>")),
    "mistral_small_3_2": Family("tekken", f"{MISTRAL} [ARGS] [CALL_ID]", names=ends("<s>", "</s>")),
    "phi3": Family(
        "prepend", f"<unk> <s> {PHI}", "</s>", ends("<s>", "<|endoftext|>"), rstrip=True
    ),
    "phi3_5": Family(
        "prepend", f"<unk> <s> {PHI}", "</s>", ends("<s>", "<|endoftext|>"), rstrip=True
    ),
    "qwen2_5": Family("qwen", QWEN, QWEN_2, QWEN_ENDS),
    "qwen2_5_vl": Family("qwen", QWEN, QWEN_2, QWEN_ENDS),
    "qwen3": Family("qwen", QWEN, QWEN_3, QWEN_ENDS),
    "qwen3_5": Family("qwen", QWEN, QWEN_3, QWEN_ENDS),
    "qwen3_coder": Family("qwen", QWEN, QWEN_3, QWEN_ENDS),
    "qwen3_vl": Family("qwen", QWEN, QWEN_3, QWEN_ENDS),
    "seed_oss": Family(
        "llama3",
        "<seed:bos> <seed:pad> <seed:eos>",
        "<seed:think> </seed:think> <seed:cot_budget_reflect> </seed:cot_budget_reflect> "
        "<seed:tool_call> </seed:tool_call>",
        ends("<seed:bos>", "<seed:eos>", pad_token="<seed:pad>"),
    ),
    "smollm2": Family("gpt2", CHATML, names=ends("<|im_start|>", "<|im_end|>")),
    "smollm3": Family(
        "llama3",
        f"{LLAMA} <|im_start|> <|im_end|>",
        "<think> </think> <tool_call> </tool_call> <tool_response> </tool_response> <code> </code>",
        ends("<|im_start|>", "<|im_end|>"),
    ),
    "smolvlm": Family(
        "gpt2",
        f"{CHATML} <fake_token_around_image> <image> <end_of_utterance>",
        names=ends("<|im_start|>", "<end_of_utterance>"),
    ),
}
