"""Models that cannot be served: one sentence on stderr, exit code 2, nothing left running."""

import ctypes
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bessemer.engine.worker import PULSE
from bessemer.http.config import Config
from bessemer.http.startup import watched
from bessemer.http.watchdog import Limits
from bessemer.kernels.cpu import library
from tests.engine.gguf.typed import EXACT, typed
from tests.http.running import COMMAND, guide_copy


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def message(result: subprocess.CompletedProcess[str]) -> str:
    """Return what stderr says: one line, without a traceback, and the exit code is 2."""
    assert result.returncode == 2, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("bessemer: ")]
    assert len(lines) == 1 and "Traceback" not in result.stderr, result.stderr
    return lines[0]


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_an_unsupported_type_is_named_with_the_supported_ones(tmp_path: Path) -> None:
    model = guide_copy(tmp_path / "odd")
    edit(model / "config.json", model_type="parrot")
    said = message(start("serve", "--port", "0", "--model", str(model)))
    for word in ("odd", "parrot", "llama", "mistral", "qwen2", "qwen3"):
        assert word in said


def test_a_truncated_weight_file_is_named(tmp_path: Path) -> None:
    model = guide_copy(tmp_path / "cut")
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    said = message(start("run", "hello", "--model", str(model)))
    assert "model.safetensors" in said


def test_config_and_weights_that_contradict_each_other(tmp_path: Path) -> None:
    model = guide_copy(tmp_path / "wrong")
    edit(model / "config.json", num_hidden_layers=9)
    assert "model.layers" in message(start("run", "hello", "--model", str(model)))
    edit(model / "config.json", num_hidden_layers=4, vocab_size=100)
    assert "model.embed_tokens.weight has shape" in message(
        start("serve", "--port", "0", "--model", str(model))
    )
    assert "ids go from 0 to 99" in message(start("run", "hello", "--model", str(model)))


def test_a_broken_tokenizer_is_named(tmp_path: Path) -> None:
    model = guide_copy(tmp_path / "mute")
    (model / "tokenizer.json").write_text("{")
    assert "tokenizer.json" in message(start("run", "hello", "--model", str(model)))


def test_two_models_of_one_name_and_paths_that_are_none(tmp_path: Path) -> None:
    model = str(guide_copy(tmp_path / "twin"))
    said = message(start("serve", "--port", "0", "--model", model, "--model", model))
    assert "twin" in said and "NAME=" in said
    assert "config.json" in message(start("serve", "--model", str(tmp_path)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        (b"\xff\xfe", "not UTF-8"),
        (b"Hi\n{% if %}", "line 2"),
        (b"{{ 'a' | nothing }}", "No filter named"),
    ],
)
def test_a_chat_template_that_cannot_be_used(
    tmp_path: Path, text: bytes | None, words: str
) -> None:
    file = tmp_path / "own.jinja"
    if text is not None:
        file.write_bytes(text)
    said = message(start("run", "hello", "--chat-template", str(file)))
    assert "chat" in said and words in said


@pytest.mark.parametrize("own", [True, False])
def test_a_chat_template_that_cannot_be_used_is_said_once(tmp_path: Path, own: bool) -> None:
    model, file = guide_copy(tmp_path / "odd"), tmp_path / "own.jinja"
    file.write_text("{% if %}")
    (model / "chat_template.jinja").write_text("{% if %}")
    flag = ["--chat-template", str(file)] if own else []
    result = start("run", "hello", "--model", str(model), *flag)
    assert "line 1" in message(result) and result.stderr.count("\n") == 1


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert port in message(start("serve", "--port", port))


def test_one_broken_model_stops_the_others_too(tmp_path: Path) -> None:
    model = guide_copy(tmp_path / "odd")
    edit(model / "config.json", model_type="parrot")
    result = start("serve", "--port", "0", "--model", "guide", "--model", str(model))
    assert "parrot" in message(result)


def test_a_pool_too_small_for_anything() -> None:
    said = message(start("serve", "--port", "0", "--kv-cache", "4KB"))
    assert "--kv-cache is 4 KB, but this model needs at least 525 KB." in said
    least = start("run", "Hi", "--max-tokens", "1", "--kv-cache", "525KB")
    assert least.returncode == 0, least.stderr


@pytest.mark.parametrize("command", [("run", "Hi"), ("serve", "--port", "0")])
def test_a_pool_larger_than_the_machine(command: tuple[str, ...]) -> None:
    said = message(start(*command, "--kv-cache", "400TB"))
    assert "--kv-cache asks for 4e+05 GB in all, but this machine has " in said


