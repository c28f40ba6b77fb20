"""Stop strings at every split, and those that name special tokens."""

import itertools
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.engine.text.specials import NONE, Specials
from bessemer.engine.text.stops import StopAutomaton, StopMatcher, overlap


@pytest.mark.parametrize("include", [False, True])
@pytest.mark.parametrize(
    ("text", "stops"),
    [
        ("abcSTOPdef", ["STOP"]),
        ("aab", ["ab"]),
        ("aaab", ["aab", "b"]),
        ("xxENDyy", ["ENDY", "END", "E"]),
        ("no stop here", ["zz", "hex"]),
        ("ababac", ["abac"]),
        ("one\n\ntwo", ["\n\n"]),
    ],
)
def test_stops_at_every_split(text: str, stops: list[str], include: bool) -> None:
    full = StopMatcher(stops, include)
    oracle = full.add(text)
    oracle += full.flush()
    matches = [(text.find(s), -len(s), s) for s in stops if s in text]
    first = min(matches, default=None)
    if first is not None:
        cut = first[0] + (len(first[2]) if include else 0)
        assert (oracle, full.matched) == (text[:cut], first[2])
    for cuts in itertools.combinations(range(1, len(text)), min(3, len(text) - 1)):
        matcher = StopMatcher(stops, include)
        bounds = [0, *cuts, len(text)]
        pieces = [matcher.add(text[a:b]) for a, b in itertools.pairwise(bounds)]
        shown = "".join([*pieces, matcher.flush()])
        if matcher.matched == full.matched:
            assert shown == oracle
        else:  # a shorter stop string that was whole before a longer one was
            assert matcher.matched in stops and shown == text[: len(shown)]


def test_one_character_at_a_time_never_shows_a_part_of_a_stop() -> None:
    matcher = StopMatcher(["STOP"])
    assert "".join(map(matcher.add, "a STO STOP b")) + matcher.flush() == "a STO "
    assert matcher.matched == "STOP"


NAMES = {1: "</s>", 2: "<|im_end|>", 3: "<|x|>"}


@pytest.mark.parametrize(
    ("stops", "answer", "text", "stop"),
    [
        (["<|im_end|>"], ["Hi", 2, "you"], "Hi", "<|im_end|>"),
        (["</s>", "\nUser:"], ["Hi", 1], "Hi", "</s>"),
        (["</s>", "\nUser:"], ["Hi\nUs", "er: "], "Hi", "\nUser:"),
        (["<|im_end|>\nUser"], ["Hi", 2, "\n", "User"], "Hi", "<|im_end|>\nUser"),
        (["<|im_end|>\nUser"], ["Hi", 2, "\n", "you"], "Hi\nyou", None),
        (["END<|im_end|>"], ["Hi END", 2], "Hi ", "END<|im_end|>"),
        (["</s><|im_end|>"], ["a", 1, 1, 2, "b"], "a", "</s><|im_end|>"),
        # What only spells a name is read, and stops; a part of a name is not read.
        (["<|im_end|>"], ["Hi <|im", "_end|>"], "Hi ", "<|im_end|>"),
        (["im_end", "<|im_end|>!"], ["Hi", 2, "you"], "Hiyou", None),
        # A special token that is nothing to the reader parts no stop string.
        (["<|im_end|>x", "STOP"], ["a ST", 2, "OP"], "a ", "STOP"),
        (["</s>b", "ab!"], ["a", 2, "b!"], "", "ab!"),
        (["STOP"], ["ST", 3, "OP"], "", "STOP"),
        (["</s>"], ["a", 1], "a", "</s>"),
    ],
)
def test_special_tokens_in_stop_strings(
    stops: list[str], answer: list[str | int], text: str, stop: str | None
) -> None:
    specials = Specials(NAMES, (), stops)
    spelled = [a if isinstance(a, str) else specials.text(a) or "" for a in answer]
    for pieces in (spelled, list("".join(spelled)), ["".join(spelled)]):
        matcher = StopMatcher(stops, False, specials)
        shown = "".join([*map(matcher.add, pieces), matcher.flush()])
        assert (specials.plain(shown), matcher.matched) == (text, stop)
    shower = StopMatcher(stops, True, specials)
    shown = specials.plain("".join(map(shower.add, spelled)) + shower.flush())
    assert shown == (text if stop is None else text + stop)


