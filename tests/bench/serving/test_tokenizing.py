"""The bench of tokenizing: what it measures, and when it says that it takes too long."""

import sys
from itertools import count
from pathlib import Path

import pytest

from bessemer.bench.serving.tokenizing import (
    Contestant,
    conversation,
    followed,
    main,
    measure,
    missed,
    ratio,
    read_ways,
)
from bessemer.http.config import UsageError
from bessemer.http.hub import BUILT_IN


def contestant(*seconds: float) -> Contestant:
    return Contestant("", lambda number: seconds[number % len(seconds)])


def test_a_conversation_has_about_so_many_tokens_and_a_turn_goes_on_from_it() -> None:
    with read_ways(BUILT_IN) as ways:
        chat = conversation(ways.renderer, 3000)
        tokens = ways.prompt(chat).tokens
        assert 2500 < len(tokens) < 3500 and ways.plain(chat) == tokens
        after = ways.prompt(followed(chat)).tokens
    assert len(tokens) < len(after) < len(tokens) + 100


def test_all_run_in_each_round_and_the_first_does_not_count() -> None:
    order = count()
    one = Contestant("", lambda _: float(next(order)))
    other = Contestant("", lambda _: float(next(order)))
    measure([one, other], 2)
    assert (one.seconds, other.seconds) == ([2, 4], [3, 5])
    assert ratio(one, other) == (2 / 3 + 4 / 5) / 2


@pytest.mark.parametrize(("theirs", "slow"), [(1.0, False), (0.84, False), (0.8, True)])
def test_what_takes_too_long(theirs: float, slow: bool) -> None:
    contestants = [contestant(each) for each in (1.0, 0.5, 0.005, theirs)]
    measure(contestants, 3)
    assert missed(contestants) == slow


def test_it_reports_and_says_what_is_wrong(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["--tokens", "500", "--rounds", "1"]) in (0, 1)  # timing decides no test
    assert "the next turn" in capsys.readouterr().out
    assert main(["--tokens", "500", "--rounds", "1", "--python", sys.executable]) == 2
    assert "cannot run the peer" in capsys.readouterr().err
    (tmp_path / "tokenizer.json").write_text((BUILT_IN / "tokenizer.json").read_text())
    with pytest.raises(UsageError, match="no chat template"):
        read_ways(tmp_path).__enter__()
