"""Special tokens as characters of an answer's text."""

from bessemer.engine.text.specials import Specials, codes_in

NAMES = {1: "<think>", 2: "</think>", 3: "<|im_end|>", 4: "<|x|>"}


def test_names_in_marks_and_stops_have_codes_and_the_others_are_nothing() -> None:
    specials = Specials(NAMES, ["<think>", "</think>"], ["a<|im_end|>", "STOP"])
    assert set(specials.codes) == {"<think>", "</think>", "<|im_end|>"}
    assert len(set(specials.codes.values())) == 3
    assert specials.text(3) == specials.codes["<|im_end|>"] == specials.encode("<|im_end|>")
    assert (specials.text(4), specials.text(5)) == ("", None)
    assert (specials.name(4), specials.name(5)) == ("<|x|>", None)


def test_the_client_sees_no_code() -> None:
    specials = Specials(NAMES, ["<think>"])
    code = specials.encode("<think>")
    assert specials.plain(f"a{code}b") == "ab" and codes_in(f"a{code}b") == code
    assert specials.encode("a < think >") == "a < think >"


def test_shown_names_are_text_but_for_marks_and_the_end() -> None:
    specials = Specials(NAMES, ["<think>"], ["<|im_end|>"], shown=True)
    assert (specials.text(3), specials.text(4)) == ("<|im_end|>", "<|x|>")
    assert specials.text(3, hidden=True) == ""
    assert specials.text(1) == specials.encode("<think>") != "<think>"
    assert specials.encode("<|im_end|>") == "<|im_end|>"


def test_the_longest_name_wins() -> None:
    specials = Specials({1: "[A]", 2: "[A][B]"}, ["[A][B]", "[A]"])
    assert specials.encode("[A][B]") == specials.text(2)
    assert specials.encode("[A]x") == f"{specials.text(1)}x"


def test_however_many_names_a_stop_string_has() -> None:
    names = {i: f"<{i}>" for i in range(3000)}
    specials = Specials(names, (), ["".join(names.values())])
    assert len(specials.codes) == 0x800
    assert all("\ud800" <= code <= "\udfff" for code in specials.codes.values())