def test_an_error_of_the_worker_is_said_once(tmp_path: Path) -> None:
    model = guide_copy(tmp_path / "odd")
    edit(model / "config.json", model_type="parrot")
    for command in (("serve", "--port", "0"), ("run", "Hi")):
        result = start(*command, "--model", str(model))
        assert result.stderr.count("parrot") == result.stderr.count("bessemer: ") == 1


FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")


@pytest.mark.parametrize("name", FILES)
def test_a_directory_in_place_of_a_file(name: str, tmp_path: Path) -> None:
    model = guide_copy(tmp_path / "odd")
    (model / name).unlink(missing_ok=True)
    (model / name).mkdir()
    said = message(start("run", "Hi", "--model", str(model)))
    assert f"{model / name} " in said and "directory" in said and "missing" not in said


def without_privileges() -> None:
    """Take from root what lets it read any file (CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH)."""
    for capability in (1, 2):
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP, at the next exec


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
@pytest.mark.parametrize("name", [*FILES[:2], FILES[3], "", ".."])
def test_what_cannot_be_read_is_not_called_missing(name: str, tmp_path: Path) -> None:
    model = guide_copy(tmp_path / "outer" / "odd")
    closed = (model / name).resolve()
    closed.chmod(0)
    for command in (("run", "Hi", "--model"), ("serve", "--port", "0", "--model")):
        result = subprocess.run(
            [*COMMAND, *command, str(model)],
            capture_output=True, text=True, timeout=60, check=False,
            preexec_fn=without_privileges,
        )  # fmt: skip
        said = message(result)
        assert str(closed) in said and "(Permission denied); give this user the right" in said
    closed.chmod(0o755)


@pytest.mark.skipif(not library.compiled(), reason="there are no C kernels")
def test_kernels_that_the_processor_cannot_run() -> None:
    missing = next(name for name in library.TIERS if name not in library.tiers())
    said = message(start("run", "hello", "--cpu-tier", missing))
    assert f"the CPU tier {missing} does not run on this machine, which has: " in said


def test_files_that_are_no_weights_to_read(tmp_path: Path) -> None:
    model = guide_copy(tmp_path / "odd")
    weights = model / "model.safetensors"
    weights.rename(model / "model-00001-of-00002.safetensors")
    said = message(start("run", "hello", "--model", str(model)))
    assert "model-00002-of-00002.safetensors is missing" in said
    (model / "model-00001-of-00002.safetensors").rename(model / "model.gguf")
    assert "is a GGUF file" in message(start("run", "hello", "--model", str(model)))
    assert "does not begin with GGUF" in message(
        start("serve", "--model", str(model / "model.gguf"))
    )
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n")
    said = message(start("quantize", str(model), str(tmp_path / "into")))
    assert f"{weights} is a git-lfs pointer" in said


def test_a_gguf_file_that_lies(tmp_path: Path) -> None:
    path = typed(tmp_path / "m.gguf", EXACT, {"llama.block_count": "two"})
    assert message(start("run", "hello", "--model", str(path))).endswith(
        "m.gguf: llama.block_count is 'two', expected a number of things; fetch it again."
    )
    said = message(start("convert", str(path), str(tmp_path / "into")))
    assert "llama.block_count is 'two'" in said and not (tmp_path / "into").exists()
    said = message(start("convert", str(tmp_path), str(tmp_path / "into")))
    assert "m.gguf: llama.block_count" in said  # the directory's one model


def test_weights_under_a_number_are_served(tmp_path: Path) -> None:
    model = guide_copy(tmp_path / "one")
    (model / "model.safetensors").rename(model / "model-00001-of-00001.safetensors")
    result = start("run", "hello", "--max-tokens", "2", "--model", str(model))
    assert result.returncode == 0 and result.stdout.strip(), result.stderr


@pytest.mark.parametrize(
    ("watchdog", "timeout", "limits"),
    [(30, 300, (30, 300)), (40, 300, (40, 400)), (3, 5, (3, 30)), (0.1, 0.1, (2, 20))],
)
def test_the_watchdog_waits_for_more_than_one_sign_of_life(
    watchdog: float, timeout: float, limits: tuple[float, float]
) -> None:
    assert watched(Config(watchdog=watchdog, timeout=timeout)) == Limits(*limits)
    assert limits[0] >= 2 * PULSE
