"""Writes golden/tokenizers.json, run by hand with transformers 5.24.0 (Apache 2.0)."""

# pyright: reportMissingImports=false

import itertools
import json
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.engine.text.matrix_tokenizers import (
    BEGIN_END,
    CUT,
    GOLDEN,
    KINDS,
    LONG,
    PAIR,
    PLAIN,
    SWITCHES,
    TEXTS,
    files,
    write,
)

CLASSES = {
    "byte_level": (
        None,
        "PreTrainedTokenizerFast",
        "LlamaTokenizerFast",
        "GPT2Tokenizer",
        "GPT2TokenizerFast",
        "Qwen2Tokenizer",
        "GPTNeoXTokenizerFast",
        "CohereTokenizerFast",
        "Qwen3_5Tokenizer",
        "NobodysTokenizer",
    ),
    "prepended": (
        None,
        "LlamaTokenizer",
        "LlamaTokenizerFast",
        "PreTrainedTokenizerFast",
        "CodeLlamaTokenizer",
    ),
    "metaspace": (None, "LlamaTokenizer", "LlamaTokenizerFast", "PreTrainedTokenizerFast"),
    "replaced": (None, "GemmaTokenizer", "GemmaTokenizerFast", "PreTrainedTokenizerFast"),
    "unigram": (
        None,
        "XLMRobertaTokenizer",
        "XLMRobertaTokenizerFast",
        "T5Tokenizer",
        "CamembertTokenizer",
        "PreTrainedTokenizerFast",
    ),
    "wordpiece": (
        None,
        "BertTokenizer",
        "BertTokenizerFast",
        "DistilBertTokenizer",
        "MPNetTokenizer",
        "PreTrainedTokenizerFast",
    ),
}
MODELS = {
    "byte_level": ("llama", "qwen2", "qwen3", "deepseek_v3", "mistral", "granite", "cohere2"),
    "prepended": ("llama", "mistral", "phi3", "llama"),
    "metaspace": ("llama", "mistral", "phi3"),
    "replaced": ("gemma", "gemma3_text", "llama"),
    "unigram": ("xlm-roberta", "llama", "camembert"),
    "wordpiece": ("bert", "distilbert", "nomic_bert", "mpnet", "llama"),
}
FLAGS = (None, True, False)
# Cells beside those that are drawn.
MORE = (
    {"kind": "byte_level", "tokenizer_class": "CodeGenTokenizer", "model_type": "phi"},
    {
        "kind": "byte_level",
        "tokenizer_class": "CodeGenTokenizer",
        "model_type": "phi",
        "around": "both",
        "by_id": "flags",
        "add_prefix_space": True,
        "baked": "both",
    },
    {"kind": "byte_level", "named": "texts", "extra": "models"},
    {"kind": "byte_level", "named": "new", "extra": "models", "by_id": "same"},
)


def axes(kind: str) -> dict[str, Sequence[Any]]:
    """Return what may differ between two cells of a kind."""
    return {
        "tokenizer_class": CLASSES[kind],
        "model_type": MODELS[kind],
        "around": ("none", "begin", "both"),
        "baked": ("none", "truncation", "padding", "both"),
        **dict.fromkeys(SWITCHES, FLAGS),
        "bos_eos": ([],)
        if kind in BEGIN_END
        else ([], *itertools.product((True, False), repeat=2)),
        "by_id": ("none", "same", "flags", "more"),
        "named": ("none", "texts", "objects", "new", "null"),
        "extra": ("none", "additional", "list", "names"),
        "map": ("none", "texts", "objects", "extra"),
        "added": (False, True),
    }


def pairwise(choices: Mapping[str, Sequence[Any]], seed: int) -> Iterator[dict[str, Any]]:
    """Yield cells until every two values of two axes have been in one together."""
    draw = random.Random(seed)
    names = sorted(choices)
    left = {
        (a, i, b, j)
        for a, b in itertools.combinations(names, 2)
        for i in range(len(choices[a]))
        for j in range(len(choices[b]))
    }

    def met(cell: Mapping[str, int]) -> set[Any]:
        return {(a, cell[a], b, cell[b]) for a, b in itertools.combinations(names, 2)} & left

    while left:
        a, i, b, j = min(left)
        drawn = [{name: draw.randrange(len(choices[name])) for name in names} for _ in range(60)]
        best = max(({**each, a: i, b: j} for each in drawn), key=lambda cell: len(met(cell)))
        left -= met(best)
        yield {name: choices[name][at] for name, at in best.items()}


def ids(cell: dict[str, Any]) -> dict[str, Any]:
    """Return a cell with what transformers makes of its files.

    It leaves `add_bos_token` and `add_eos_token` out beside a tokenizer.json, but follows them
    when a caller says them, as version 4 did when they were in the file.
    """
    from transformers import AutoTokenizer

    names = "add_bos_token", "add_eos_token"
    settings = files(cell)["tokenizer_config.json"]
    said = {name: settings[name] for name in names if name in settings}
    with tempfile.TemporaryDirectory() as directory:
        write(cell, Path(directory))
        made = AutoTokenizer.from_pretrained(directory, **said)
    if said and None in (made.bos_token, made.eos_token):  # then nobody knows what to follow
        return ids(cell | {"bos_eos": []})
    cut: dict[str, Any] = {"truncation": True, "max_length": CUT}
    return {
        **{name: value for name, value in cell.items() if value != PLAIN.get(name)},
        "special_tokens": made.special_tokens_map,
        "hidden": sorted(n for n, t in made.added_tokens_decoder.items() if t.special),
        "size": 1 + max(made.get_vocab().values()),
        "with": [made(text)["input_ids"] for text in TEXTS],
        "without": [made(text, add_special_tokens=False)["input_ids"] for text in TEXTS],
        "pair": made(*PAIR)["input_ids"],
        "cut": [made(LONG, **cut)["input_ids"], made(PAIR[0], LONG, **cut)["input_ids"]],
    }


def main() -> None:
    cells: list[dict[str, Any]] = []
    for seed, kind in enumerate(KINDS):
        for chosen in pairwise(axes(kind), seed):
            cells.append(ids({"kind": kind, **chosen}))
    cells += [ids({**PLAIN, **cell}) for cell in MORE]
    rows: dict[str, int] = {}

    def row(value: list[int]) -> int:
        return rows.setdefault(json.dumps(value, separators=(",", ":")), len(rows))

    for cell in cells:
        for name in ("with", "without", "cut"):
            cell[name] = [row(each) for each in cell[name]]
        for name in ("pair", "hidden"):
            cell[name] = row(cell[name])
    lines = [json.dumps(cell, ensure_ascii=False, separators=(",", ":")) for cell in cells]
    table = "[\n" + ",\n".join(rows) + "\n]"
    body = ",\n".join(lines)
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(f'{{"rows": {table}, "cells": [\n{body}\n]}}\n', "utf-8")
    print(f"{len(cells)} cells, {GOLDEN.stat().st_size} bytes")


if __name__ == "__main__":
    main()
