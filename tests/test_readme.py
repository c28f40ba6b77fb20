"""The READMEs say what is there: maps, commands and flags, links, endpoints; their examples run."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

import pytest

from bessemer.architectures.encoder_families import FAMILIES as ENCODERS
from bessemer.architectures.registry import FAMILIES, supported
from bessemer.http.backends import Backends
from bessemer.http.endpoints import endpoints
from bessemer.http.gguf_models import DEFAULT
from tests.engine.tiny_embedders import EMBEDDERS, RERANKERS
from tests.http.running import COMMAND, Server, serving

ROOT = Path(__file__).parents[1]
MAPPED = ("kernels", "architectures", "engine", "translate", "http", "bench")
SOURCES = (".py", ".c", ".cpp", ".metal")
PAGES = {"README.md": (ROOT / "README.md").read_text()} | {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for folder in (*MAPPED, "tests")
    for pattern in ("README.md", "*/README.md", "*/peers.md")
    for path in (ROOT / folder).glob(pattern)
}
FILES = {
    path.relative_to(ROOT).as_posix()
    for folder in (*MAPPED, "tests")
    for path in (ROOT / folder).rglob("*.*")
}
URL = "http://127.0.0.1:8000"


def rooms(folder: str) -> set[str]:
    below = (path for path in (ROOT / folder).iterdir() if path.is_dir())
    return {path.name for path in below if path.name != "__pycache__" and any(path.iterdir())}


def section(text: str, heading: str) -> str:
    return re.split(r"^#+ ", text.split(f"# {heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def test_the_root_is_short() -> None:
    assert len(PAGES["README.md"].splitlines()) <= 220


@pytest.mark.parametrize("folder", MAPPED)
def test_the_root_names_each_room(folder: str) -> None:
    (row,) = re.findall(
        rf"^\| \[{folder}/\]\({folder}/README.md\) \| (.*?) \|", PAGES["README.md"], re.M
    )
    assert set(re.findall(r"`(\w+)/`", row)) == rooms(folder)


@pytest.mark.parametrize("folder", MAPPED)
def test_the_map_is_the_disk(folder: str) -> None:
    """Each source has a name or a pattern in its folder's rows, and each of these some file."""
    text = PAGES[f"{folder}/README.md"]
    names, subfolder = defaultdict(set), ""
    for where, files in re.findall(r"^\| (?:`(\w+)/` )?\| (`.*?) \|", section(text, "Map"), re.M):
        subfolder = where or subfolder
        names[subfolder] |= set(re.findall(r"`([\w*]+)`", files))
    stems = {
        subfolder: {path.stem for path in (ROOT / folder / subfolder).iterdir()}
        for subfolder in names
    }
    for subfolder, patterns in names.items():
        for pattern in patterns:
            assert any(fnmatch(stem, pattern) for stem in stems[subfolder]), (
                f"{subfolder}/{pattern}"
            )
    families = {*FAMILIES.values(), *ENCODERS.values()} if folder == "architectures" else set()
    for path in (ROOT / folder).rglob("*.*"):
        if path.suffix in SOURCES and path.stem not in families:
            subfolder = "" if path.parent == ROOT / folder else path.parent.name
            assert any(fnmatch(path.stem, pattern) for pattern in names[subfolder]), path


def test_the_table_of_models_is_the_registry() -> None:
    table = section(PAGES["architectures/README.md"], "Models").split("| weights |")[0]
    assert sorted(re.findall(r"`([\w-]+)`", table.split("|---|---|")[1])) == supported()


def test_every_endpoint_is_there() -> None:
    text = section(PAGES["http/README.md"], "Endpoints")
    for _, path in endpoints(Backends({})):
        assert f"{path}`" in text, path


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        path, _, anchor = target.partition("#")
        file = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert file.exists(), target
        headings = re.findall(r"^#+ (.+)$", file.read_text(), re.M) if anchor else []
        anchors = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}
        assert not anchor or anchor in anchors, target


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page: str) -> None:
    text = PAGES[page].split("## Write a kernel in ten minutes")[0]
    for name in re.findall(r"`([\w/]+\.(?:py|c|h|metal|toml|md))`", text):
        known = any(f"/{file}".endswith(f"/{name}") for file in (*FILES, *PAGES))
        assert known or "foo" in name, name


