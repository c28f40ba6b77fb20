"""Stop strings at every split, and those that name special tokens."""

import itertools

import pytest

from bessemer.engine.text.specials import Specials
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