class PlainMatcher:
    """A StopMatcher as plain as it can be, which looks through all that it holds each time."""

    def __init__(
        self, stops: Sequence[str], include: bool = False, specials: Specials = NONE
    ) -> None:
        self._include = include
        self._sought = [(stop, s) for stop in stops for s in {stop, specials.encode(stop)}]
        self._codes = frozenset(specials.codes.values())
        self._held = ""
        self.matched: str | None = None

    def add(self, piece: str) -> str:
        if self.matched is not None:
            return ""
        text = self._held + piece
        places = ((self._find(text, s), -len(stop), stop) for stop, s in self._sought)
        if (match := min((each for each in places if each[0] >= 0), default=None)) is not None:
            at, _, self.matched = match
            self._held = ""
            return text[:at] + self.matched if self._include else text[:at]
        keep = max(self._overlap(text, s) for _, s in self._sought)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        held, self._held = self._held, ""
        return held

    def _find(self, text: str, sought: str) -> int:
        unseen = self._codes.difference(sought)
        gap = f"[{''.join(unseen)}]*" if unseen else ""
        match = re.search(gap.join(map(re.escape, sought)), text)
        return -1 if match is None else match.start()

    def _overlap(self, text: str, sought: str) -> int:
        unseen = self._codes.difference(sought)
        places = [at for at, character in enumerate(text) if character not in unseen]
        count = overlap("".join(text[at] for at in places), sought)
        return len(text) - places[-count] if count else 0


TEXTS = st.text("ab\n", min_size=1, max_size=5)
PARTS = st.one_of(TEXTS, st.sampled_from([*NAMES.values()]))
STOPS = st.lists(st.lists(PARTS, min_size=1, max_size=3).map("".join), min_size=1, max_size=5)
PIECES = st.lists(st.one_of(TEXTS, st.sampled_from([*NAMES])), max_size=40)


@given(STOPS, PIECES, st.booleans(), st.booleans())
def test_the_automaton_does_what_the_plain_search_does(
    stops: list[str], pieces: list[str | int], include: bool, flushed: bool
) -> None:
    specials = Specials(NAMES, (), stops)
    spelled = [a if isinstance(a, str) else specials.text(a) or "" for a in pieces]
    for shape in (spelled, [*"".join(spelled)]):
        matchers = [kind(stops, include, specials) for kind in (StopMatcher, PlainMatcher)]
        for number, piece in enumerate(shape):
            one, other = (matcher.add(piece) for matcher in matchers)
            assert one == other
            if flushed and number % 7 == 3:
                assert matchers[0].flush() == matchers[1].flush()
        assert matchers[0].matched == matchers[1].matched
        assert matchers[0].flush() == matchers[1].flush()


class CountedList(list[int]):
    """A list that counts how often it is asked."""

    asked = 0

    def __getitem__(self, index: Any) -> Any:
        self.asked += 1
        return super().__getitem__(index)


def test_a_stop_string_that_almost_matches_costs_a_step_a_character() -> None:
    text = "}" * 3000
    automaton = StopAutomaton({f"{text}!": "", f"{text}?": ""})
    assert len(automaton.depths) == 3000 + 2 + 1  # a state for each character, and the first
    fallback = automaton._fallback = CountedList(automaton._fallback)
    state = 0
    for character in "}" * 10_000 + "!x":
        state = automaton.step(state, character)
    assert state == 0 and fallback.asked <= 10_000 + 2


def test_the_choices_of_a_request_share_one_automaton() -> None:
    stops = ["}" * 1000, "END"]
    one, other = StopMatcher(stops), StopMatcher(stops)
    assert one._searches[0]._automaton is other._searches[0]._automaton
    assert one.add("EN") == "" and other.add("D") == "D"  # but not where they are in it
