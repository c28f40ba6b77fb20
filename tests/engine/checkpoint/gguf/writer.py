"""Writes GGUF files for tests, by the specification alone."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ALIGNMENT = 32


@dataclass(frozen=True)
class Uint32:
    value: int


@dataclass(frozen=True)
class Raw:
    """A tensor: its dimensions as files have them, the number of its type, its bytes."""

    dimensions: tuple[int, ...]
    type: int
    data: bytes


def string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(thing: Any) -> bytes:
    """A value after the number of its type."""
    match thing:
        case bool():
            return struct.pack("<I?", 7, thing)
        case int():
            return struct.pack("<Iq", 11, thing)
        case Uint32():
            return struct.pack("<II", 4, thing.value)
        case float():
            return struct.pack("<If", 6, thing)
        case str():
            return struct.pack("<I", 8) + string(thing)
    items = [value(each) for each in thing]
    kind = items[0][:4] if items else struct.pack("<I", 8)
    return (
        struct.pack("<I", 9) + kind + struct.pack("<Q", len(items)) + b"".join(i[4:] for i in items)
    )


def content(
    metadata: Mapping[str, Any], tensors: Mapping[str, Raw] | None = None, version: int = 3
) -> bytes:
    tensors = tensors or {}
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    for name, thing in metadata.items():
        out += string(name) + value(thing)
    data = b""
    for name, raw in tensors.items():
        out += string(name) + struct.pack("<I", len(raw.dimensions))
        out += b"".join(struct.pack("<Q", each) for each in raw.dimensions)
        out += struct.pack("<IQ", raw.type, len(data))
        data += raw.data + bytes(-len(raw.data) % ALIGNMENT)
    return out + bytes(-len(out) % ALIGNMENT) + data


def write(
    path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, Raw] | None = None
) -> Path:
    path.write_bytes(content(metadata, tensors))
    return path


def vocabulary(
    tokens: Sequence[str], kinds: Sequence[int], pre: str, merges: Sequence[str], **more: Any
) -> dict[str, Any]:
    """The metadata of a byte-level tokenizer."""
    return {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": list(tokens),
        "tokenizer.ggml.token_type": [*kinds],
        "tokenizer.ggml.merges": list(merges),
        **{f"tokenizer.{name.replace('__', '.')}": thing for name, thing in more.items()},
    }
