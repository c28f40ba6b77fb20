"""A worker process on its own: it answers, it refuses, and it ends with its socket."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

import mlx.core as mx
import psutil
import pytest
from msgspec import structs

from bessemer.engine import worker as module
from bessemer.engine.devices import SHORT
from bessemer.engine.request import (
    Embed,
    Embedded,
    Event,
    Rank,
    Ranked,
    Refused,
    Request,
    Sampling,
    StepReport,
    Token,
)
from bessemer.engine.settings import Settings
from bessemer.engine.wire import (
    VERSION,
    Cancel,
    Configure,
    LoadFailed,
    Pulse,
    Ready,
    StepResult,
    Submit,
    server_channel,
)
from bessemer.kernels.cpu import library
from bessemer.kernels.simulator import compiler
from bessemer.kernels.simulator.options import SimulatorError

from .tiny_embedders import EMBEDDERS, RERANKERS

GUIDE = Path(__file__).parents[2] / "engine" / "guide"
PATIENCE = 60.0  # seconds until a test gives up
SETTINGS = Settings(threads=1, max_batch=8, queue=2, chunk=64)


class Server:
    """The other end of a worker's socket, blocking."""

    def __init__(self, sock: socket.socket, process: subprocess.Popen[bytes]) -> None:
        self.socket = sock
        self.process = process
        self.channel = server_channel()
        self.messages: list[Any] = []
        self.pulses: list[Pulse] = []

    def send(self, message: Any) -> None:
        self.socket.sendall(self.channel.frame(message))

    def receive(self) -> Any:
        """Return the next message; signs of life are put aside."""
        end = monotonic() + PATIENCE
        while not self.messages:
            assert monotonic() < end, "the worker gives signs of life alone"
            self.read()
        return self.messages.pop(0)

    def read(self) -> None:
        data = self.socket.recv(1 << 16)
        assert data, "the worker hung up"
        for message in self.channel.feed(data):
            (self.pulses if isinstance(message, Pulse) else self.messages).append(message)

    def events(self) -> Iterator[Any]:
        while True:
            message = self.receive()
            assert isinstance(message, StepResult)
            yield from message.events


@contextmanager
def worker() -> Iterator[Server]:
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "bessemer.engine.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
        )
    with ours:
        yield Server(ours, process)
    try:
        process.wait(20)
    finally:
        process.kill()


class Script:
    """A channel and an engine in which all requests are still being tokenized, so many times."""

    busy = False

    def __init__(self, steps: int) -> None:
        self.left, self.sent = steps, list[Any]()
        self.send = self.doing = self.sent.append

    def receive(self, wait: bool) -> list[Any]:
        if not self.left:
            raise EOFError
        self.left -= 1
        return []

    def pulse(self) -> str:
        return "pulse"

    def step(self) -> list[Event]:
        return []

    def report(self) -> StepReport:
        return StepReport(waiting=1)


def test_it_gives_a_sign_of_life_now_and_then_while_texts_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = count(0.0, 0.15)
    monkeypatch.setattr(module, "monotonic", lambda: next(clock))
    script: Any = Script(6)
    with pytest.raises(EOFError):
        module.serve(script, script)
    # At 0.3, 0.75 and 1.2, each time looked at twice; and then it does nothing, as it says.
    assert script.sent[:-1] == ["", "step", "", "step", "", "pulse"] * 3


def configure(directory: Path = GUIDE, version: int = VERSION) -> Configure:
    return Configure(version, str(directory), 10**10, SETTINGS)


def request_for(number: int, count: int) -> Request:
    greedy = Sampling(temperature=0)
    tokens = list(range(300, 330))
    return Request(id=number, tokens=tokens, max_tokens=count, sampling=greedy, ignore_eos=True)


def test_it_answers_cancels_and_ends_with_its_socket() -> None:
    with worker() as server:
        server.send(configure())
        ready = server.receive()
        assert isinstance(ready, Ready) and ready.plan.context == 2048
        server.send(Submit([request_for(1, 10), request_for(2, 1900)]))
        events = server.events()
        tokens: list[int] = []
        for event in events:
            if isinstance(event, Token) and event.request == 1:
                tokens += event.tokens
                if event.finish:
                    break
        assert len(tokens) == 10
        server.send(Cancel([2]))
        server.send(Submit([request_for(3, 10)]))
        again = [t for e in _until_finished(events, 3) if e.request == 3 for t in e.tokens]
        assert again == tokens


def test_what_comes_with_the_configuration_and_while_it_loads_is_done() -> None:
    with worker() as server:
        frames = [configure(), Submit([request_for(1, 3)]), Submit([request_for(2, 900)])]
        server.socket.sendall(b"".join(server.channel.frame(each) for each in frames))
        server.send(Cancel([2]))
        server.send(Submit([request_for(3, 4)]))
        assert isinstance(server.receive(), Ready)
        tokens: dict[int, int] = {}
        for event in _until_finished(server.events(), 3):
            tokens[event.request] = tokens.get(event.request, 0) + len(event.tokens)
        assert (tokens[1], tokens[3]) == (3, 4) and 2 not in tokens


