"""`bessemer config` as a user meets it: what is printed where, exit codes, and no key in it."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from bessemer.http import cli
from bessemer.http.config import read_config
from bessemer.http.gateway.config_file import read
from bessemer.http.gateway.json_schema import json_schema

README = (Path(__file__).parents[3] / "http" / "README.md").read_text()
SECRET = "sk-very-secret-indeed"
FILE = f"""\
[server]
port = 8123
[providers.a]
url = "http://a"
api_key = "{SECRET}"
[tiers.fast]
targets = ["a/x", "a/y"]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("BESSEMER_MODELS", "BESSEMER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BESSEMER_CONFIG_DIR", str(tmp_path))
    return tmp_path


def config(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(["config", *arguments])
    shown = capsys.readouterr()
    assert SECRET not in shown.out + shown.err or arguments[0] == "import"
    return code, shown.out, shown.err


def test_list_prints_what_is_set(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "config.toml"
    path.write_text(FILE)
    code, out, err = config(capsys, "list")
    assert (code, err) == (0, "")
    lines = [line.split(maxsplit=1) for line in out.splitlines()]
    assert [key for key, _ in lines] == [
        "server.port", "providers.a.url", "providers.a.api_key", "tiers.fast.targets",
    ]  # fmt: skip
    assert lines[0][1].split() == ["8123", f"{path},", "line", "2"]
    assert lines[2][1].startswith("sk-****eed ")
    _, every, _ = config(capsys, "list", "--all")
    assert len(every.splitlines()) > 40 and "server.timeout" in every
    _, text, _ = config(capsys, "list", "--json")
    assert json.loads(text)[0] == {
        "key": "server.port", "value": 8123, "source": f"{path}, line 2",
    }  # fmt: skip


def test_path_is_the_file_s_that_is_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = config(capsys, "path")
    assert (code, out) == (0, f"{folder / 'config.toml'}\n") and "is not there" in err
    for name in ("config.toml", "config.work.toml"):
        (folder / name).write_text(FILE)
    assert config(capsys, "path") == (0, f"{folder / 'config.toml'}\n", "")
    assert config(capsys, "path", "--profile", "work")[1] == f"{folder / 'config.work.toml'}\n"
    other = str(folder / "config.work.toml")
    assert config(capsys, "path", "--config", other) == (0, f"{other}\n", "")
    code, out, err = config(capsys, "path", "--profile", "home")
    assert (code, out) == (2, "") and err.startswith("bessemer: there is no file")


def test_check_says_what_there_is_or_what_is_wrong(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert config(capsys, "check") == (0, "no file; the environment: nothing is set\n", "")
    path = folder / "config.toml"
    path.write_text(FILE)
    assert config(capsys, "check")[1] == f"{path}: 1 setting, 1 provider, 1 tier\n"
    monkeypatch.setenv("BESSEMER_PORT", "x")
    code, out, err = config(capsys, "check")
    assert (code, out) == (2, "") and err.startswith("bessemer: BESSEMER_PORT is 'x', but must be")
    monkeypatch.delenv("BESSEMER_PORT")
    path.write_text(FILE.replace("8123", "81234"))
    code, out, err = config(capsys, "check")
    assert (code, out) == (2, "") and f"{path}, line 2: server.port is '81234'" in err


def test_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = config(capsys, "schema")
    assert (code, err) == (0, "")
    Draft202012Validator.check_schema(json.loads(out))


def test_import_prints_and_reports(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = folder / "higgs.toml"
    source.write_text(
        f'[server]\nport = 1\n[local]\nmlx_profile = "x"\n[provider.a]\nurl = "http://a"\n'
        f'api_key = "{SECRET}"\n'
    )
    code, out, err = config(capsys, "import", str(source))
    assert code == 0 and tomllib.loads(out)["providers"]["a"]["api_key"] == SECRET
    assert err == (
        f"bessemer: {source} is Higgs's config.toml: 3 keys carried over; "
        "left out, in whole or in part: 1\n"
        "  local.mlx_profile: there are no profiles here; see --chunk and --max-batch\n"
    )
    into = folder / "config.toml"
    code, out, _ = config(capsys, "import", str(source), "--into", str(into))
    assert (code, out) == (0, "") and tomllib.loads(into.read_text())["server"] == {"port": 1}
    code, out, err = config(capsys, "import", str(source), "--into", str(into))
    assert (code, out) == (2, "") and "is there already; --force writes over it.\n" in err
    assert config(capsys, "import", str(source), "--into", str(into), "--force")[0] == 0


@pytest.mark.parametrize("text", ["[server\n", "[package]\nname = 'x'\n"])
def test_import_refuses_what_it_does_not_know(
    text: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.toml").write_text(text)
    code, out, err = config(capsys, "import", str(folder / "a.toml"))
    assert (code, out) == (2, "") and err.count("\n") == 1 and err.startswith("bessemer: ")


def test_the_readme_s_example_is_read(tmp_path: Path) -> None:
    """A provider of each format, an alias, a route, a tier and a default."""
    section = README.split("## The settings' file\n")[1]
    text = section.split("```toml\n")[1].split("```")[0]
    (tmp_path / "example.toml").write_text(text)
    file = read(tmp_path / "example.toml", {})
    read_config({}, {}, file.settings())
    tables = file.tables
    formats = {provider.format for provider in tables.providers.values()}
    assert formats == {"openai", "anthropic", "ollama", "responses"}
    assert tables.aliases and tables.routes and tables.tiers and tables.default
    Draft202012Validator(json_schema()).validate(tomllib.loads(text))


@pytest.mark.parametrize(
    "arguments", [["list", "--all"], ["schema"], ["check"], ["path"], ["import", "a.toml"]]
)
def test_no_command_loads_what_only_models_need(arguments: list[str], folder: Path) -> None:
    (folder / "a.toml").write_text("[provider.a]\nurl = 'http://a'\n")
    heavy = {"mlx", "numpy", "tokenizers", "huggingface_hub", "rich", "uvloop", "h11", "jinja2"}
    code = (
        "import sys; from bessemer.http.cli import main; "
        f"assert main({['config', *arguments]}) == 0; "
        f"print(sorted({heavy!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder
    )
    assert done.stderr.endswith("[]\n")
