"""`bessemer bench` as a user meets it: a child process, exit codes, one sentence for a mistake."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bessemer.bench.command import writable
from bessemer.bench.compare import cli, floor
from bessemer.bench.kernels import cli as kernels_cli
from bessemer.bench.models.shapes import ModelShape, shape
from bessemer.bench.models.synthetic import Storage, write
from tests.http.running import COMMAND, Server, serving


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one folder for all tests, so that C is compiled once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floor, "BUFFER", 1 << 24)
    monkeypatch.setattr(floor, "SECONDS", 0.01)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "100")


def bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, "bench", *arguments], capture_output=True, text=True, timeout=60
    )


def test_a_comparison_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["--tokens", "4", "--rounds", "2", "--context", "8,40", "--threads", "1"]
    assert cli.main(["decode", "--shape", "tiny", *quick, "--json", "--save"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [case["name"] for case in report["cases"]] == ["context 8", "context 40"]
    assert [len(row["samples"]) for row in report["rows"]] == [2, 2]
    assert len(report["floors"]["read, GB/s"]) == 2 and report["troubles"] == []
    assert report["model"]["name"] == "tiny" and report["machine"]["cores"] >= 1
    (saved,) = (tmp_path / "data" / "bessemer" / "bench").glob("*-decode-tiny.json")
    assert json.loads(saved.read_text()) == report
    log = tmp_path / "LOG.md"
    log.write_text("# Log\n")
    assert cli.main(["log", str(saved), "--into", str(log)]) == 0
    assert "bessemer bench decode --shape tiny" in log.read_text()
    assert cli.main(["log", str(saved), "--print"]) == 0
    assert capsys.readouterr().out.startswith("## 20")


def test_help_and_shapes(capsys: pytest.CaptureFixture[str]) -> None:
    done = bench("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in ("decode", "quality", "Usage: bessemer bench"))
    assert cli.main(["shapes"]) == 0
    assert "1,236 M parameters" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "excerpt"),
    [
        (["frob"], "No such command 'frob'"),
        (["decode", "--rounds", "0"], "'--rounds': Input should be greater than or equal to 1"),
        (["decode", "--context", "a,b"], "--context"),
        (["decode", "--shape", "x"], "no shape is called 'x'"),
        (["prefill", "--streams", "2"], "No such option: --streams"),
        (["decode", "--layers", "2"], "--layers goes with --shape"),
        (["decode", "--shape", "tiny", "--layers", "9"], "tiny has 2 layers"),
        (["decode", "--shape", "tiny", "--bits", "7"], "--bits is 7"),
        (["decode", "--shape", "tiny", "--model", "x"], "not allowed with argument"),
        (
            ["decode", "--model", "/no/where"],
            "neither a directory nor a GGUF file, nor a Hugging Face id",
        ),
        (["decode", "--against", "foo"], "'foo' is no peer"),
        (["decode", "--shape", "tiny", "--against", "llama.cpp", "--llama-cpp", "/no"], "peers.md"),
        (["decode", "--without-ours"], "nobody to measure"),
        (["load", "--against", "http://127.0.0.1:1"], "runs already"),
        (["log", "/no/such.json"], "cannot be read"),
        (["decode", "--save-to", "/dev/null/x"], "--save cannot make /dev/null/x: Not a directory"),
        (["html", "/no/such.json", "/no/page.html"], "FILE.html /no/page.html cannot be written"),
        (["log", __file__], "is no saved result"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], excerpt: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and excerpt in err
    assert err.startswith("bessemer bench: ") and err.endswith(".\n")


@pytest.mark.parametrize("place", ["/no/folder/page.html", "/dev"])
@pytest.mark.parametrize("main", [cli.main, kernels_cli.main], ids=["bench", "kernels"])
def test_a_page_that_cannot_be_written_is_refused_before_the_work(
    main: Any, place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (cli, kernels_cli):
        monkeypatch.setattr(module, "require_matplotlib", lambda: None)
    monkeypatch.setattr(cli, "measure", None)
    monkeypatch.setattr(kernels_cli, "profile", None)
    command = ["decode"] if main is cli.main else ["profile", "rms_norm"]
    assert main([*command, "--html", place]) == 2
    out, err = capsys.readouterr()
    assert out == "" and f"--html {place} cannot be written: " in err and err.count("\n") == 1


def test_a_page_that_can_be_written_is_not_left_empty(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("old")
    assert [writable("--html", str(path)) for path in (old, new)] == [old, new]
    assert old.read_text() == "old" and not new.exists()


def test_the_exit_code_of_the_child_is_ours() -> None:
    done = bench("decode", "--shape", "nothing")
    assert done.returncode == 2 and done.stderr.startswith("bessemer bench: no shape")


def test_an_architecture_that_the_engine_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {**shape("tiny").config, "model_type": "no_such_family"}
    write(tmp_path, ModelShape("odd", config, 2), Storage(), 1)
    assert cli.main(["decode", "--model", str(tmp_path), "--rounds", "1"]) == 2
    assert "model_type is 'no_such_family'" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_ends_with_all_its_processes(number: int, code: int) -> None:
    arguments = ["bench", "decode", "--shape", "tiny", "--rounds", "10000"]
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    family: list[psutil.Process] = []
    for _ in range(400):
        family = psutil.Process(process.pid).children(recursive=True)
        if len(family) >= 2:
            break
        time.sleep(0.02)
    assert len(family) >= 2
    time.sleep(0.3)
    os.kill(process.pid, number)
    assert process.wait(20) == code
    _, alive = psutil.wait_procs(family, 5)
    assert not alive


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("--max-tokens", "800") as running:
        yield running


@pytest.mark.parametrize("name", ["decode", "prefill", "batch", "serve"])
def test_a_url_is_a_contestant(
    name: str, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    amounts = {
        "decode": ["--tokens", "400", "--context", "5"],
        "prefill": ["--lengths", "30"],
        "batch": ["--tokens", "800", "--context", "5", "--streams", "2"],
        "serve": ["--tokens", "400", "--context", "5", "--streams", "2"],
    }
    arguments = ["--without-ours", "--against", server.url, "--rounds", "1", "--budget", "0"]
    assert cli.main([name, *arguments, *amounts[name], "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [each["label"] for each in report["contestants"]] == [f"endpoint :{server.port}"]
    speeds = [row for row in report["rows"] if row["metric"] == "speed"]
    assert len(speeds) == 1 and speeds[0]["median"] > 0


@pytest.mark.parametrize("name", ["load", "memory"])
def test_lives_of_our_own_server(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--rounds", "1", "--json"]) == 0
    figures = {row["metric"]: row["median"] for row in json.loads(capsys.readouterr().out)["rows"]}
    if name == "load":
        assert 0 < figures["ready"] <= figures["first"] < 60 and 0 < figures["run"] < 60
    else:
        assert figures["plain"] < figures["after"] <= figures["whole"] and figures["over"] > 0


def test_http_does_not_import_it() -> None:
    code = "import sys, bessemer.http.cli; print([m for m in sys.modules if 'bench' in m])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_an_endpoint_that_nobody_serves_is_an_error_without_a_table(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        code = subprocess.call(
            [sys.executable, "-P", "-m", "bessemer.bench.compare.cli", "quality", "--url", url]
        )
    shown = capfd.readouterr()
    assert (code, shown.out) == (2, "") and shown.err.count("\n") == 1
