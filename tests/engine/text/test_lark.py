"""Texts as llguidance's Lark has them, with special tokens by their ids."""

from bessemer.engine.text.lark import parts

SPECIALS = {"<|a|>": 5, "<|a|>b": 7}


def test_special_tokens_are_ids_and_the_longest_counts() -> None:
    assert parts('x"\n<|a|>y<|a|>b', SPECIALS) == ['"x\\"\\n"', "<[5]>", '"y"', "<[7]>"]
    assert parts("<|a|>", {}) == ['"<|a|>"'] and parts("", SPECIALS) == []
