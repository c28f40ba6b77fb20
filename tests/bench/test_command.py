"""Every command of bench shows its help alike, and says a mistake in one sentence."""

import os
import re
import resource
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import pytest
from typer import Option

from bessemer.bench.command import NAMES, NUMBERS, command, flags_of, keep, one_of, with_flags
from bessemer.bench.compare.contest import Unavailable

BENCH = Path(__file__).parents[2] / "bench"
SINGLE = (
    "compare.regression", "guide.evaluate", "guide.precision", "guide.train", "kernels.dispatches",
    "kernels.moe_prefill", "kernels.traffic", "models.families", "serving.lifecycle",
    "serving.loading", "serving.serve",
)  # fmt: skip
GROUPS = {
    "compare.cli": [
        *("decode", "prefill", "batch", "serve", "load", "memory", "quality"),
        *("log", "html", "shapes"),
    ],
    "kernels.cli": ["list", "profile", "bench"],
}
HELP = [[name] for name in (*SINGLE, *GROUPS)]
HELP += [[name, each] for name, commands in GROUPS.items() for each in commands]


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("line", HELP, ids=" ".join)
def test_help(line: Sequence[str], flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    main = import_module(f"bessemer.bench.{line[0]}").main
    assert main([*line[1:], flag]) == 0
    out, err = capsys.readouterr()
    assert err == "" and out.startswith("Usage: ")
    assert re.search(r"-h, --help +Show this message and exit\.", out)
    assert "MISSING" not in out and "python -" not in out.partition("\n")[2]


@pytest.mark.parametrize("line", HELP, ids=" ".join)
def test_a_mistake(line: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    main = import_module(f"bessemer.bench.{line[0]}").main
    assert main([*line[1:], "--no-such-flag"]) == 2
    out, err = capsys.readouterr()
    name = {"compare.cli": "bessemer bench", "kernels.cli": "bessemer kernels"}.get(
        line[0], line[0].rpartition(".")[2]
    )
    assert out == "" and err == f"{name}: No such option: --no-such-flag.\n"


@dataclass(frozen=True, kw_only=True)
class Base:
    verbose: Annotated[bool, Option("--verbose", help="Say more.")] = False


@dataclass(frozen=True, kw_only=True)
class Options(Base):
    source: Annotated[str, Option(help="Where from.")]
    sizes: Annotated[tuple[int, ...], Option(**NUMBERS, help="How large.")] = (1, 2)
    only: Annotated[tuple[str, ...], Option(**NAMES)] = ()
    hidden: str = "no flag"


def recorded(**changes: Any) -> tuple[list[Options], Callable[[Sequence[str]], int]]:
    """Return the options that a command is called with, and the command."""
    calls: list[Options] = []

    @command("A command.\n\npython -m that shows how to call it\n")
    @with_flags(flags_of(Options, **changes))
    def main(**values: Any) -> int:
        calls.append(Options(**values))
        if "bad" in calls[-1].only:
            raise Unavailable("it is bad,\n  very bad.")
        return 7

    return calls, main


def test_a_dataclass_is_read_from_flags(capsys: pytest.CaptureFixture[str]) -> None:
    calls, main = recorded()
    assert main(["--source", "x"]) == 7
    assert main(["--source", "x", "--sizes", "3,0", "--only", "a, b", "--verbose"]) == 7
    assert calls == [
        Options(source="x"),
        Options(source="x", sizes=(3, 0), only=("a", "b"), verbose=True),
    ]
    assert main([]) == 2 and "'--source'" in capsys.readouterr().err
    for wrong in ("3,x", "-1", ""):
        assert main(["--source", "x", "--sizes", wrong]) == 2
        assert "'--sizes'" in capsys.readouterr().err
    assert main(["--source", "x", "--only", "bad"]) == 2
    assert capsys.readouterr().err == "test_command: it is bad, very bad.\n"


def test_a_command_has_defaults_and_words_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    calls, main = recorded(defaults={"sizes": (9,)}, helps={"sizes": "How wide."}, without=["only"])
    assert main(["--source", "x"]) == 7 and calls[0].sizes == (9,)
    main(["-h"])
    out = capsys.readouterr().out
    assert "How wide.  [default: 9]" in out and "--only" not in out and "how to call" not in out
    assert out.index("--sizes") < out.index("--verbose")


def test_an_interrupt_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    @command(None)
    def main() -> int:
        raise KeyboardInterrupt

    assert main([]) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("old", [None, "old"])
def test_a_file_is_whole_or_as_before_where_the_disk_takes_no_more(
    tmp_path: Path, old: str | None
) -> None:
    """A limit of the system's stands in for a full disk: what is over it is cut, and an error."""
    path, limits = tmp_path / "report.json", resource.getrlimit(resource.RLIMIT_FSIZE)
    if old is not None:
        path.write_text(old)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(Unavailable) as caught:
            keep("--save", path, b"x" * 9000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert re.fullmatch(rf"--save {path} cannot be written \(.+\); write to .+", str(caught.value))
    assert [each.read_text() for each in tmp_path.iterdir()] == ([] if old is None else [old])
    keep("--save", path, "new")
    assert [each.read_text() for each in tmp_path.iterdir()] == ["new"]


def test_a_file_may_be_a_link_or_a_device(tmp_path: Path) -> None:
    path, link = tmp_path / "report", tmp_path / "link"
    path.write_text("old")
    link.symlink_to(path)
    keep("--html", link, "new")
    assert link.is_symlink() and path.read_text() == "new"
    keep("--html", Path(os.devnull), "new")
    with pytest.raises(Unavailable, match="/dev/full cannot be written"):
        keep("--html", Path("/dev/full"), "new")
    assert Path("/dev/full").exists()


def test_one_of_some() -> None:
    @command(None)
    def main(name: Annotated[list[str], Option(parser=one_of("a", "b"))]) -> int:
        return len(name)

    assert [main(["--name", "a", "--name", "b"]), main(["--name", "c"])] == [2, 2]


def in_pages() -> list[str]:
    """Return the commands that bench's pages name, but for those of other programs."""
    lines: list[str] = []
    for page in (BENCH / "LOG.md", BENCH / "contestants" / "peers.md"):
        text = page.read_text().replace("\\\n", " ").replace("--url\n", "--url ")
        lines += re.findall(r"^(?:python|bessemer) .*", text, re.MULTILINE)
        lines += re.findall(r"`((?:python|bessemer) [^`\n]+)`", text)
    commands = dict.fromkeys(line.partition(" # ")[0].strip() for line in lines)
    return [each for each in commands if " bench " in each or "bessemer.bench" in each]


@pytest.mark.parametrize("line", in_pages())
def test_the_pages_name_commands_that_are_there(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their flags are known, that is; -h at the end leaves it at that."""
    argv = shlex.split(line.replace("bessemer bench", "python -m bessemer.bench.compare.cli"))
    module, *arguments = argv[argv.index("-m") + 1 :]
    assert import_module(module).main([*arguments, "-h"]) == 0, capsys.readouterr().err
