"""A vocabulary alone decodes as the tokenizer does that it was taken from."""

import random
import subprocess
import sys
from typing import cast

import pytest
import tokenizers
from msgspec import msgpack
from tokenizers import AddedToken, decoders, models

from bessemer.engine.text.tokenizer import Tokenizer
from bessemer.engine.text.vocabulary import Vocabulary, VocabularyFile

from .tiny_tokenizers import byte_level, sentencepiece


def metaspace() -> tokenizers.Tokenizer:
    pieces = [("<unk>", 0.0), ("\u2581a", -1.0), ("b\n", -2.0), ("\u2581", -3.0), ("é", -4.0)]
    encoding = tokenizers.Tokenizer(models.Unigram(pieces, 0))
    encoding.decoder = decoders.Metaspace()
    return encoding


def without_decoder() -> tokenizers.Tokenizer:
    """Build one whose ids have holes, as an added token's far away from the others."""
    encoding = tokenizers.Tokenizer(models.WordLevel({"a": 0, "b": 3, "": 5, "c": 9}, "a"))
    encoding.add_tokens([AddedToken("<plain>"), AddedToken("<gone>", special=True)])
    return encoding


def one_name_at_the_end_of_another() -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer(models.WordLevel({"ba": 0, "a": 1, "aba": 2, "xa": 3}, "a"))


KINDS = (byte_level, sentencepiece, metaspace, without_decoder, one_name_at_the_end_of_another)


def sent(encoding: tokenizers.Tokenizer) -> Vocabulary:
    """Return what arrives in another process."""
    return Vocabulary(
        msgpack.decode(msgpack.encode(VocabularyFile.of(encoding)), type=VocabularyFile)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_what_the_tokenizer_says(kind: type) -> None:
    encoding = kind()
    vocabulary, dice = sent(encoding), random.Random(7)
    size = max(encoding.get_vocab().values()) + 3
    for token in range(-1, size):
        oracle = encoding.id_to_token(token) if token >= 0 else None
        assert vocabulary.id_to_token(token) == (oracle or None)
        if oracle:
            assert vocabulary.token_to_id(oracle) == token
    for unknown in ("", "no such token", "<", "\u2581\u2581\u2581"):
        oracle = encoding.token_to_id(unknown) if unknown else None
        assert vocabulary.token_to_id(unknown) == oracle
    added = encoding.get_added_tokens_decoder()
    assert {t: (a.content, a.special) for t, a in added.items()} == {
        t: (a.content, a.special) for t, a in vocabulary.get_added_tokens_decoder().items()
    }
    for _ in range(300):
        tokens = [dice.randrange(size) for _ in range(dice.randrange(6))]
        assert vocabulary.decode(tokens) == encoding.decode(tokens), tokens


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_reads_the_same_token_by_token(kind: type) -> None:
    encoding = kind()
    alone = Tokenizer(cast(tokenizers.Tokenizer, sent(encoding)), {}, None)
    whole, dice = Tokenizer(encoding, {}, None), random.Random(8)
    size = max(encoding.get_vocab().values()) + 1
    assert alone.special_names == whole.special_names
    for _ in range(60):
        one, other = alone.detokenizer(), whole.detokenizer()
        for token in [dice.randrange(size) for _ in range(20)]:
            assert one.add(token) == other.add(token)
        assert one.flush() == other.flush()


def test_byte_level_text_needs_no_library() -> None:
    data = msgpack.encode(VocabularyFile.of(byte_level()))
    code = (
        "import sys; from msgspec import msgpack\n"
        "from bessemer.engine.text.tokenizer import Tokenizer\n"
        "from bessemer.engine.text.vocabulary import Vocabulary, VocabularyFile\n"
        "file = msgpack.decode(sys.stdin.buffer.read(), type=VocabularyFile)\n"
        "text = Tokenizer(Vocabulary(file), {}, None).decode([5, 6, 7])\n"
        "assert text and 'tokenizers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-P", "-c", code], input=data, check=True)
