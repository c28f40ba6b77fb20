"""Templates that want all memory or time, and processes killed for real: only a request is lost."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from bessemer.engine.request import Refusal
from bessemer.http import template_host
from bessemer.http.template_host import TemplateHost
from bessemer.http.template_process import LENGTH, frame
from bessemer.translate.chat import Chat, Message
from bessemer.translate.parts import said
from tests.http.running import Server, eventually, guide_copy, serving

CALM = "{% if messages[0].content != 'Hi' %}calm{% else %}"
FOREVER = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


def ask(text: str, client: str = "") -> Chat:
    return Chat("m", (Message("user", said(text)),), client=client)


def run(
    source: str | None,
    use: Callable[[TemplateHost], Coroutine[Any, Any, None]],
    memory: int = template_host.MEMORY,
    seconds: int = 1,
    told: bool = False,
) -> str:
    """Use a template in a process of its own; return what the log says."""
    lines: list[str] = []
    log: Any = SimpleNamespace(warning=lines.append)

    async def started() -> None:
        host = TemplateHost("m", log, memory, seconds)
        await host.start(source, {"bos_token": "<s>"}, told)
        try:
            await use(host)
        finally:
            await host.stop()

    asyncio.run(started())
    return "\n".join(lines)


async def refusal(host: TemplateHost, text: str = "Hi") -> Refusal:
    with pytest.raises(Refusal) as caught:
        await host.render(ask(text), 2**20)
    return caught.value


def child(host: TemplateHost) -> psutil.Process:
    assert host._process is not None
    return psutil.Process(host._process.pid)


def test_prompts_are_those_of_the_template() -> None:
    async def use(host: TemplateHost) -> None:
        assert await host.render(ask("Hi"), 100) == "<s>Hi"
        many = [host.render(ask(str(number)), 100) for number in range(20)]
        assert await asyncio.gather(*many) == [f"<s>{number}" for number in range(20)]
        long = "é" * 2_000_000
        assert await host.render(ask(long), 10**7) == f"<s>{long}"

    assert run("{{ bos_token }}{{ messages[0].content }}", use) == ""


# What a single operation makes too large, and what grows in steps; each refused or out of memory.
LARGE = {
    "ljust": "{{ 'a'.ljust(3000000000) }}",
    "percent": "{{ '%3000000000d' % 1 }}",
    "star": "{{ '%*d' % (3000000000, 1) }}",
    "format filter": "{{ '%3000000000d' | format(1) }}",
    "format": "{{ '{:3000000000}'.format(1) }}",
    "nested format": "{{ '{:{}}'.format(1, 3000000000) }}",
    "center": "{{ 'a' | center(3000000000) }}",
    "indent": "{{ 'a\nb' | indent(3000000000) }}",
    "tojson": "{{ [[1]] | tojson(indent=3000000000) }}",
    "bytes": "{{ 'a'.encode().ljust(3000000000) }}",
    "number": "{{ (1).to_bytes(3000000000) }}",
    "batch": "{{ [1] | batch(3000000000, 'x') | list }}",
    "replace": "{% set x = 'a' * 1000000 %}{{ x | replace('a', x) }}",
    "join": "{% set x = 'a' * 1000000 %}{{ x.join(([x] * 1000000) | map('upper')) }}",
    "translate": "{% set x = 'a' * 1000000 %}{{ x.translate({97: x}) }}",
    "tilde": "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}"
    "{% endfor %}",
    "plus": "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}"
    "{% endfor %}",
}


@pytest.mark.parametrize("name", LARGE)
def test_a_prompt_that_takes_too_much_memory(name: str) -> None:
    async def use(host: TemplateHost) -> None:
        fault = await refusal(host)
        assert (fault.status, fault.code) == (500, "broken_chat_template")
        assert "too large" in fault.message or "too much memory" in fault.message
        assert await host.render(ask("again"), 100) == "calm"

    run(CALM + LARGE[name] + "{% endif %}", use, memory=2**28, seconds=30)


LONG = {
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
    "{{ f(60) }}",
    "shared lists": "{% set n = namespace(x=[1]) %}{% for i in range(60) %}"
    "{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
}


@pytest.mark.parametrize("name", LONG)
def test_a_prompt_that_takes_too_much_time(name: str) -> None:
    async def use(host: TemplateHost) -> None:
        first = child(host)
        fault = await refusal(host)
        assert (fault.status, fault.code) == (500, "broken_chat_template")
        assert "too much time" in fault.message or "too much memory" in fault.message
        assert await host.render(ask("again"), 100) == "calm"
        assert child(host).pid != first.pid or "memory" in fault.message

    said = run(CALM + LONG[name] + "{% endif %}", use)
    assert "process was ended: it takes too much time" in said or name == "shared lists"


def dear(host: TemplateHost, client: str = "") -> "asyncio.Task[str]":
    return asyncio.create_task(host.render(ask("Hi", client), 100))


def test_one_dear_prompt_does_not_hold_up_the_others() -> None:
    async def use(host: TemplateHost) -> None:
        slow = dear(host)
        await asyncio.sleep(0)  # it begins
        others = [host.render(ask(str(number)), 100) for number in range(20)]
        assert await asyncio.gather(*others) == ["calm"] * 20
        assert not slow.done()
        (relief,) = host._reliefs.values()
        processes = child(host), child(relief)
        assert await host.render(ask("again"), 100) == "calm"
        assert processes == (child(host), child(relief))  # and there is no third one
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        await host.stop()
        assert not any(process.is_running() for process in processes)

    assert "ended" not in run(f"{CALM}{FOREVER}{{% endif %}}", use, seconds=60)


@pytest.mark.parametrize("count", [2, 5])
def test_however_many_dear_prompts_of_one_client_hold_up_no_other(count: int) -> None:
    async def use(host: TemplateHost) -> None:
        slow = [dear(host, "greedy") for _ in range(count)]
        await asyncio.sleep(template_host.BUSY * 2)  # two are being rendered
        others = [host.render(ask("Hello", f"client {number}"), 100) for number in range(5)]
        async with asyncio.timeout(50):  # less than one of them may take
            assert await asyncio.gather(*others) == ["calm"] * 5
        assert not any(each.done() for each in slow)
        hosts = (host, *host._reliefs.values())
        processes = [child(each) for each in hosts]
        assert len(processes) == 3
        for each in slow:
            each.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        assert (
            await host.render(ask("Hello", "greedy"), 100) == "calm"
        )  # nothing is held against it
        assert {each._client for each in hosts} == {None}
        await host.stop()
        assert not any(process.is_running() for process in processes)

    assert "ended" not in run(f"{CALM}{FOREVER}{{% endif %}}", use, seconds=60)


@pytest.mark.parametrize("told", [False, True])
def test_a_fault_is_logged_unless_the_user_is_told(told: bool) -> None:
    async def use(host: TemplateHost) -> None:
        assert (await refusal(host)).code == "broken_chat_template"

    assert (run("{% if %}", use, told=told) == "") == told


def test_a_template_that_nothing_can_be_done_with_is_started_once() -> None:
    async def use(host: TemplateHost) -> None:
        assert host._process is None
        for text in ("Hi", "again"):
            assert "too much time" in (await refusal(host, text)).message
        assert host._process is None

    assert run(FOREVER, use).count("process was ended") == 1


def test_memory_is_looked_at_where_the_system_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(host: TemplateHost) -> None:
        with monkeypatch.context() as context:
            context.setattr(template_host, "_resident", lambda process: 2**40)
            assert "too much memory" in (await refusal(host)).message
        assert await host.render(ask("again"), 100) == "calm"

    run(CALM + FOREVER + "{% endif %}", use, seconds=60)


def test_the_clock_ends_what_takes_no_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(host: TemplateHost) -> None:
        child(host).suspend()
        with monkeypatch.context() as context:
            context.setattr(template_host, "PATIENCE", 0.2)
            assert "too much time" in (await refusal(host)).message
        assert await host.render(ask("again"), 100) == "calm"

    run(CALM + "{% endif %}", use)


def test_a_resident_size_is_that_of_a_process_that_runs() -> None:
    assert template_host._resident(os.getpid()) > 2**20
    assert template_host._resident(2**22 + 1) == 0


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
def test_a_killed_process_costs_its_own_request_at_most(death: signal.Signals) -> None:
    async def use(host: TemplateHost) -> None:
        process = child(host)
        before = process.cpu_times().user
        slow = asyncio.create_task(refusal(host))
        while process.cpu_times().user < before + 0.05:  # until it is at work on that
            await asyncio.sleep(0.01)
        process.send_signal(death)
        assert f"its process was ended by {death.name}" in (await slow).message
        assert await host.render(ask("again"), 100) == "calm"
        idle = child(host)
        idle.send_signal(death)
        assert host._process is not None
        await host._process.wait()
        assert await host.render(ask("again"), 100) == "calm"
        assert child(host).pid != idle.pid

    run(CALM + FOREVER + "{% endif %}", use, seconds=60)


def test_an_error_of_its_own_costs_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(host: TemplateHost) -> None:
        with monkeypatch.context() as context:
            context.setattr(template_host, "_job", lambda chat, limit: frame(("no limit",)))
            assert "its process ended with an error of its own" in (await refusal(host)).message
        assert await host.render(ask("again"), 100) == "calm"

    assert "an error of its own" in run(CALM + "{% endif %}", use)


def test_a_request_that_is_given_up_ends_its_process() -> None:
    async def use(host: TemplateHost) -> None:
        slow = asyncio.create_task(host.render(ask("Hi"), 100))
        await asyncio.sleep(0.1)
        given_up = child(host)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        assert not given_up.is_running()
        assert await host.render(ask("again"), 100) == "calm"

    run(CALM + FOREVER + "{% endif %}", use, seconds=60)


def test_the_process_inherits_nothing_that_is_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BESSEMER_API_KEY", "secret")
    monkeypatch.setenv("HF_TOKEN", "secret")

    async def use(host: TemplateHost) -> None:
        with open(os.devnull) as file:
            os.set_inheritable(file.fileno(), True)
            await host.stop()
            await host.render(ask("again"), 100)
            assert file.name not in [each.path for each in child(host).open_files()]
        assert child(host).num_fds() == 3
        assert "secret" not in child(host).environ().values()

    run("{{ messages[0].content }}", use)


def test_what_the_template_objects_to_and_the_lack_of_one() -> None:
    async def refused(host: TemplateHost) -> None:
        fault = await refusal(host)
        assert (fault.status, fault.code, fault.field) == (400, "invalid_conversation", "messages")

    async def lacking(host: TemplateHost) -> None:
        assert host._process is None
        assert (await refusal(host)).code == "no_chat_template"

    assert "cannot take a short question" in run("{{ raise_exception('no') }}", refused)
    assert run(None, lacking) == ""


def test_no_process_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    async def none(*_: Any, **__: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    async def use(host: TemplateHost) -> None:
        await host.stop()
        with monkeypatch.context() as context:
            context.setattr(asyncio, "create_subprocess_exec", none)
            fault = await refusal(host)
        assert (fault.status, fault.code) == (503, "overloaded")
        assert await host.render(ask("Hi"), 100) == "Hi"

    run("{{ messages[0].content }}", use)


@pytest.mark.parametrize("answer", [b"\xc1", b"\x80", b"x" * 200_000])
def test_an_answer_that_makes_no_sense(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    async def use(host: TemplateHost) -> None:
        async def nonsense(*_: Any) -> bytes:
            if len(answer) > 9:
                raise ValueError("the answer is too long")
            return answer

        with monkeypatch.context() as context:
            context.setattr(template_host, "_read", nonsense)
            assert "makes no sense" in (await refusal(host)).message
        assert await host.render(ask("Hi"), 100) == "Hi"

    run("{{ messages[0].content }}", use)


def test_answers_are_read_no_further_than_they_may_be_long() -> None:
    async def read(size: int) -> bytes:
        source = asyncio.StreamReader()
        source.feed_data(LENGTH.pack(size) + b"x" * size)
        return await template_host._read(source, 10)

    assert asyncio.run(read(10)) == b"x" * 10
    with pytest.raises(ValueError, match="too long"):
        asyncio.run(read(11))


WILD = (
    "{% if messages[0].content == 'large' %}{{ 'a'.encode().ljust(900000) * 3000000 }}"
    "{% elif messages[0].content == 'nothing' %}{% elif messages[0].content == 'object' %}"
    "{{ raise_exception('I object') }}{% else %}{{ messages[0].content }}{% endif %}"
)


def chat(server: Server, text: str, **more: Any) -> tuple[int, Any]:
    messages = [{"role": "user", "content": text}]
    body = {"model": "m", "messages": messages, "max_tokens": 2, **more}
    return server.ask("POST", "/v1/chat/completions", body)[:2]


def count(server: Server, text: str) -> tuple[int, Any]:
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    return server.ask("POST", "/v1/messages/count_tokens", body)[:2]


def test_a_server_goes_on_whatever_its_templates_do(tmp_path: Path) -> None:
    model = guide_copy(tmp_path / "m", chat_template=WILD)
    with serving("--model", f"m={model}") as server:
        for text, status, code in (
            ("large", 500, "broken_chat_template"),
            ("object", 400, "invalid_conversation"),
            ("nothing", 400, "invalid_conversation"),
        ):
            got, body = chat(server, text)
            assert (got, body["error"]["code"]) == (status, code)
            got, body = count(server, text)
            assert (got, body["type"]) == (status, "error"), body
            assert chat(server, "Hello")[0] == 200
        status, body = chat(server, "Hello", chat_template_kwargs={"raise_exception": 1})
        assert status == 400 and "raise_exception" in body["error"]["message"]
        (template,) = server.templates()
        template.kill()
        assert eventually(lambda: not template.is_running() or template.status() == "zombie")
        assert eventually(lambda: chat(server, "Hello")[0] == 200)
        templates = server.templates()
        assert len(templates) == 1 and templates[0] != template
        server.process.kill()
        assert not psutil.wait_procs(templates, timeout=20)[1]


def test_a_template_of_the_users_own_is_used_instead(tmp_path: Path) -> None:
    own = tmp_path / "own.jinja"
    own.write_text("{{ messages[0].content }}{{ messages[0].content }}")
    model = guide_copy(tmp_path / "m", chat_template="{{ messages[0].content }}")
    arguments = ("--model", f"m={model}", "--model", f"n={model}")
    with serving(*arguments, "--chat-template", f"m={own}") as server:
        body = {"messages": [{"role": "user", "content": "Hello"}]}
        tokens = {
            name: server.ask("POST", "/v1/messages/count_tokens", body | {"model": name})[1]
            for name in "mn"
        }
        assert tokens["m"]["input_tokens"] == 2 * tokens["n"]["input_tokens"]
    with serving("--model", f"m={model}", BESSEMER_CHAT_TEMPLATE=str(own)) as server:
        assert count(server, "Hello")[1] == tokens["m"]
