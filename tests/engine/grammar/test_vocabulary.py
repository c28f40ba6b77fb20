"""A tokenizer as llguidance sees it: the bytes of its tokens, and the tokens of a forced text."""

from pathlib import Path

import pytest
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Encoding

from bessemer.engine.grammar.vocabulary import Vocabulary
from bessemer.engine.text.loading import load_tokenizer
from bessemer.engine.text.tokenizer import Tokenizer

GUIDE = Path(__file__).parents[3] / "engine" / "guide"


@pytest.fixture(scope="module")
def guide() -> Tokenizer:
    return load_tokenizer(GUIDE, config={})


def blanks() -> Tokenizer:
    """A tokenizer that begins each text with a blank, as Llama 2's does, and has bytes."""
    bytes_ = {f"<0x{byte:02X}>": byte + 1 for byte in range(256)}
    words = {"▁": 300, "n": 301, "a": 302, "na": 303, "▁na": 304, "me": 305, "m": 306, "e": 307}
    merges = [("n", "a"), ("▁", "na"), ("m", "e")]
    vocabulary = {"<unk>": 0, **bytes_, **words}
    encoding = Encoding(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    first = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    encoding.normalizer = normalizers.Sequence(first)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    encoding.decoder = decoders.Sequence(steps)
    encoding.add_special_tokens([AddedToken("<s>")])
    return Tokenizer(encoding, {}, None)


def test_each_token_has_the_bytes_that_are_shown_of_it(guide: Tokenizer) -> None:
    size = guide.encoding.get_vocab_size() + 3
    vocabulary = Vocabulary(guide, size)
    built = vocabulary.build()
    assert built.vocab_size == size + 1 and built.eos_token == size
    text = 'Héllo {"a": 1}\n\t…'
    assert built.decode_bytes(guide.encode(text, special=False)) == text.encode()
    special = {token for token in range(size) if built.is_special_token(token)}
    spelled = vocabulary.tokens
    marker = {t for t in range(size) if spelled[t].startswith(b"\xff")}  # in no text
    assert special - marker == guide.special_names.keys()
    assert spelled[size - 1] == b"", "an id without a token"


def test_a_model_may_have_fewer_ids_than_its_tokenizer(guide: Tokenizer) -> None:
    vocabulary = Vocabulary(guide, 300)
    assert len(vocabulary.tokens) == 301
    assert all(token <= 300 for token in vocabulary.special_token_ids)
    assert Vocabulary(blanks(), 200).special_token_ids == [200]  # <s> is one of those beyond
    vocabulary.build()
    assert max(guide.encode("bessemer", special=False)) >= 300
    assert all(token < 300 for token in vocabulary("bessemer"))


def test_a_forced_text_has_the_tokens_that_the_model_knows_it_by(guide: Tokenizer) -> None:
    vocabulary = Vocabulary(guide, guide.encoding.get_vocab_size())
    vocabulary.build()
    assert vocabulary('"name": ') == guide.encode('"name": ', special=False)


def test_the_name_of_a_special_token_in_a_forced_text_is_text(guide: Tokenizer) -> None:
    vocabulary = Vocabulary(guide, guide.encoding.get_vocab_size())
    vocabulary.build()
    name = next(iter(guide.special_names.values()))
    tokens = vocabulary(f"a{name}b")
    assert not guide.special_names.keys() & tokens
    assert b"".join(map(guide.token_bytes, tokens)).decode() == f"a{name}b"


def test_a_text_within_an_answer_begins_with_no_blank() -> None:
    tokenizer = blanks()
    assert tokenizer.encode("name", special=False) == [304, 305]
    vocabulary = Vocabulary(tokenizer, 309)
    vocabulary.build()
    assert vocabulary("name") == [303, 305]
    assert vocabulary(" name") == [304, 305]


def test_pre_tokenizers_that_add_a_blank_are_seen_through() -> None:
    tokenizer = blanks()
    tokenizer.encoding.normalizer = normalizers.Replace("x", "x")
    tokenizer.encoding.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    vocabulary = Vocabulary(tokenizer, 309)
    vocabulary.build()
    spelled = b"".join(map(tokenizer.token_bytes, vocabulary("name")))
    assert spelled == b"name"


def test_the_rest_of_a_forced_text_is_not_tokenized_again(
    guide: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary = Vocabulary(guide, guide.encoding.get_vocab_size())
    texts: list[str] = []

    def encode(self: Tokenizer, text: str, special: bool = True) -> list[int]:
        texts.append(text)
        return original(self, text, special)

    original = Tokenizer.encode
    monkeypatch.setattr(Tokenizer, "encode", encode)
    text = "a text that is forced, word for word " * 5
    tokens = vocabulary(text)
    for at in range(1, len(tokens)):
        rest = b"".join(map(guide.token_bytes, tokens[at:])).decode()
        assert vocabulary(rest) == tokens[at:]
    assert texts == [text]
    longest = max((guide.token_bytes(token) for token in tokens), key=len)
    inside = text[text.index(longest.decode()) + 1 :]
    assert b"".join(map(guide.token_bytes, vocabulary(inside))).decode() == inside
    assert len(texts) == 2, "what begins within a token is another text"
