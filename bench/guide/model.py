"""The built-in model as PyTorch functions on a table of weights, its chat format and its files.

PyTorch is a tool of the training and the evaluation only, never a dependency of Bessemer, so it is
imported when asked for. Tested with torch 2.13.0 (CPU).
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from tokenizers import Tokenizer

GUIDE = Path(__file__).parents[2] / "engine" / "guide"
GROUP_SIZE, BITS = 64, 8
# Tensors and torch itself have no types here: the type checkers run where torch is not installed.
TorchTensor = Any
TorchWeights = dict[str, Any]

TOOLS_BEGIN = (
    "# Tools\n\nYou may call one or more functions."
    " Their signatures are within <tools></tools>:\n<tools>\n"
)
TOOLS_END = (
    "</tools>\n\nTo call one, answer with:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)
CHAT_TEMPLATE = r"""
{%- set system = messages[0].content if messages and messages[0].role == 'system' else '' %}
{%- if tools %}
  {{- '<|im_start|>system\n' + (system + '\n\n' if system else '') }}
  {{- TOOLS_BEGIN }}
  {%- for tool in tools %}{{- (tool | tojson) + '\n' }}{%- endfor %}
  {{- TOOLS_END + '<|im_end|>\n' }}
{%- elif system %}
  {{- '<|im_start|>system\n' + system + '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
  {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
    {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
  {%- elif message.role == 'tool' %}
    {{- '<|im_start|>user\n<tool_response>\n' + message.content }}
    {{- '\n</tool_response><|im_end|>\n' }}
  {%- elif message.role == 'assistant' %}
    {{- '<|im_start|>assistant\n' + (message.content or '') }}
    {%- for call in message.tool_calls or [] %}
      {%- set function = call.function or call %}
      {%- set given = function.arguments %}
      {%- if message.content or not loop.first %}{{- '\n' }}{%- endif %}
      {{- '<tool_call>\n{"name": "' + function.name + '", "arguments": ' }}
      {{- (given if given is string else given | tojson) + '}\n</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\n' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<|im_start|>assistant\n' }}
{%- endif %}""".strip()
CHAT_TEMPLATE = CHAT_TEMPLATE.replace("TOOLS_BEGIN", json.dumps(TOOLS_BEGIN))
CHAT_TEMPLATE = CHAT_TEMPLATE.replace("TOOLS_END", json.dumps(TOOLS_END))


def require_torch() -> Any:
    """Return the torch module, or exit with how to get it."""
    try:
        return importlib.import_module("torch")
    except ImportError:
        index = "https://download.pytorch.org/whl/cpu"
        sys.exit(f"This needs PyTorch: .venv/bin/pip install torch --index-url {index}")


def render(messages: list[dict[str, str]], tools: list[dict[str, Any]]) -> list[tuple[str, bool]]:
    """Return the conversation as pieces of text, each with whether the model has to learn it."""
    pieces: list[tuple[str, bool]] = []
    system = messages[0]["content"] if messages[0]["role"] == "system" else ""
    if tools:
        lines = "".join(json.dumps(tool, ensure_ascii=False) + "\n" for tool in tools)
        system = (system + "\n\n" if system else "") + TOOLS_BEGIN + lines + TOOLS_END
    if system:
        pieces.append((f"<|im_start|>system\n{system}<|im_end|>\n", False))
    for message in messages:
        content = message["content"]
        if message["role"] == "user":
            pieces.append((f"<|im_start|>user\n{content}<|im_end|>\n", False))
        elif message["role"] == "tool":
            content = f"<tool_response>\n{content}\n</tool_response>"
            pieces.append((f"<|im_start|>user\n{content}<|im_end|>\n", False))
        elif message["role"] == "assistant":
            pieces.append(("<|im_start|>assistant\n", False))
            pieces.append((f"{content}<|im_end|>", True))
            pieces.append(("\n", False))
    return pieces


def new_weights(torch: Any, config: dict[str, Any]) -> TorchWeights:
    """Fresh weights, named as in the saved file."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], hidden)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        shapes[prefix + "self_attn.q_proj.weight"] = (queries, hidden)
        shapes[prefix + "self_attn.k_proj.weight"] = (keys, hidden)
        shapes[prefix + "self_attn.v_proj.weight"] = (keys, hidden)
        shapes[prefix + "self_attn.o_proj.weight"] = (hidden, queries)
        shapes[prefix + "mlp.gate_proj.weight"] = (inner, hidden)
        shapes[prefix + "mlp.up_proj.weight"] = (inner, hidden)
        shapes[prefix + "mlp.down_proj.weight"] = (hidden, inner)
    weights = {name: torch.randn(shape) * 0.03 for name, shape in shapes.items()}
    for layer in range(config["num_hidden_layers"]):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            weights[f"model.layers.{layer}.{norm}.weight"] = torch.ones(hidden)
    weights["model.norm.weight"] = torch.ones(hidden)
    return weights


def _rotate(torch: Any, x: TorchTensor, base: float) -> TorchTensor:
    """Rotate [batch, heads, length, head_dim] by its positions, its halves paired."""
    half = x.shape[-1] // 2
    frequencies = base ** (-torch.arange(half, dtype=torch.float32) / half)
    angles = torch.arange(x.shape[2], dtype=torch.float32)[:, None] * frequencies
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def _attend(
    torch: Any, weights: TorchWeights, prefix: str, config: dict[str, Any], x: TorchTensor
) -> TorchTensor:
    functional = torch.nn.functional
    batch, length, _ = x.shape
    heads, shared = config["num_attention_heads"], config["num_key_value_heads"]

    def project(name: str, count: int) -> TorchTensor:
        y = functional.linear(x, weights[f"{prefix}self_attn.{name}_proj.weight"])
        return y.view(batch, length, count, config["head_dim"]).transpose(1, 2)

    q = _rotate(torch, project("q", heads), config["rope_theta"])
    k = _rotate(torch, project("k", shared), config["rope_theta"])
    k = k.repeat_interleave(heads // shared, dim=1)
    v = project("v", shared).repeat_interleave(heads // shared, dim=1)
    mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    mixed = mixed.transpose(1, 2).reshape(batch, length, -1)
    return functional.linear(mixed, weights[f"{prefix}self_attn.o_proj.weight"])


def _feed(torch: Any, weights: TorchWeights, prefix: str, x: TorchTensor) -> TorchTensor:
    functional = torch.nn.functional
    gate = functional.linear(x, weights[f"{prefix}mlp.gate_proj.weight"])
    up = functional.linear(x, weights[f"{prefix}mlp.up_proj.weight"])
    return functional.linear(functional.silu(gate) * up, weights[f"{prefix}mlp.down_proj.weight"])


def hidden_states(
    torch: Any,
    weights: TorchWeights,
    config: dict[str, Any],
    ids: TorchTensor,
    dropout: float = 0.0,
) -> TorchTensor:
    """Return the last layer's normalised output for each position of [batch, length] ids."""
    functional = torch.nn.functional
    eps, size = config["rms_norm_eps"], (config["hidden_size"],)

    def norm(x: TorchTensor, name: str) -> TorchTensor:
        return functional.rms_norm(x.float(), size, weights[name + ".weight"], eps)

    def drop(x: TorchTensor) -> TorchTensor:
        return functional.dropout(x, dropout) if dropout else x

    x = drop(functional.embedding(ids, weights["model.embed_tokens.weight"]))
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        attended = _attend(torch, weights, prefix, config, norm(x, prefix + "input_layernorm"))
        x = x + drop(attended)
        fed = _feed(torch, weights, prefix, norm(x, prefix + "post_attention_layernorm"))
        x = x + drop(fed)
    return norm(x, "model.norm")


def logits(torch: Any, weights: TorchWeights, states: TorchTensor) -> TorchTensor:
    """Return scores over the vocabulary, through the tied embeddings."""
    return torch.nn.functional.linear(states, weights["model.embed_tokens.weight"])


def save_weights(weights: TorchWeights, folder: Path) -> None:
    """Write model.safetensors as mlx_lm lays it out: matrices quantized, norms in float16."""
    arrays: dict[str, mx.array] = {}
    for name, tensor in weights.items():
        array = mx.array(tensor.detach().float().numpy()).astype(mx.float16)
        if array.ndim == 1:
            arrays[name] = array
            continue
        stem = name.removesuffix(".weight")
        packed, scales, biases = mx.quantize(array, group_size=GROUP_SIZE, bits=BITS)
        arrays |= {name: packed, stem + ".scales": scales, stem + ".biases": biases}
    mx.save_safetensors(str(folder / "model.safetensors"), arrays, metadata={"format": "mlx"})


def load_weights(torch: Any, folder: Path) -> TorchWeights:
    """Read model.safetensors back as float32 tensors, dequantized."""
    arrays = mx.load(str(folder / "model.safetensors"))
    assert isinstance(arrays, dict)
    weights: TorchWeights = {}
    for name, array in arrays.items():
        stem = name.removesuffix(".weight")
        if not name.endswith(".weight"):
            continue
        if stem + ".scales" in arrays:
            scales, biases = arrays[stem + ".scales"], arrays[stem + ".biases"]
            array = mx.dequantize(array, scales, biases, group_size=GROUP_SIZE, bits=BITS)
        weights[name] = torch.from_numpy(np.array(array.astype(mx.float32)))
    return weights


class TorchGuide:
    """Answers one question greedily from the saved files."""

    def __init__(self, folder: Path = GUIDE) -> None:
        self.torch = require_torch()
        self.config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.weights = load_weights(self.torch, folder)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.end = self.config["eos_token_id"]

    def __call__(self, question: str, max_tokens: int = 160) -> str:
        text = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        begin = len(ids)
        with self.torch.inference_mode():
            while len(ids) < begin + max_tokens:
                row = self.torch.tensor([ids])
                states = hidden_states(self.torch, self.weights, self.config, row)
                token = int(logits(self.torch, self.weights, states[0, -1]).argmax())
                if token == self.end:
                    break
                ids.append(token)
        return str(self.tokenizer.decode(ids[begin:], skip_special_tokens=False))
