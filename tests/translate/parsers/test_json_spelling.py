"""Grammars of spellings, judged by llguidance: it takes a text in JSON as it takes the text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer

from bessemer.translate.parsers.json_spelling import SpellingError, spelled_lark, spelled_regex

BYTES = LLTokenizer("byte")
PATCH = r"""
start: begin_patch hunk+ end_patch
begin_patch: "*** Begin Patch" LF
end_patch: "*** End Patch" LF?
// A comment.
hunk: add_hunk | delete_hunk | update_hunk
add_hunk: "*** Add File: " filename LF add_line+
delete_hunk: "*** Delete File: " filename LF
update_hunk: "*** Update File: " filename LF change_move? change?
filename: /(.+)/
add_line: "+" /(.*)/ LF -> line
change_move: "*** Move to: " filename LF
change: (change_context | change_line)+ eof_line?
change_context: ("@@" | "@@ " /(.+)/) LF
change_line: ("+" | "-" | " ") /(.*)/ LF
eof_line: "*** End of File" LF
%import common.LF
"""
PATCHES = (
    '*** Begin Patch\n*** Add File: a "b".txt\n+Zü"r \\ x\t\x01 雪\n+\n*** End Patch\n',
    "*** Begin Patch\n*** Update File: a.py\n@@ def f():\n-  a = '\\n'\n+  b\n*** End Patch",
    "*** Begin Patch\n*** Delete File: a/b.py\n*** End Patch",
)


def accepts(lark: str, text: str) -> bool:
    matcher = LLMatcher(BYTES, LLMatcher.grammar_from_lark(lark))
    assert not matcher.get_error(), matcher.get_error()
    tokens = BYTES.tokenize_str(text)
    whole = matcher.validate_tokens(tokens) == len(tokens) and matcher.consume_tokens(tokens)
    return bool(whole and matcher.is_accepting())


def spelling(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


@pytest.mark.parametrize("text", PATCHES)
def test_codex_s_patches(text: str) -> None:
    spelled = spelled_lark(PATCH)
    assert accepts(PATCH, text) and accepts(spelled, spelling(text))
    for broken in (text[:-9], text.replace("*** ", "** "), text.replace("\n", "")):
        assert not accepts(PATCH, broken) and not accepts(spelled, spelling(broken))
    assert not accepts(spelled, text)  # as it stands it is no JSON


@pytest.mark.parametrize(
    ("regex", "good", "bad"),
    [
        (r"[a-z]+\d{2,3}", ("ab12", "z999"), ("ab1", "12")),
        (r'"[^"]*"', ('"a b"', '"\n"', '""'), ('"a', "a")),
        (r"(foo|ba[rz])?\s*x\.", ("foo\t\n x.", "x."), ("fooxx",)),
        (r"a/b", ("a/b",), ("ab",)),
        (r"[^a]", ("\n", '"', "\\", "雪", "\x1f"), ("a", "")),
        (r"\\\w+?", ("\\w", "\\ww"), ("w", "\\")),
        (r"[\n\t]{2}x*", ("\n\t", "\t\txx"), ("\n",)),
        (r"\x41\u0042\s", ("AB\r",), ("AB",)),
        (r"(?:a|)b", ("ab", "b"), ("a",)),
        (r".", ("a", '"', "\t"), ("\n", "")),
    ],
)
def test_expressions(regex: str, good: tuple[str, ...], bad: tuple[str, ...]) -> None:
    lark = "start: X\nX: /" + regex.replace("/", r"\/") + "/\n"
    spelled = spelled_lark(lark)
    for text in good:
        assert accepts(lark, text) and accepts(spelled, spelling(text)), text
    for text in bad:
        assert not accepts(lark, text) and not accepts(spelled, spelling(text)), text


def test_flags() -> None:
    anything = spelled_lark("start: /a.b/s")
    assert accepts(anything, r"a\nb") and accepts(spelled_lark('start: "a\\"B"i'), r"A\"b")
    assert accepts(spelled_lark("start: /ab/i"), "aB") and not accepts(anything, "a\nb")


@given(st.text(max_size=12))
def test_any_text_is_its_spelling(text: str) -> None:
    assert accepts("start: " + spelled_regex("[^x]*", ""), spelling(text)) is ("x" not in text)


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        ("start: /^a/", r"\^"),
        ("start: /(?=a)b/", r"\(\?="),
        (r"start: /\p{L}/", "p"),
        ('start: A\nA: "a"\n%ignore / /', "%ignore"),
        ('start: %json {"type": "string"}', "%json"),
        ("start: @other", "@other"),
        ("start: <|end|>", "end"),
        ("start: X\n%import common.SQL_COMMENT", "SQL_COMMENT"),
        (r'start: "\q"', "none of JSON's"),
    ],
)
def test_what_cannot_be_spelled_is_named(grammar: str, reason: str) -> None:
    with pytest.raises(SpellingError, match=reason):
        spelled_lark(grammar)