def commands() -> Iterator[list[str]]:
    """The command lines of all pages, without variables before them and the virtual environment."""
    start = re.compile(r"(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?((?:bessemer|python|make) .+)")
    for text in PAGES.values():
        blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
        shell = "".join(block for language, block in blocks if not language)
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
        spans = (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose))
        for line in (*shell.splitlines(), *spans):
            if match := start.fullmatch(line):
                yield shlex.split(match[1], comments=True)


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_written_as_they_run_after_make_install(page: str) -> None:
    """No shell has our programs on its path, and no package index has the package."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", PAGES[page], re.M | re.S):
        bare = re.findall(r"^(?:bessemer|python -m (?:bessemer|tests)).*", block, re.M)
        assert language or not bare
    assert "bessemer[" not in PAGES[page]


def helps() -> dict[tuple[str, ...], set[str]]:
    """The flags that the pages give to each command of `bessemer`, and to each module of ours."""
    flags: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for program, *rest in commands():
        if program == "make":
            continue
        name: tuple[str, ...] = tuple(rest[:1])
        if program == "python":
            name = tuple(part for part in rest[:3] if part != "-P")[:2]
            if name[0] != "-m" or not name[1].startswith(("bessemer.", "tests.")):
                continue
        elif name[0] in ("bench", "kernels", "config"):
            name = tuple(part for part in rest[:2] if part[0] not in "-/")
        flags[name] |= {part for part in rest if part.startswith("--")}
    return flags


HELPS = helps()


def test_the_pages_name_commands() -> None:
    assert len(HELPS) > 20 and HELPS["serve",] and HELPS["bench", "decode"]


def help_of(*command: str) -> str:
    ours = command[:1] != ("-m",)
    done = subprocess.run(
        [*(COMMAND if ours else [sys.executable]), *command, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "80"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("command", [name for name in HELPS if HELPS[name]], ids=" ".join)
def test_commands_take_their_flags(command: tuple[str, ...]) -> None:
    text = help_of(*command)
    assert HELPS[command] <= set(re.findall(r"--[\w-]+", text))
    if command == ("route",):
        assert text.strip() in PAGES["http/README.md"]
    if command == ("serve",):
        page = PAGES["http/README.md"]
        assert text.strip() in page
        tables = re.findall(r"^\| .*?`(--[\w-]+)", page, re.M)
        assert tables and set(tables) <= set(re.findall(r"--[\w-]+", text))


@pytest.mark.parametrize("group", [(), ("bench",), ("kernels",), ("config",)], ids=" ".join)
def test_commands_exist(group: tuple[str, ...]) -> None:
    below = {name[len(group)] for name in HELPS if name[0] != "-m" and name[:-1] == group}
    assert below and below <= set(re.findall(r"^ +(\w+)", help_of(*group), re.M))


def test_modules_exist() -> None:
    for name in HELPS:
        assert name[0] != "-m" or find_spec(name[1]) is not None, name


# Commands that run here as they are written, from the project's root.
QUICK = (
    "bessemer kernels", "bessemer bench shapes", "bessemer bench quality",
    "bessemer kernels profile attention --shape qwen3-1.7b --context 4096 --chip m4-max",
    "bessemer config check", "bessemer config list --all",
)  # fmt: skip
SLOW = (
    "bessemer bench decode", "bessemer bench load", "bessemer bench memory",
    "bessemer bench batch", "bessemer bench prefill",
    "bessemer bench host --shape qwen3-1.7b --chip m2-pro --streams 1,8 --host-scale 0.6",
    "python -m bessemer.bench.guide.precision", "python -m bessemer.bench.kernels.dispatches",
    "python -m bessemer.bench.serving.lifecycle", "python -m bessemer.bench.models.families",
    "python -m bessemer.bench.kernels.moe_prefill", "python -m bessemer.bench.serving.loading",
    "python -m bessemer.bench.serving.siege", "python -m bessemer.bench.serving.soak",
    "python -m bessemer.bench.serving.grammars",
    "python -m bessemer.bench.serving.long_prompts",
    "python -m bessemer.bench.serving.streaming",
    "python -m bessemer.bench.serving.gateway",
)  # fmt: skip
# Why others are not run, by a pattern of theirs; the first that fits counts.
NOT_RUN = {
    r"make .*": "the Makefile's own targets, which run these tests or install",
    r".*(Qwen/|mlx-community/|bartowski/|BAAI/)": "a model is downloaded",
    r".*~/models/": "a model of the user's own",
    r".* (--against|--base|--url|--tokenizer|--llama-cpp|http:)":
        "a peer, a server or a directory is needed",
    r".*(--capture|kernels (bench|compile))": "a Mac",
    r"bessemer config (schema >|import)":
        "a file is written; tests/http/gateway/test_config_command.py has it",
    r"bessemer route NAME": "a name in the text; tests/http/gateway/test_commands.py has it",
    r"bessemer kernels export": "it takes minutes; test_export.py has it",
    r".*(--html|bench html)": "matplotlib, which is an extra; test_cli.py has the page",
    r".*(softcap)": "the kernel that a reader has written by then",
    r"python -m (venv|mlx_vlm)": "another program",
    r"bessemer route ": "a configuration is needed; tests/http/gateway/test_commands.py has it",
    r"bessemer( bench)?$|bessemer (bench (serve|host|log)|kernels profile)$":
        "a name in the text, not a whole command, or tested in tests/http",
    r"bessemer (serve|run|quantize|convert|route)$":
        "a name in the text, not a whole command, or tested in tests/http",
    r"bessemer doctor": "a Mac; tests/bench/report/test_cli.py has it",
    r"python -m bessemer.bench.guide.train": "it takes an hour",
    r"python -m bessemer$": "tested in tests/http/test_cli.py",
    r"bessemer bench$": "its help",
    r"python -m bessemer.bench.kernels.traffic": "exits with 1 where a figure is over its limit",
}  # fmt: skip


def lines_of_pages() -> set[str]:
    return {" ".join(words) for words in commands()}


def test_every_command_runs_or_has_its_reason() -> None:
    """A command that a page gains is put in one of the tables above."""
    for line in lines_of_pages():
        known = line in (*QUICK, *SLOW) or any(re.match(each, line) for each in NOT_RUN)
        assert known, f"{line}: add it to QUICK or SLOW, or say why it cannot run"
    assert {*QUICK, *SLOW} <= lines_of_pages()


def run_as_written(line: str) -> None:
    program, *rest = shlex.split(line)
    argv = [str(Path(sys.executable).parent / program), *rest]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() and "Traceback" not in done.stderr


@pytest.mark.parametrize("line", QUICK)
def test_a_command_runs_as_written(line: str) -> None:
    run_as_written(line)


@pytest.mark.long
@pytest.mark.parametrize("line", SLOW)
def test_a_long_command_runs_as_written(line: str) -> None:
    run_as_written(line)


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    named_targets = {rest[0] for program, *rest in commands() if program == "make"}
    assert "test" in named_targets and named_targets <= targets


def test_the_python_in_process_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGES["engine/README.md"], re.S)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert len(done.stdout) > 10


def test_what_clients_send_is_answered(tmp_path: Path) -> None:
    """The Python of http/README.md, and each curl; tiny models stand in for published ones."""
    embedder = replace(EMBEDDERS["no_modules"], limit=160).write(tmp_path / "embedder")
    reranker = RERANKERS["raw"].write(tmp_path / "reranker")
    models = (f"all-MiniLM-L6-v2={embedder}", f"bge-reranker-base={reranker}", "guide", DEFAULT)
    with serving(*(part for model in models for part in ("--model", model))) as server:
        (code,) = re.findall(r"```python\n(.*?)```", PAGES["http/README.md"], re.S)
        subprocess.run([sys.executable, "-c", code.replace(URL, server.url)], cwd=ROOT, check=True)
        assert [try_curl(server, *each) for each in curls()].count("stream") == 1


def curls() -> list[tuple[str, str]]:
    """Return the path and the body of each curl."""
    pattern = rf"^curl(?: -N)? {URL}(\S+) -d '(.*?)'$"
    return [curl for text in PAGES.values() for curl in re.findall(pattern, text, re.M | re.S)]


def try_curl(server: Server, path: str, body: str) -> str:
    request = json.loads(body)
    if request.get("stream"):
        events = list(server.stream(path, request))
        assert len(events) > 5 and events[-1][1] == "[DONE]"
        return "stream"
    status, answer, _ = server.ask("POST", path, request)
    assert status == 200, answer
    return "whole"
