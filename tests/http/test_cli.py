"""The command as a user meets it: a real process, exit codes, and one sentence for a mistake."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bessemer.http import cli
from bessemer.http.config import SETTINGS, UsageError

BESSEMER = Path(sys.executable).parent / "bessemer"


def bessemer(
    *arguments: str | bytes, stdin: bytes | str = b"", **environment: str
) -> tuple[int, str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("BESSEMER_", "HF_"))}
    done = subprocess.run(
        [str(BESSEMER), *arguments],
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        env=clean | {"BESSEMER_MODELS": "guide"} | environment,
        timeout=60,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_help(arguments: tuple[str, ...]) -> None:
    code, out, err = bessemer(*arguments)
    assert (code, err) == (0, "")
    assert all(command in out for command in ("serve", "run", "version"))


@pytest.mark.parametrize(
    "command",
    [
        *("", "serve", "run", "quantize", "convert", "version", "bench", "bench decode", "kernels"),
        *("config", "config list", "config path", "config schema", "config check", "config import"),
    ],
)
def test_every_command_shows_its_help_for_h_too(
    command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    shown = []
    for flag in ("--help", "-h"):
        assert cli.main([*command.split(), flag]) == 0
        shown.append(capfd.readouterr())
    assert shown[0] == shown[1] and not shown[0].err
    assert shown[0].out.lower().startswith(f"usage: bessemer {command}".strip())


def test_help_of_serve_names_every_setting() -> None:
    code, out, err = bessemer("serve", "--help", COLUMNS="80")
    assert out.strip() in (Path(__file__).parents[2] / "http" / "README.md").read_text()
    words = " ".join(out.split())
    assert (code, err) == (0, "")
    for source in SETTINGS.values():
        assert source.flag in words and source.environment[0] in words
    assert "default 8000" in words


@pytest.mark.parametrize("arguments", [("version",), ("--version",), ("-V",)])
def test_version(arguments: tuple[str, ...]) -> None:
    assert bessemer(*arguments) == (0, "bessemer 0.1.0\n", "")


@pytest.mark.parametrize("safe", [(), ("-P",)])
def test_the_package_is_the_command_too(safe: tuple[str, ...], tmp_path: Path) -> None:
    for where in (tmp_path, Path(__file__).parents[2]):
        argv = [sys.executable, *safe, "-m", "bessemer", "version"]
        done = subprocess.run(argv, cwd=where, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "bessemer 0.1.0\n", "")


def test_text_in_another_encoding_is_refused() -> None:
    latin = "caf\u00e9".encode("latin-1")
    code, out, err = bessemer("run", latin)
    assert (code, out) == (
        2,
        "",
    ) and "'caf\u00e9' is not in UTF-8, but perhaps in Latin-1.\n" in err
    code, out, err = bessemer("run", "-", stdin=latin)
    assert (code, out) == (2, "") and "is not UTF-8 (byte 3 is 0xe9); convert it" in err
    assert err.count("\n") == 1


def test_a_prompt_is_utf_8_whatever_the_locale() -> None:
    prompt = "\ufeffHow do I serve a model? \u00e9".encode()
    outcomes = [
        bessemer("run", "-", "--max-tokens", "3", stdin=prompt, PYTHONIOENCODING=encoding)
        for encoding in ("ascii", "utf-8")
    ]
    assert outcomes[0] == outcomes[1] and outcomes[0][0] == 0


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (("frob",), {}, "frob"),
        (("--frob",), {}, "--frob"),
        (("serve", "--prt", "1"), {}, "--prt"),
        (("serve", "--port"), {}, "--port"),
        (("serve", "--port", "abc"), {}, "--port is 'abc', but must be a whole number"),
        (("serve", "--port", "70000"), {}, "from 0 to 65535"),
        (("serve", "stray"), {}, "stray"),
        (("serve",), {"BESSEMER_TIMEOUT": "soon"}, "BESSEMER_TIMEOUT is 'soon'"),
        (("run",), {}, "prompt"),
        (("run", " "), {}, "the prompt is empty"),
        (("run", "-"), {}, "the prompt is empty"),
        (("run", "--temperature", "-1", "x"), {}, "--temperature"),
        (("run", "--temperature", "inf", "x"), {}, "--temperature"),
        (("run", "--seed", str(2**64), "x"), {}, "--seed"),
        (("run", "--model", "", "x"), {}, "--model is ''"),
        (("run", "--chat-template", " ", "x"), {}, "--chat-template is ' '"),
        (("serve", "--allowed-host", ""), {}, "--allowed-host is ''"),
        (("convert", "", "new"), {}, "the model is ''"),
        (("convert", "x.gguf", ""), {}, "'' exists already"),
        (("convert", "x.gguf", "/tmp"), {}, "/tmp exists already"),
        (("quantize", " ", "new"), {}, "the model is ' '"),
        (("config", "lst"), {}, "Did you mean 'list'?\n"),
        (("config", "list", "--config", "a", "--profile", "b"), {}, "name two files"),
        (("config", "import", "/no/such"), {}, "/no/such could not be read: No such file"),
        (("serv",), {}, "Did you mean 'serve'?\n"),
        (("run", "--max-tokens", "0", "x"), {}, "--max-tokens is '0'"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], environment: dict[str, str], words: str) -> None:
    code, out, err = bessemer(*arguments, **environment)
    assert (code, out) == (2, "")
    assert err.startswith("bessemer: ") and words in err
    assert err.count("\n") == 1 and err.endswith((".\n", "?\n"))


@pytest.mark.parametrize(
    ("end", "code"),
    [("sys.exit(0)", 0), ("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", 128 + 9)],
)
def test_a_command_in_a_process_of_its_own_ends_as_that_does(
    end: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that a signal has ended has a shell's code of it."""
    (tmp_path / "ending.py").write_text(f"import os, sys\n{end}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert cli.in_child("ending", []) == code


def test_a_new_directory_is_where_the_command_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli._new_directory("m") == tmp_path / "m"


def test_a_usage_error_further_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise UsageError("port 8000 is in use\nby another program")

    monkeypatch.setattr(cli, "read_config", refuse)
    assert cli.main(["serve"]) == 2
    assert capsys.readouterr().err == "bessemer: port 8000 is in use by another program.\n"


def test_reading_help_imports_nothing_heavy() -> None:
    heavy = {"mlx", "numpy", "tokenizers", "huggingface_hub", "rich", "uvloop", "h11", "jinja2"}
    code = (
        "import sys; from bessemer.http.cli import main; main(['serve', '--help']); "
        f"print(sorted({heavy!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
