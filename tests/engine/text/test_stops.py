"""Stop strings at every split; the detokenizers are in test_tokenizer, with their vocabularies."""

import itertools

import pytest

from bessemer.engine.text.stops import StopMatcher


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
