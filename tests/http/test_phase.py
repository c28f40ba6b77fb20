"""The phases' tables have one place for each phase, in their order."""

from bessemer.http.phase import FOLLOWERS, Phase


def test_each_phase_is_its_place_in_the_tables() -> None:
    assert [*Phase] == [*range(len(FOLLOWERS))]
    assert [phase.name for phase in Phase] == [
        *("IDLE", "HEADER", "BODY", "ANSWERING", "LINGERING", "CLOSING")
    ]
