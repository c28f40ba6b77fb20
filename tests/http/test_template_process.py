"""The process that holds a chat template, spoken to as the server does, and left alone."""

import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from bessemer.http.template_process import (
    FAILED,
    LENGTH,
    OUT_OF_MEMORY,
    Answer,
    Loaded,
    Refused,
    Rendered,
    frame,
    packed,
    unpacked,
)
from bessemer.translate.chat import Chat, GenerationOptions, Message, Tool, ToolCall
from bessemer.translate.parts import Text, said
from tests.http.running import eventually

SOURCE = (
    "{% for m in messages %}{{ bos_token }}{{ m.content }}{% if m.content == 'loop' %}"
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}{% endif %}"
    "{{ raise_exception('no') if m.content == 'no' }}{% endfor %}"
)


def chat(text: str) -> Chat:
    return Chat("m", (Message("user", said(text)),))


@contextmanager
def process(source: str = SOURCE, seconds: int = 60) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-P", "-m", "bessemer.http.template_process"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as running:
        send(running, (source, {"bos_token": "<s>"}, "auto", 2**30, seconds))
        try:
            yield running
        finally:
            running.kill()


def send(running: "subprocess.Popen[bytes]", job: object) -> None:
    assert running.stdin
    running.stdin.write(frame(job))
    running.stdin.flush()


def reply(running: "subprocess.Popen[bytes]", kind: Any) -> Any:
    assert running.stdout
    (size,) = LENGTH.unpack(running.stdout.read(LENGTH.size))
    return msgspec.msgpack.decode(running.stdout.read(size), type=kind)


def test_what_a_template_reads_arrives_as_it_was_and_nothing_else() -> None:
    turns = (
        Message("user", (Text("a"), Text("b")), name="Ann"),
        Message("assistant", said("c"), "Hm.", calls=(ToolCall("1", "f", "{}"),)),
        Message("tool", said("d"), result_of="1"),
    )
    tools = (Tool("f", "F.", {"type": "object"}),)
    asked = GenerationOptions(n=2)
    whole = Chat("m", turns, asked, {"k": [1]}, continue_final=True, tools=tools, client="secret")
    plain = pickle.dumps(packed(whole))
    assert b"secret" not in plain and b"bessemer" not in plain
    assert unpacked(pickle.loads(plain)) == replace(
        whole, model="", options=GenerationOptions(), client=""
    )


def test_it_answers_one_job_after_another() -> None:
    with process() as running:
        assert reply(running, Loaded) == Loaded("", ())
        for text, limit in (("Hi", 100), ("no", 100), ("Hi", 1)):
            send(running, (packed(chat(text)), limit))
        assert reply(running, Answer) == Rendered("<s>Hi")
        refused = reply(running, Answer)
        assert isinstance(refused, Refused)
        assert (refused.status, refused.code) == (400, "invalid_conversation")
        assert reply(running, Answer).code == "context_length_exceeded"


def test_it_says_what_is_wrong_with_a_template() -> None:
    with process("{% if %}") as running:
        loaded = reply(running, Loaded)
        assert "line 1" in loaded.fault and loaded.notes
        send(running, (packed(chat("Hi")), 100))
        assert reply(running, Answer).code == "broken_chat_template"


def test_it_ends_when_nobody_speaks_to_it_any_more() -> None:
    with process() as running:
        reply(running, Loaded)
        assert running.stdin
        running.stdin.close()
        assert running.wait(20) == 0


def test_it_ends_in_the_middle_of_a_prompt_too() -> None:
    with process(seconds=1000) as running:
        reply(running, Loaded)
        send(running, (packed(chat("loop")), 100))
        assert running.stdin
        running.stdin.close()
        assert eventually(lambda: running.poll() == 0)


@pytest.mark.parametrize(
    ("sent", "code", "said"),
    [
        (frame(("no limit",)), FAILED, b"ValueError"),
        (LENGTH.pack(4) + b"none", FAILED, b"UnpicklingError"),
        (LENGTH.pack(2**40), OUT_OF_MEMORY, b""),
    ],
)
def test_an_error_of_its_own_ends_it_and_is_no_abort(sent: bytes, code: int, said: bytes) -> None:
    with process() as running:
        reply(running, Loaded)
        assert running.stdin and running.stderr
        running.stdin.write(sent)
        running.stdin.flush()
        assert running.wait(20) == code
        assert said in running.stderr.read()
