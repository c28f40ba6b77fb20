"""Writes golden_mistral.json and tokenizers/mistral_nemo.json: what mistral-common 1.13.1 says.

It encodes each message by itself, so what a client writes is text there, whatever it spells.

python -m tests.translate.make_golden_mistral
"""

# pyright: reportMissingImports=false

import base64
import json
import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from tokenizers import Tokenizer

from tests.translate.conversations import CONVERSATIONS, Conversation
from tests.translate.families import FAMILIES
from tests.translate.golden import MISTRAL_GOLDEN, TOKENIZERS, short
from tests.translate.make_golden_templates import best, render, tokenizer_of
from tests.translate.make_reduced_tokenizers import Pair, merged, words
from tests.translate.stand_ins import build

FAMILY = "mistral_nemo"
SPELLED = "struck"  # the conversation whose texts spell control tokens
PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
OTHERS = [byte for byte in range(256) if byte not in PRINTABLE]
LETTERS = {byte: chr(byte) for byte in PRINTABLE} | {
    byte: chr(256 + index) for index, byte in enumerate(OTHERS)
}


class Ranks(dict[str, int]):
    """Tekken's ranks: a pair is merged where the two together are a word."""

    def __contains__(self, pair: object) -> bool:
        return isinstance(pair, tuple) and super().__contains__("".join(pair))

    def __missing__(self, pair: Pair) -> int:
        return self["".join(pair)]


def encoded(mistral: Any, conversation: Conversation) -> list[int]:
    """Return ids, or raise where mistral-common takes no such conversation."""
    from mistral_common.protocol.instruct.request import ChatCompletionRequest

    if conversation.continue_final or conversation.kwargs:
        raise ValueError("not a plain conversation")
    messages = tuple(map(deepcopy, conversation.messages))
    for call in (call for message in messages for call in message.get("tool_calls", ())):
        arguments = call["function"]["arguments"]
        call["function"]["arguments"] = json.dumps(arguments, ensure_ascii=False)
    request = ChatCompletionRequest(messages=[*messages], tools=[*conversation.tools] or None)
    return list(mistral.encode_chat_completion(request).tokens)


def by_template(tokenizer: Any, tekken: Any, conversation: Conversation) -> tuple[str, list[int]]:
    """Return the prompt that the model's template makes, and its ids by Tekken."""
    found = best(tokenizer, conversation)
    if found is None:
        raise ValueError("the template refuses it")
    text = render(tokenizer, found[1], tokenize=False)
    names = FAMILIES[FAMILY].special.split()
    ids = []
    for piece in filter(None, re.split(f"({'|'.join(map(re.escape, names))})", text)):
        is_control = piece in names
        ids += (
            [tekken.get_special_token(piece)] if is_control else tekken.encode(piece, False, False)
        )
    return text, ids


def goldens(mistral: Any) -> Iterator[tuple[str, str, list[int]]]:
    from mistral_common.exceptions import MistralCommonException

    tokenizer, tekken = tokenizer_of(FAMILY, FAMILIES[FAMILY]), mistral.instruct_tokenizer.tokenizer
    for name, conversation in CONVERSATIONS.items():
        try:
            ids = encoded(mistral, conversation)
            text, others = by_template(tokenizer, tekken, conversation)
        except (MistralCommonException, ValueError, TypeError) as error:
            print(name, "left out:", type(error).__name__, str(error)[:60].replace("\n", " "))
            continue
        if ids == others or name == SPELLED:
            yield name, text, ids
        else:
            print(name, "left out: the template and mistral-common differ")


def reduce(tekken: Any, texts: list[str]) -> dict[str, Any]:
    """Return a tokenizer.json with what of Tekken's words the texts need."""
    with open(tekken.file_path) as file:
        data = json.load(file)
    family = FAMILIES[FAMILY]
    settings: dict[str, Any] = json.loads(build(family).to_str())
    encoding = build(family)
    count = data["config"]["default_num_special_tokens"]
    size = data["config"]["default_vocab_size"] - count
    named = ((_name(entry["token_bytes"]), entry["rank"]) for entry in data["vocab"][:size])
    ranks = Ranks(named)
    every = {word for text in texts for word in words(encoding, settings, text)}
    bare = {**settings, "added_tokens": []}  # what spells control tokens is words, too
    every |= {word for text in spelled() for word in words(encoding, bare, text)}
    used = {pair for word in every for pair in merged(word, ranks)}
    names = {"".join(pair) for pair in used} | {name for name in ranks if len(name) == 1}
    controls = {name: tekken.get_special_token(name) for name in _controls(tekken)}
    settings["added_tokens"] = [
        {**token, "id": controls[token["content"]]}
        for token in settings["added_tokens"]
        if token["content"] in controls
    ]
    for each in settings["post_processor"]["special_tokens"].values():
        each["ids"] = [controls[name] for name in each["tokens"]]
    model = settings["model"]
    model["vocab"] = {name: ranks[name] + count for name in sorted(names)} | controls
    model["merges"] = sorted(used, key=lambda pair: ranks["".join(pair)])
    return settings


def spelled() -> list[str]:
    return [message["content"] for message in CONVERSATIONS[SPELLED].messages]


def _name(token: str) -> str:
    """Return bytes as byte-level vocabularies write them, one letter for each."""
    return "".join(LETTERS[byte] for byte in base64.b64decode(token))


def _controls(tekken: Any) -> Iterator[str]:
    for name in FAMILIES[FAMILY].special.split():
        try:
            tekken.get_special_token(name)
        except ValueError:
            continue
        yield name


def main() -> None:
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    mistral = MistralTokenizer.v3(is_tekken=True)
    tekken = mistral.instruct_tokenizer.tokenizer
    found = [*goldens(mistral)]
    settings = reduce(tekken, [text for _, text, _ in found])
    source = json.dumps(settings, ensure_ascii=False, separators=(",", ":"))
    reduced = Tokenizer.from_str(source)
    for name, text, ids in found:
        if name != SPELLED:
            assert reduced.encode(text, add_special_tokens=False).ids == ids, name
    reduced.encode_special_tokens = True
    for text in spelled():
        whole = tekken.encode(text, False, False)
        assert reduced.encode(text, add_special_tokens=False).ids == whole, text
    (TOKENIZERS / f"{FAMILY}.json").write_text(source + "\n")
    MISTRAL_GOLDEN.write_text(json.dumps({name: short(ids) for name, _, ids in found}) + "\n")
    print(len(found), len(source))


if __name__ == "__main__":
    main()
