"""Writes tokenizers/NAME.json: real tokenizers without what no conversation's prompt needs.

Merges that are never applied and words that never come up change no id. What is left is compared
with the whole tokenizer on every prompt, and gives the ids for golden_tokenizers.json.

python -m tests.translate.make_reduced_tokenizers DIRECTORY

DIRECTORY has a checkpoint's tokenizer.json and tokenizer_config.json in a folder for each family.
"""

# pyright: reportMissingImports=false

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from tests.translate.conversations import CONVERSATIONS
from tests.translate.families import TEMPLATES
from tests.translate.golden import REAL, REAL_GOLDEN, TOKENIZERS, short
from tests.translate.make_golden_templates import honest, render

Pair = tuple[str, str]


def words(encoding: Tokenizer, settings: dict[str, Any], text: str) -> Iterator[str]:
    """Yield what BPE is applied to: what is between added tokens, normalized and split."""
    names = [token["content"] for token in settings["added_tokens"]]
    for piece in _between(text, names):
        if encoding.normalizer is not None:
            piece = encoding.normalizer.normalize_str(piece)
        if encoding.pre_tokenizer is None:
            yield piece
        else:
            yield from (word for word, _ in encoding.pre_tokenizer.pre_tokenize_str(piece))


def _between(text: str, names: Iterable[str]) -> list[str]:
    pieces = [text]
    for name in sorted(names, key=len, reverse=True):
        pieces = [part for piece in pieces for part in piece.split(name)]
    return [piece for piece in pieces if piece]


def merged(word: str, ranks: Any) -> Iterator[Pair]:
    """Yield the merges that BPE applies to a word, in its order."""
    symbols = [*word]
    while pairs := [pair for pair in pairwise(symbols) if pair in ranks]:
        best = min(pairs, key=ranks.__getitem__)
        yield best
        at = 0
        while at < len(symbols) - 1:
            if (symbols[at], symbols[at + 1]) == best:
                symbols[at : at + 2] = ["".join(best)]
            at += 1


def reduce(encoding: Tokenizer, texts: Iterable[str]) -> dict[str, Any]:
    """Return tokenizer.json without the merges and words that the texts do not use."""
    settings: dict[str, Any] = json.loads(encoding.to_str())
    model = settings["model"]
    ranks: dict[Pair, int] = {tuple(pair): rank for rank, pair in enumerate(model["merges"])}
    every = {word for text in texts for word in words(encoding, settings, text)}
    used = {pair for word in every for pair in merged(word, ranks)}
    keep = {"".join(pair) for pair in used} | {name for pair in used for name in pair} | every
    keep |= {token["content"] for token in settings["added_tokens"]}
    vocabulary = {
        name: token
        for name, token in model["vocab"].items()
        if name in keep or (len(name) == 1 and ord(name) < 0x250) or name.startswith("<0x")
    }
    _forget_reserved(settings)
    # Added tokens that no vocabulary has would be numbered anew.
    vocabulary |= {token["content"]: token["id"] for token in settings["added_tokens"]}
    model["vocab"], model["merges"] = vocabulary, sorted(used, key=ranks.__getitem__)
    return settings


def _forget_reserved(settings: dict[str, Any]) -> None:
    placeholders = ("reserved", "place▁holder", "<unused", "<SPECIAL_")
    settings["added_tokens"] = [
        token
        for token in settings["added_tokens"]
        if not any(text in token["content"] for text in placeholders)
    ]


def prompts(tokenizer: Any) -> Iterator[tuple[str, str, list[int]]]:
    """Yield each honest conversation's name, prompt and ids."""
    for name, conversation in CONVERSATIONS.items():
        found = honest(tokenizer, conversation)
        if not isinstance(found, str):
            _, changed, ids = found
            yield name, render(tokenizer, changed, tokenize=False), ids


def main(directory: Path) -> None:
    from transformers import AutoTokenizer

    TOKENIZERS.mkdir(exist_ok=True)
    golden = {}
    for family, is_free in REAL.items():
        tokenizer = AutoTokenizer.from_pretrained(directory / family)
        tokenizer.chat_template = (TEMPLATES / f"{family}.jinja").read_text()
        rendered = [*prompts(tokenizer)]
        golden[family] = {name: short(ids) for name, _, ids in rendered}
        whole = Tokenizer.from_file(str(directory / family / "tokenizer.json"))
        for name, text, ids in rendered:
            if whole.encode(text, add_special_tokens=False).ids != ids:
                print(family, name, "transformers changes what tokenizer.json says")
        if is_free:
            settings = reduce(tokenizer.backend_tokenizer, [text for _, text, _ in rendered])
            source = json.dumps(settings, ensure_ascii=False, separators=(",", ":"))
            reduced = Tokenizer.from_str(source)
            for name, text, ids in rendered:
                assert reduced.encode(text, add_special_tokens=False).ids == ids, (family, name)
            (TOKENIZERS / f"{family}.json").write_text(source + "\n")
            print(family, len(settings["model"]["vocab"]), len(source))
    lines = (f'"{name}": {json.dumps(each)}' for name, each in golden.items())
    REAL_GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