def test_signs_of_life_say_what_it_is_at() -> None:
    with worker() as server:
        server.send(configure())
        assert isinstance(server.receive(), Ready)
        loading = [each.doing for each in server.pulses]
        assert {"reading the tokenizer", "reading weights"} <= {*loading}
        assert loading[0] == "preparing kernels"
        counts = [each.count for each in server.pulses]
        assert counts == sorted(counts)
        server.pulses.clear()
        while len(server.pulses) < 2:  # nothing is asked of it
            server.read()
        first, second = server.pulses
        assert first.doing == second.doing == "" and first.count == second.count
        assert second.seconds > first.seconds > 0


def test_a_step_that_takes_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PULSE", 0.01)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = module.SocketChannel(theirs, lambda: None)
        server = Server(ours, None)  # type: ignore[arg-type]
        channel.doing("step")
        while len(server.pulses) < 3 or server.pulses[-3].count == 0:  # it may be told of its start
            server.read()
        assert {(each.doing, each.count) for each in server.pulses[-3:]} == {("step", 1)}
        channel.doing("step")
        while server.pulses[-1].count == 1:
            server.read()
        channel.finish()
        channel._writer.join(timeout=30)
        assert not channel._writer.is_alive()


class Busy:
    """Stands for a channel and an engine that say what the server would hear of each call."""

    def __init__(self) -> None:
        self.busy = False
        self.told = ""
        self.calls: list[tuple[str, str]] = []

    def doing(self, what: str) -> None:
        self.told = what

    def receive(self, wait: bool) -> list[Any]:
        self.calls.append(("receive", self.told))
        return [Submit([request_for(1, 1)])]

    def submit(self, request: Any) -> None:
        self.calls.append(("submit", self.told))

    def step(self) -> list[Any]:
        self.calls.append(("step", self.told))
        raise KeyboardInterrupt


def test_what_takes_in_requests_is_no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_submit", lambda engine, request: engine.submit(request))
    busy: Any = Busy()
    with pytest.raises(KeyboardInterrupt):
        module.serve(busy, busy)
    assert busy.calls == [("receive", ""), ("submit", "step"), ("step", "step")]


def test_every_step_is_reported() -> None:
    with worker() as server:
        server.send(structs.replace(configure(), settings=structs.replace(SETTINGS, max_batch=1)))
        assert isinstance(server.receive(), Ready)
        server.send(Submit([request_for(1, 20), request_for(2, 20)]))
        steps = [server.receive()]
        while steps[-1].report.running or steps[-1].report.waiting:
            steps.append(server.receive())
        first, last = steps[0].report, steps[-1].report
        assert (first.running, first.waiting, first.rows) == (1, 1, 30)
        assert (first.pages_in_use, first.pages > 60) == (1, True) and last.pages_in_use == 0
        assert last.preemptions == 0
        for step in steps:
            report = step.report
            assert min(report.prepare, report.forward, report.accept) > 0
        assert sum(step.report.rows for step in steps) == 2 * (30 + 19)
        server.send(Submit([request_for(11, 1900)]))
        while not server.receive().events:
            pass
        server.send(Cancel([11]))
        while (report := server.receive().report).running:
            pass
        assert (report.rows, report.waiting, report.pages_in_use) == (0, 0, 0)


def _until_finished(events: Iterator[Any], number: int) -> Iterator[Token]:
    for event in events:
        if isinstance(event, Token):
            yield event
            if event.request == number and event.finish:
                return


def test_it_refuses_what_does_not_fit_and_goes_on() -> None:
    with worker() as server:
        server.send(configure())
        assert isinstance(server.receive(), Ready)
        long = Request(id=1, tokens=[300] * 2048, max_tokens=5)
        server.send(Submit([long, request_for(2, 3)]))
        events = list(_first(server.events(), 5))
        assert isinstance(events[0], Refused) and events[0].code == "context_length_exceeded"
        assert any(isinstance(e, Token) and e.finish for e in events)


def _first(events: Iterator[Any], count: int) -> Iterator[Any]:
    for _ in range(count):
        event = next(events)
        yield event
        if isinstance(event, Token) and event.finish:
            return


def test_what_cannot_be_loaded_is_said_and_ends_it(tmp_path: Path) -> None:
    for wrong in (configure(tmp_path), configure(version=VERSION + 1)):
        with worker() as server:
            server.send(wrong)
            assert isinstance(server.receive(), LoadFailed)
            assert server.process.wait(20) == 1


