"""`bessemer run`: where its words go, by a toy backend; and one answer by the real model."""

import asyncio
import json
import subprocess
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bessemer.engine.settings import Settings
from bessemer.http import oneshot, startup
from bessemer.http.backends import Backends
from bessemer.http.config import Config, UsageError
from bessemer.http.gguf_models import DEFAULT
from bessemer.http.hub import BUILT_IN
from bessemer.http.log import Log
from bessemer.kernels.attention.pages import PAGE
from bessemer.translate.chat import Chat, GenerationOptions, Message, said
from tests.http.running import COMMAND, guide_copy
from tests.http.toy import ToyBackend

QUIET = Config(models=("guide",), log_level="error")


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ToyBackend:
    backend = ToyBackend("bessemer-guide")

    @asynccontextmanager
    async def started(*_: Any, **__: Any) -> AsyncGenerator[Backends, None]:
        yield Backends({backend.name: backend})

    monkeypatch.setattr(oneshot, "started", started)
    return backend


def test_the_answer_goes_to_stdout_and_thinking_to_stderr(
    model: ToyBackend, capfd: pytest.CaptureFixture[str]
) -> None:
    options = GenerationOptions(temperature=0.5, seed=7)
    assert oneshot.run(QUIET, "Hi", options, "Be brief.") == 0
    out, err = capfd.readouterr()
    assert (out, err) == ("Hello there\n", "Hm.")
    (chat,) = model.requests
    assert isinstance(chat, Chat) and chat.messages == (
        Message("system", said("Be brief.")),
        Message("user", said("Hi")),
    )
    assert chat.options == GenerationOptions(temperature=0.5, seed=7, stream=True)
    assert oneshot.run(QUIET, "Hi", options, None) == 0
    assert [message.role for message in model.requests[1].messages] == ["user"]  # type: ignore[union-attr]


def test_a_refusal_is_a_users_mistake(model: ToyBackend) -> None:
    model.breaks = 3
    with pytest.raises(UsageError, match=r"Toys break\."):
        oneshot.run(QUIET, "Hi", GenerationOptions(), None)
    assert model.closed == 1


def test_one_model_answers() -> None:
    with pytest.raises(UsageError, match="run answers with one model; give --model once"):
        oneshot.run(Config(models=("a", "b")), "Hi", GenerationOptions(), None)


def test_without_a_name_it_is_the_real_one(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    backend, asked = ToyBackend(DEFAULT), list[list[str]]()

    @asynccontextmanager
    async def started(
        models: Mapping[str, Path], *_: Any, **__: Any
    ) -> AsyncGenerator[Backends, None]:
        asked.append([*models])
        yield Backends({backend.name: backend})

    monkeypatch.setattr(oneshot, "started", started)
    assert oneshot.run(Config(), "Hi", GenerationOptions(), None) == 0
    assert asked == [[DEFAULT]] and capfd.readouterr().out == "Hello there\n"


def test_the_pool_is_what_one_answer_needs() -> None:
    chat = Chat("", (Message("user", said("Hi")),), GenerationOptions())
    config = Config(max_tokens=9, model=Settings(max_batch=64))

    async def plan() -> tuple[Any, int]:
        with Log("error") as log:
            async with startup.started({"guide": BUILT_IN}, config, log, question=chat) as models:
                (model,) = models.models.values()
                return model.status().plan, await model.count(chat)

    planned, prompt = asyncio.run(plan())
    assert planned.context == prompt + 9 and planned.pages == -(-(prompt + 9) // PAGE)


def test_a_pool_stops_at_the_models_context() -> None:
    result = subprocess.run(
        [*COMMAND, "run", "Hi ", "--max-tokens", "1000000"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 0 and result.stdout, result.stderr


def test_debug_says_sizes_and_no_contents() -> None:
    levels = {
        level: subprocess.run(
            [*COMMAND, "run", "Hi sesame", "--max-tokens", "3", "--log-level", level],
            capture_output=True, text=True, timeout=60, check=True,
        ).stderr
        for level in ("info", "debug")
    }  # fmt: skip
    assert not levels["info"] and "sesame" not in levels["debug"]
    for words in ("is ready: weights ", " tokens, at most 3 more)"):
        assert levels["debug"].count(words) == 1


def test_an_answer_ends_where_only_tokenizer_config_says_so(tmp_path: Path) -> None:
    directory = guide_copy(tmp_path / "model")
    settings = directory / "tokenizer_config.json"
    said = json.loads(settings.read_text())
    settings.write_text(json.dumps(said | {"eos_token": "Ġ--"}))
    result = subprocess.run(
        [*COMMAND, "run", "How do I serve a model?", "--model", str(directory)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert result.stdout == "Use bessemer serve\n"


def test_run_answers_once() -> None:
    result = subprocess.run(
        [*COMMAND, "run", "How do I serve a model?"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 0 and "bessemer serve --model" in result.stdout
    said = [line for line in result.stderr.splitlines() if "CPU kernels" not in line]
    assert not said  # but for the kernels that are compiled, or cannot be
    again = subprocess.run(
        [*COMMAND, "run", "-", "--max-tokens", "3"],
        input="How do I serve a model?", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert again.returncode == 0 and result.stdout.startswith(again.stdout.rstrip("\n"))
