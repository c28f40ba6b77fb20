"""The search for names, whole and in halves."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.engine.text.control_names import PIECE, ControlNames, common_length, without

NAMES = ["<s>", "</s>", "<|end|>", "<|endtext|>", "s><", "<pad> "]


def test_names_and_halves_at_the_ends_are_touched() -> None:
    names = ControlNames(NAMES)
    for text in ("a<s>", "b</", "|> c", "a <|en \n", " \t>", "x<pad>"):
        assert names.touched(text), text
    for text in ("", "a < b > c", "|", "end", "a<|b", "b|>c d"):
        assert not names.touched(text), text


@given(st.text(st.sampled_from("<>/s|end")))
def test_no_name_is_left_in_a_guarded_text(text: str) -> None:
    guarded = ControlNames(NAMES).guarded(text, "!")
    assert guarded.replace("!", "") == text
    assert not any(name in guarded for name in NAMES)


@pytest.mark.parametrize("length", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 7])
def test_guards_are_taken_out_of_texts_of_any_length(length: int) -> None:
    text = ("a\r\n<s>!b" * PIECE)[:length]
    assert without(text, "!") == text.replace("!", "")
    assert without(ControlNames(NAMES).guarded(text.replace("!", ""), "!"), "!") == (
        text.replace("!", "")
    )


@given(st.lists(st.text(st.sampled_from("<>/s|end "), max_size=5), max_size=5))
def test_guarded_texts_make_no_name_together(texts: list[str]) -> None:
    names = ControlNames(NAMES)
    for trimmed in (False, True):
        guarded = [names.guarded(text, "!") for text in texts]
        text = "".join(each.strip() if trimmed else each for each in guarded)
        assert not any(name in text for name in NAMES)


@pytest.mark.parametrize("names", [[], ["a"], [""]])
def test_without_names_nothing_is_touched(names: list[str]) -> None:
    assert not ControlNames(names).touched("abc")
    assert ControlNames(names).guarded("abc", "!") == "abc"


@given(st.text(st.sampled_from("<>/s|endtx"), max_size=30))
def test_spans_are_where_the_longest_names_begin(text: str) -> None:
    names = ControlNames(NAMES)
    plain = re.compile("|".join(sorted(map(re.escape, NAMES), key=len, reverse=True)))
    assert names.spans(text, 0) == [match.span() for match in plain.finditer(text)]
    assert names.count(text) == sum(bool(plain.match(text, at)) for at in range(len(text)))


@given(st.text(st.sampled_from("ab"), max_size=20), st.text(st.sampled_from("ab"), max_size=20))
def test_what_two_texts_have_in_common(one: str, other: str) -> None:
    length = common_length(one, other)
    assert one[:length] == other[:length]
    assert one[length : length + 1] != other[length : length + 1] or one == other


def test_names_are_found_where_pieces_of_a_long_text_meet() -> None:
    names = ControlNames(["<|im_end|>", "<|"])
    for before in range(PIECE - 12, PIECE + 2):
        text = f"{'a' * before}<|im_end|>{'b' * PIECE}<|"
        assert names.spans(text, 0)[0] == (before, before + 10) and names.count(text) == 2
        assert names.guarded(text, "\ufdd0").startswith(f"{'a' * before}<\ufdd0|im_end|>")


def test_what_a_name_has_inside_is_made_whole_by_what_is_around() -> None:
    names = ControlNames(NAMES)
    for text in ("end", " /s ", "|endtext|", "p", "text", " " * 2 * PIECE + "end"):
        assert names.inside(text), text
    for text in ("", "  ", "<s>", "|end|>", "<|end", "ends", "x|end|endtext|x", "endtext|" * 2):
        assert not names.inside(text), text


@pytest.mark.parametrize(
    "names", [("abab", "baba"), ("<<", "<<!"), ("[x]y[", "x]"), ("<a>", "<ab>")]
)
def test_names_that_overlap_or_do_not_are_all_counted(names: tuple[str, ...]) -> None:
    """Compare with a search at each place, also where pieces of a long text meet."""
    found = ControlNames(names)
    for before in range(PIECE - 9, PIECE + 1):
        text = "." * before + "".join(names) * 3 + "abababab<<<<[x]y[x]y[<a<ab><ab>"
        naive = sum(text.startswith(names, at) for at in range(before - 1, len(text)))
        assert found.count(text) == naive
        guarded = found.guarded(text, "\ufdd0")
        assert not any(name in guarded for name in names if len(name) > 1)
        assert without(guarded, "\ufdd0") == text