def test_an_embedding_model_answers_refuses_and_goes_on(tmp_path: Path) -> None:
    with worker() as server:
        server.send(configure(EMBEDDERS["mean_normalized_cut"].write(tmp_path)))
        ready = server.receive()
        assert isinstance(ready, Ready) and ready.plan.context == 12 and not ready.plan.pool
        events = server.events()
        server.send(Submit([Embed(id=1, inputs=["the " * 30]), request_for(2, 3)]))
        server.send(Submit([Embed(id=3, inputs=["the cat", [5, 6]])]))
        out = {event.request: event for event in (next(events) for _ in range(3))}
        assert isinstance(out[1], Refused) and out[1].code == "context_length_exceeded"
        assert isinstance(out[2], Refused) and out[2].code == "unsupported_model"
        assert isinstance(out[3], Embedded) and len(out[3].vectors) == 2 * 48 * 4
        server.send(Submit([Embed(id=4, inputs=["the cat"] * 5000)]))
        server.send(Cancel([4]))
        server.send(Submit([Embed(id=5, inputs=["the cat", [5, 6]])]))
        again = next(event for event in events if event.request == 5)
        assert again.vectors == out[3].vectors


def test_a_reranking_model_answers(tmp_path: Path) -> None:
    with worker() as server:
        server.send(configure(RERANKERS["sigmoid_by_name"].write(tmp_path)))
        assert isinstance(server.receive(), Ready)
        server.send(Submit([Rank(id=1, query="who ?", documents=["the cat", "fish"])]))
        event = next(server.events())
        assert isinstance(event, Ranked) and event.over and len(event.scores) == 2


def test_an_embedding_model_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    small = structs.replace(configure(EMBEDDERS["no_modules"].write(tmp_path)), memory=1000)
    with worker() as server:
        server.send(small)
        failed = server.receive()
        assert isinstance(failed, LoadFailed) and "it was given 1 KB" in failed.message


class Listener:
    """Stands for a channel: one message in, what is sent is kept."""

    def __init__(self, message: Configure) -> None:
        self._message = message
        self.sent: list[Any] = []

    def first(self) -> Any:
        return self._message

    def stage(self, what: str) -> None:
        pass

    def wake(self) -> None:
        pass

    def send(self, message: Any) -> None:
        self.sent.append(message)


def test_the_simulator_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise SimulatorError("no clang; pip install ziglang")

    monkeypatch.setattr(compiler, "require", missing)
    channel: Any = Listener(structs.replace(configure(), settings=Settings(metal="simulator")))
    assert module.start(channel) is None
    assert channel.sent == [LoadFailed("no clang; pip install ziglang")]


def test_what_mlx_keeps_of_freed_memory_is_bounded_by_the_plan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits: list[int] = []
    monkeypatch.setattr(mx, "set_cache_limit", limits.append)
    channel: Any = Listener(structs.replace(configure(), settings=Settings(max_batch=8)))
    assert module.start(channel) is not None
    (ready,) = channel.sent
    assert isinstance(ready, Ready) and limits == [ready.plan.working]


@pytest.mark.skipif(sys.platform != "linux", reason="a Mac counts a GPU's memory elsewhere")
def test_the_plan_is_what_the_process_takes(tmp_path: Path) -> None:
    for directory in (GUIDE, EMBEDDERS["no_modules"].write(tmp_path)):
        with worker() as server:
            server.send(configure(directory))
            ready = server.receive()
            assert isinstance(ready, Ready)
            server.send(Submit([request_for(each, 100) for each in range(8)]))
            while not server.receive().events:
                pass
            taken = psutil.Process(server.process.pid).memory_info().rss
        plan = ready.plan
        used = plan.weights + plan.working + plan.program  # a pool takes memory where it is used
        assert 0.7 * used < taken < 1.05 * (used + plan.pool), str(plan)


@pytest.mark.skipif(sys.platform != "linux" or not library.compiled(), reason="no C kernels to see")
@pytest.mark.parametrize("tier", library.tiers() if library.compiled() else [])
def test_the_kernels_are_those_of_the_tier_and_no_others(tier: str) -> None:
    settings = structs.replace(SETTINGS, cpu_tier=tier)
    with worker() as server:
        server.send(structs.replace(configure(), settings=settings))
        assert isinstance(server.receive(), Ready)
        paths = [Path(each.path) for each in psutil.Process(server.process.pid).memory_maps()]
    tiers = {path.name.split("-")[0] for path in paths} & {*library.TIERS}
    assert tiers == {tier}


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[malloc_or_wait] Unable to allocate 8 bytes."),
        RuntimeError("[metal::malloc] Attempting to allocate 9 bytes which is greater than 8."),
    ],
)
def test_no_memory_to_load_into_is_said_in_a_sentence(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object) -> None:
        raise error

    monkeypatch.setattr(module, "_load", load)
    channel: Any = Listener(configure())
    assert module.start(channel) is None
    assert channel.sent == [LoadFailed(SHORT)]


def test_a_fault_while_loading_is_no_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(module, "_load", load)
    channel: Any = Listener(configure())
    with pytest.raises(RuntimeError, match="shapes differ"):
        module.start(channel)
    assert channel.sent == []
