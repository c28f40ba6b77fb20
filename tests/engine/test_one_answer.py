"""The process that answers, driven as the one that asks drives it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec import structs

from bessemer.engine.answer_wire import Ask, Begin, Link, asker_link
from bessemer.engine.request import Request, Sampling, Thought
from bessemer.engine.serving import LoadedModel, load
from bessemer.engine.settings import OneAnswer, Settings
from bessemer.engine.text.vocabulary import VocabularyFile
from bessemer.engine.wire import Ready

GUIDE = Path(__file__).parents[2] / "engine" / "guide"
PATIENCE = 60.0  # seconds until a test gives up
GREEDY = Sampling(temperature=0)


@dataclass
class Answerer:
    process: subprocess.Popen[str]
    link: Link
    life: int  # what it lives by

    def begin(self, directory: Path = GUIDE) -> None:
        self.link.send(Begin("toy", str(directory), 10**9, Settings(threads=1), live=False))

    def expect(self, tokens: int = 60) -> Ready:
        self.link.send(OneAnswer(tokens, None))
        ready = self.link.receive()
        assert isinstance(ready, Ready)
        return ready

    def ask(self, model: LoadedModel, **fields: object) -> None:
        request = Request(id=1, tokens=prompt(model), max_tokens=12, sampling=GREEDY)
        changed = structs.replace(request, **fields)
        self.link.send(Ask(changed, VocabularyFile.of(model.tokenizer.encoding)))

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err


@contextmanager
def answerer() -> Iterator[Answerer]:
    (hears, asks), (asked, tells), (ends, life) = os.pipe(), os.pipe(), os.pipe()
    theirs = (hears, tells, ends)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "bessemer.engine.one_answer", *map(str, theirs)],
        pass_fds=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for descriptor in theirs:
        os.close(descriptor)
    try:
        yield Answerer(process, asker_link(asked, asks), life)
    finally:
        process.kill()
        process.communicate()
        for descriptor in (asks, asked, life):
            with suppress(OSError):
                os.close(descriptor)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load(GUIDE, Settings(max_batch=1), 10**9)


def prompt(model: LoadedModel) -> list[int]:
    return model.tokenizer.encode("<|user|>How do I serve a model?<|assistant|>")


def greedy(model: LoadedModel, count: int = 12) -> list[int]:
    model.engine.submit(
        Request(id=1, tokens=prompt(model), max_tokens=count, sampling=GREEDY, ignore_eos=True)
    )
    return [token for event in model.engine.run() for token in getattr(event, "tokens", ())]


def test_it_prints_what_the_engine_says_and_thoughts_on_stderr(model: LoadedModel) -> None:
    tokens, decode = greedy(model), model.tokenizer.decode
    whole = decode(tokens)
    cuts = (whole[at : at + 3] for at in range(3, len(whole)))
    close = next(cut for cut in cuts if whole.count(cut) == 1)  # a mark, somewhere in the answer
    with answerer() as it:
        it.begin()
        assert it.expect().plan.context == 60
        thought = Thought("never", close, "thought")
        it.ask(model, ignore_eos=True, thought=thought)
        os.write(it.life, b"\n")
        code, out, err = it.end()
    reasoning, _, text = whole.partition(close)
    assert (code, out, err) == (0, f"{text}\n", reasoning) and reasoning and text


def test_a_stop_string_ends_it(model: LoadedModel) -> None:
    tokens, decode = greedy(model), model.tokenizer.decode
    stop = decode(tokens[4:6])
    with answerer() as it:
        it.begin()
        it.expect()
        it.ask(model, ignore_eos=True, stop=[stop])
        os.write(it.life, b"\n")
        code, out, _ = it.end()
    assert code == 0 and out == decode(tokens).partition(stop)[0] + "\n"


def test_weights_are_read_only_when_the_other_process_has_gone(
    model: LoadedModel,
) -> None:
    with answerer() as it:
        it.begin()
        it.expect()
        it.ask(model)
        with pytest.raises(subprocess.TimeoutExpired):
            it.process.wait(0.3)
        os.write(it.life, b"\n")
        assert it.end()[0] == 0


def test_a_request_that_can_never_be_answered_is_a_sentence(model: LoadedModel) -> None:
    with answerer() as it:
        it.begin()
        it.expect(tokens=8)  # fewer than the prompt has
        it.ask(model)
        os.write(it.life, b"\n")
        code, out, err = it.end()
    assert (code, out) == (2, "") and err.startswith("bessemer: ") and err.count("\n") == 1


def test_a_model_that_cannot_be_loaded_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "parrot"}')
    with answerer() as it:
        it.begin(tmp_path)
        it.link.send(OneAnswer(9, None))
        assert it.link.receive() is None
        code, out, err = it.end()
    assert (code, out) == (2, "") and err.startswith("bessemer: toy: ") and "is missing" in err


@pytest.mark.parametrize("stage", ["at once", "begun", "expected"])
def test_it_ends_without_a_word_where_nobody_asks(stage: str) -> None:
    with answerer() as it:
        if stage != "at once":
            it.begin()
        if stage == "expected":
            it.expect()
        os.close(it.link._writes)
        assert it.end() == (0, "", "")


@pytest.mark.parametrize("stage", ["at once", "expected"])
def test_it_ends_with_its_launcher(stage: str) -> None:
    with answerer() as it:
        if stage == "expected":
            it.begin()
            it.expect()
        os.close(it.life)
        code, out, err = it.end()
    assert (out, err) == ("", "") and code == 0


def test_who_starts_it_may_be_larger_than_its_plan() -> None:
    """Linux's rusage has the starter's highest memory too."""
    script = (
        "import subprocess, sys; held = bytearray(b'x' * 3 * 10**8)\n"
        "sys.exit(subprocess.call([sys.executable, '-P', '-c', "
        "'from bessemer.engine.one_answer import _program; print(_program())']))"
    )
    command = [sys.executable, "-P", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert 10**6 < int(done.stdout) < 2 * 10**8
