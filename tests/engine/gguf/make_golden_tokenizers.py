"""Cuts llama.cpp's vocabularies down to what its own test texts can reach, with the ids they give.

    python -m tests.engine.gguf.make_golden_tokenizers LLAMA_CPP IDS

LLAMA_CPP has models/ggml-vocab-*.gguf, with texts (.inp) and the ids (.out) that the models' own
tokenizers gave; of XLM-RoBERTa's there are none, and IDS has those that llama.cpp gives of BERT's
texts, a line each. A merge stays if what it makes occurs in some text: others cannot be applied.
"""

import json
import lzma
import sys
import unicodedata
from pathlib import Path
from typing import Any

from bessemer.engine.gguf.container import read_gguf

GOLDEN = Path(__file__).parent / "golden" / "tokenizers.json"
BETWEEN = "\n__ggml_vocab_test__\n"
NAMES = (
    *("command-r", "deepseek-coder", "deepseek-llm", "gemma-4", "gpt-2", "llama-bpe", "llama-spm"),
    *("mpt", "qwen2", "qwen35", "starcoder", "bert-bge", "nomic-bert-moe"),
)
UNIGRAM = "nomic-bert-moe"
RULES = GOLDEN.with_name("charsmap.xz")  # SentencePiece's, of XLM-RoBERTa
FIELD = "tokenizer.ggml."
NORMAL, CONTROL = 1, 3
SMALL = 2, 6  # what is unknown, and bytes


def bytes_as_characters() -> dict[int, str]:
    """GPT-2's way to write bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = (byte for byte in range(256) if byte not in plain)
    shown = {byte: chr(byte) for byte in plain}
    return shown | {byte: chr(256 + place) for place, byte in enumerate(rest)}


def simplified(text: str) -> str:
    """The letters that BERT and SentencePiece see: small ones without accents, others too."""
    forms = [unicodedata.normalize(form, text) for form in ("NFD", "NFKD", "NFKC")]
    small = [
        "".join(each for each in form.lower() if not unicodedata.combining(each)) for form in forms
    ]
    return "\0".join((*forms, *small))


def cut(path: Path, texts_of: Path, ids: Path) -> dict[str, Any]:
    texts = texts_of.read_text("utf-8").split(BETWEEN)
    lines = ids.read_text("utf-8").split("\n")[: len(texts)]
    said = {key.removeprefix(FIELD): each for key, each in read_gguf(path).metadata.items()}
    kind, tokens, types = said["model"], said["tokens"], said["token_type"]
    if kind == "gpt2":
        shown = bytes_as_characters()
        heap = "\0".join("".join(shown[byte] for byte in text.encode()) for text in texts)
    else:
        heap = "\0".join("\u2581" + text.replace(" ", "\u2581") for text in texts)
    if kind in ("bert", "t5"):
        heap = "\0".join(f"{text}\0\u2581" for text in map(simplified, texts))
        heap += "\0".join("\u2581" + word for word in heap.replace("\0", " ").split())
    heap += "\0" + "\0".join(texts)  # where added tokens are looked for
    kept = {
        number: (token, types[number])
        for number, token in enumerate(tokens)
        if types[number] in SMALL
        or token in heap
        or (types[number] == NORMAL and len(token) == 1 and kind != "t5")
        or (kind == "bert" and (types[number] == CONTROL or token.lstrip("\u2581") in heap))
    }
    merges = [
        merge
        for merge in said.get("merges", ())
        if merge.replace(" ", "", 1) in heap and " " in merge
    ]
    return {
        "model": kind,
        "pre": said.get("pre"),
        "size": len(tokens),
        "tokens": [[number, *each] for number, each in kept.items()],
        "merges": merges,
        "scores": {n: said["scores"][n] for n in kept} if kind in ("llama", "t5") else None,
        "add_space_prefix": said.get("add_space_prefix"),
        "unknown_token_id": said.get("unknown_token_id"),
        "cases": [
            [text, [int(each) for each in line.split()]]
            for text, line in zip(texts, lines, strict=True)
        ],
    }


def main() -> None:
    models, golden = Path(sys.argv[1]) / "models", {}
    for name in NAMES:
        path = models / f"ggml-vocab-{name}.gguf"
        texts, ids = Path(f"{path}.inp"), Path(f"{path}.out")
        if name == UNIGRAM:
            texts, ids = models / "ggml-vocab-bert-bge.gguf.inp", Path(sys.argv[2])
            rules = read_gguf(path).metadata[f"{FIELD}precompiled_charsmap"]
            RULES.write_bytes(lzma.compress(bytes(each & 255 for each in rules)))
        golden[name] = cut(path, texts, ids)
    GOLDEN.write_text(json.dumps(golden, ensure_ascii=False, separators=(",", ":")), "utf-8")


if __name__ == "__main__":
    main()
