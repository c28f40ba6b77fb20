"""The parser of models that mark nothing: all text is the client's, special tokens are not."""

from bessemer.translate.chat import TextDelta
from bessemer.translate.parsers.parser import AnswerToken, PlainParser


def test_text_passes_and_special_tokens_do_not() -> None:
    parser = PlainParser(2)
    tokens = [AnswerToken(1, "<think>a"), AnswerToken(2, "", "<|end|>"), AnswerToken(None, "b")]
    assert [delta for token in tokens for delta in parser.feed(token)] == [
        TextDelta(2, "<think>a"),
        TextDelta(2, "b"),
    ]
    assert not parser.close() and not parser.reasoning
