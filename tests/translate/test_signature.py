"""Signatures of thoughts: our own are checked, and what others signed is taken as it is."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.translate import signature
from bessemer.translate.signature import NAME, Signer, opened, seal


@given(st.text(), st.lists(st.integers(0, 40), max_size=4))
def test_a_thought_is_signed_in_any_pieces(thought: str, cuts: list[int]) -> None:
    signer = Signer()
    places = [0, *sorted(cuts), max(len(thought), 40)]
    for start, end in pairwise(places):
        signer.add(thought[start:end])
    assert signer.signature == Signer(thought).signature
    assert opened(signer.signature, thought) == thought
    assert opened(signer.signature, thought + "x") is None


@given(st.text())
def test_a_sealed_thought_comes_out_of_its_signature(thought: str) -> None:
    assert opened(seal(thought), "") == thought
    assert opened(seal(thought), "else") == thought


def test_a_changed_signature_is_forged() -> None:
    good = Signer("Hm.").signature
    raw = urlsafe_b64decode(good.removeprefix(NAME))
    for at in range(len(signature.KEY_ID), len(raw)):
        wrong = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        assert opened(NAME + urlsafe_b64encode(wrong).decode(), "Hm.") is None
    for end in range(32, len(good)):
        assert opened(good[:end], "Hm.") is None, end
    for more in (b"Hm.", b"x", raw):  # what is signed is no seal
        assert opened(NAME + urlsafe_b64encode(raw + more).decode(), "Hm.") is None
    assert opened(seal("Hm.")[:-4] + "AAAA", "") is None


@pytest.mark.parametrize("other", ["", "EqQBCkYICxgCKkD" * 9, "0123456789abcdef" * 4])
def test_what_others_signed_is_taken(other: str) -> None:
    assert opened(other, "Hm.") == "Hm."


@pytest.mark.parametrize("wrong", ["wrong", "x" * 31, "not a signature, whatever its length is"])
def test_what_nobody_signs_so_is_not(wrong: str) -> None:
    assert opened(wrong, "Hm.") is None


def test_an_older_key_of_ours_is_anothers(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Signer("Hm.").signature
    for name in ("KEY", "SEALING_KEY", "KEY_ID"):
        monkeypatch.setattr(signature, name, bytes(len(getattr(signature, name))))
    assert opened(before, "Hm.") == "Hm."
    assert opened(Signer("Hm.").signature, "Hm!") is None
