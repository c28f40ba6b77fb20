"""Flags of `quantize`, which both of its processes show alike."""

import re
import signal

import pytest

from bessemer.engine.checkpoint import quantize
from bessemer.engine.subcommand import quantize_flags
from bessemer.http import cli


@pytest.fixture(autouse=True)
def no_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)


def test_flags_that_are_set_are_passed_on() -> None:
    assert quantize_flags(bits=3, group_size=None, mixed=None, mode="affine") == {
        "--bits": "3",
        "--mode": "affine",
    }
    assert quantize_flags(group_size=128, mixed="mixed_2_6", mode="affine")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bits": 7}, "--bits is 7; choose one of 2, 3, 4, 5, 6, 8"),
        ({"group_size": 16}, "--group-size is 16; choose one of 32, 64, 128"),
        ({"mode": "int8"}, "--mode is int8; choose one of affine, mxfp4, mxfp8, nvfp4"),
        ({"mixed": "mixed_3_6", "bits": 4}, "so leave --bits out"),
        ({"mode": "mxfp4", "group_size": 32}, "--group-size goes with --mode affine alone"),
    ],
)
def test_flags_that_do_not_go_together(values: dict[str, int | str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quantize_flags(**{"mode": "affine", **values})


def test_both_processes_have_the_same_flags(capsys: pytest.CaptureFixture[str]) -> None:
    shown = []
    for code in (cli.main(["quantize", "-h"]), quantize.main(["-h"])):
        assert code == 0
    for part in capsys.readouterr().out.split("Usage: ")[1:]:
        lines = part.partition("Options:\n")[2]
        shown.append(re.sub(r"  --offline .*\n", "", lines))
    assert len(shown) == 2 and shown[0] == shown[1] and "--group-size" in shown[0]


def test_a_mistake_of_the_inner_process(capsys: pytest.CaptureFixture[str]) -> None:
    assert quantize.main(["source"]) == 2
    assert quantize.main(["source", "into", "--bits", "7"]) == 2
    assert capsys.readouterr().err == (
        "bessemer: Missing argument 'into'.\n"
        "bessemer: --bits is 7; choose one of 2, 3, 4, 5, 6, 8.\n"
    )
