"""`bessemer run`: what is asked of a scripted process; and one answer by the real one."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bessemer.engine.answer_wire import Ask, Begin, Link, answerer_link, asker_link
from bessemer.engine.command_line import StatusLine
from bessemer.engine.memory import Plan
from bessemer.engine.request import GenerationDefaults
from bessemer.engine.settings import OneAnswer, Settings
from bessemer.engine.text.loading import load_tokenizer
from bessemer.engine.wire import VERSION, Ready
from bessemer.http import oneshot
from bessemer.http.config import Config, UsageError
from bessemer.http.gguf_models import DEFAULT
from bessemer.http.hub import BUILT_IN
from bessemer.translate.chat import GenerationOptions
from tests.http.running import COMMAND, guide_copy

QUIET = Config(models=("guide",), log_level="error", max_tokens=9, model=Settings(threads=3))
VOCABULARY = 2048


@contextmanager
def answered(
    context: int, gone: bool = False, vocabulary: int = VOCABULARY
) -> Iterator[tuple[Link, list[Any]]]:
    """Yield a link to one that hears all, and is ready with such a context unless it is gone."""
    (hears, asks), (asked, tells) = os.pipe(), os.pipe()
    link, heard = answerer_link(hears, tells), list[Any]()

    def hear() -> None:
        while (message := link.receive()) is not None:
            heard.append(message)
            if isinstance(message, OneAnswer) and gone:
                os.close(tells)
            elif isinstance(message, OneAnswer):
                plan = Plan(1, 2, 3, 4, 5, context)
                defaults = GenerationDefaults(stop=["END"])
                link.send(Ready(VERSION, plan, "llama", defaults, vocabulary))

    thread = threading.Thread(target=hear)
    thread.start()
    try:
        yield asker_link(asked, asks), heard
    finally:
        os.close(asks)
        thread.join()
        for descriptor in (hears, asked, *(() if gone else (tells,))):
            os.close(descriptor)


def run(link: Link, config: Config = QUIET, system: str | None = None, **options: Any) -> int:
    chosen = GenerationOptions(**options)
    return oneshot.run(config, "Hi", chosen, system, link, StatusLine(live=False))


def test_what_is_asked() -> None:
    with answered(100) as (link, heard):
        assert run(link, system="Be brief.", temperature=0.5, seed=7) == 0
    begin, expected, ask = heard
    assert isinstance(begin, Begin) and isinstance(expected, OneAnswer) and isinstance(ask, Ask)
    assert (begin.name, begin.directory) == ("bessemer-guide", str(BUILT_IN))
    assert begin.settings == QUIET.model and begin.memory > 10**8 and not begin.live
    request, tokenizer = ask.request, load_tokenizer(BUILT_IN)
    assert expected == OneAnswer(len(request.tokens) + 9, tokenizer.eos)
    text = tokenizer.encoding.decode(list(request.tokens), skip_special_tokens=False)
    assert text.index("Be brief.") < text.index("Hi")
    assert (request.max_tokens, request.stop) == (9, ["END"])
    assert (request.sampling.temperature, request.sampling.seed) == (0.5, 7)
    names = ask.vocabulary.names
    assert len(names) > VOCABULARY and b"END" not in names[:3]
    with answered(100) as (link, heard):
        run(link)
    assert "Be brief." not in tokenizer.decode(heard[2].request.tokens)


def test_a_refusal_is_a_users_mistake() -> None:
    with answered(context=3) as (link, heard), pytest.raises(UsageError, match="3 tokens"):
        run(link)
    assert len(heard) == 2  # it was never asked


def test_nothing_is_said_where_the_other_process_has_gone(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with answered(0, gone=True) as (link, _):
        assert run(link) == 0
    assert capfd.readouterr() == ("", "")


def test_without_a_name_it_is_the_real_one() -> None:
    with answered(100, vocabulary=1 << 16) as (link, heard):
        run(link, Config(log_level="error", max_tokens=9))
    assert heard[0].name == DEFAULT and heard[0].directory.endswith(".gguf")


def test_one_model_answers() -> None:
    said = "run answers with one model; give --model once"
    with answered(9) as (link, heard), pytest.raises(UsageError, match=said):
        run(link, Config(models=("a", "b")))
    assert not heard


def test_a_pool_stops_at_the_models_context() -> None:
    result = subprocess.run(
        [*COMMAND, "run", "Hi ", "--max-tokens", "1000000"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 0 and result.stdout, result.stderr


def test_debug_says_sizes_and_no_contents() -> None:
    levels = {
        level: subprocess.run(
            [*COMMAND, "run", "Hi sesame", "--model", "guide", *("--max-tokens", "3"),
             *("--log-level", level)],
            capture_output=True, text=True, timeout=60, check=True,
        ).stderr
        for level in ("info", "debug")
    }  # fmt: skip
    assert not levels["info"] and "sesame" not in levels["debug"]
    for words in (" is planned: weights ", " tokens, at most 3 more"):
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
        [*COMMAND, "run", "How do I serve a model?", "--model", "guide"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 0 and "bessemer serve --model" in result.stdout
    said = [line for line in result.stderr.splitlines() if "CPU kernels" not in line]
    assert not said  # but for the kernels that are compiled, or cannot be
    again = subprocess.run(
        [*COMMAND, "run", "-", "--model", "guide", "--max-tokens", "3"],
        input="How do I serve a model?", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert again.returncode == 0 and result.stdout.startswith(again.stdout.rstrip("\n"))
