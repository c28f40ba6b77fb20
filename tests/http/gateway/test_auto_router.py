"""The auto-router (H4.6): what it reads, whom it asks, what it remembers, and what stops it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from bessemer.engine.request import Refusal
from bessemer.http.cli import main
from bessemer.http.gateway.auto_router import FLUENT, LEGIBLE, AutoRouter, Choice, Choices
from bessemer.http.gateway.gateway import Gateway
from bessemer.http.gateway.routing import Router, Target
from bessemer.http.gateway.schema import AutoRouterTable, ConfigTables, RouteTable
from bessemer.http.gguf_models import DEFAULT
from bessemer.http.message import HttpRequest
from bessemer.translate import openai_chat
from bessemer.translate.chat import Chat, Completion, Failure, GenerateRequest, Message
from bessemer.translate.parts import said
from tests.http.gateway.auto_reader_double import ScriptedReader, answers, overlap
from tests.http.running import Server, serving

ROUTES = [
    RouteTable(name="numbers", description="1234567890", provider="local", model="n"),
    RouteTable(name="vowels", description="aeiou", provider="local", model="v"),
    RouteTable(pattern="^mute$", provider="local", name="undescribed"),
]
ON = AutoRouterTable(enabled=True)
PATH = "/v1/chat/completions"
DECODERS = {PATH: openai_chat.decode_request}


def chat(*texts: str, system: str = "") -> Chat:
    roles = ("user", "assistant") * len(texts)
    turns = [Message(role, said(text)) for role, text in zip(roles, texts, strict=False)]
    return Chat("auto", (*([Message("system", said(system))] if system else []), *turns))


def router(reader: ScriptedReader, table: AutoRouterTable = ON) -> AutoRouter:
    return AutoRouter(table, ROUTES, {"reader": reader}, DECODERS)


def choose(auto: AutoRouter, request: GenerateRequest, caller: str = "me") -> Choice:
    return asyncio.run(auto.choice(request, caller))


@pytest.mark.parametrize(
    ("table", "read"),
    [
        (AutoRouterTable(), []),
        (ON, ["auto"]),
        (AutoRouterTable(force=True), ["auto", "own", "", "automatic"]),
    ],
)
def test_h41_auto_alone_is_read_or_with_force_everything(
    table: AutoRouterTable, read: list[str]
) -> None:
    auto = router(ScriptedReader(overlap, LEGIBLE), table)
    assert [name for name in ("auto", "own", "", "automatic") if auto.reads(name)] == read


def test_a_small_model_finds_likelihoods_and_a_large_one_answers() -> None:
    small = ScriptedReader(overlap, FLUENT - 1)
    assert choose(router(small), chat("12 31")).name == "numbers"
    assert choose(router(small), chat("aia")).name == "vowels"
    assert all(isinstance(each, Completion) for each in small.asked)
    large = ScriptedReader(answers('{"route": "vowels"}'), FLUENT)
    assert choose(router(large), chat("12 31")).name == "vowels"
    assert isinstance(large.asked[0], Chat)


@pytest.mark.parametrize(
    ("reader", "why"),
    [
        (ScriptedReader(answers('{"route": "other"}'), FLUENT), "it answered"),
        (ScriptedReader(answers('{"route": "undescribed"}'), FLUENT), "it answered"),
        (ScriptedReader(answers("I cannot say."), FLUENT), "it answered"),
        (ScriptedReader(overlap, FLUENT, seconds=5), "more than 100 ms"),
        (ScriptedReader(overlap, LEGIBLE - 1), "no model that can choose"),
        (ScriptedReader(overlap, None), "no model that can choose"),
        (ScriptedReader(lambda _: [Failure(Refusal(500, "x", "It broke."))], FLUENT), "broke"),
        (ScriptedReader(lambda _: [Failure(Refusal(500, "x", "It broke."))], LEGIBLE), "broke"),
    ],
)
def test_h46_other_unknown_names_errors_and_timeouts_are_no_decision(
    reader: ScriptedReader, why: str
) -> None:
    choice = choose(router(reader, AutoRouterTable(enabled=True, timeout_ms=100)), chat("12"))
    assert choice.name == "" and why in choice.why


@pytest.mark.parametrize("request_", [chat(), chat(" "), Completion("auto", ((1, 2),))])
def test_h46_nobody_is_asked_about_nothing(request_: GenerateRequest) -> None:
    reader = ScriptedReader(overlap, LEGIBLE)
    assert choose(router(reader), request_).name == "" and not reader.asked
    nowhere = AutoRouter(ON, ROUTES[2:], {"reader": reader}, DECODERS)
    assert choose(nowhere, chat("12")).name == "" and not reader.asked


def test_a_conversation_keeps_its_route() -> None:
    reader = ScriptedReader(overlap, LEGIBLE)
    auto = router(reader)
    assert choose(auto, chat("123")).name == "numbers"
    later = choose(auto, chat("123", "So?", "aeiou aeiou"))
    assert later.name == "numbers" and "before" in later.why and len(reader.asked) == 1
    billed = "x-anthropic-billing-header: v={}\nBe kind."
    for number in range(2):  # a line that is another in each request tells nothing apart
        choose(auto, chat("123", system=billed.format(number)))
    assert len(reader.asked) == 2
    choose(auto, chat("123"), "another")
    choose(auto, chat("1234"))
    assert len(reader.asked) == 4


def test_what_a_model_does_not_decide_is_remembered_but_no_failure() -> None:
    other = ScriptedReader(answers('{"route": "other"}'), FLUENT)
    slow = ScriptedReader(overlap, LEGIBLE, seconds=5)
    for reader, times in ((other, 1), (slow, 2)):
        auto = router(reader, AutoRouterTable(enabled=True, timeout_ms=50))
        assert [choose(auto, chat("12")).name for _ in range(2)] == ["", ""]
        assert len(reader.asked) == times


def test_a_route_that_is_gone_is_chosen_anew() -> None:
    reader = ScriptedReader(overlap, LEGIBLE)
    before = router(reader)
    assert choose(before, chat("123")).name == "numbers"
    after = AutoRouter(ON, ROUTES[1:], {"reader": reader}, DECODERS, before.choices)
    assert choose(after, chat("123")).name == "vowels"


def test_the_least_used_conversations_are_forgotten() -> None:
    choices = Choices(2)
    for key in (b"a", b"b"):
        choices.keep(key, key.decode())
    assert choices.find(b"a") == "a"
    choices.keep(b"c", "c")
    assert [choices.find(key) for key in (b"a", b"b", b"c")] == ["a", None, "c"]


def test_the_model_is_the_one_named_or_the_first_that_can_choose() -> None:
    tiny, able = ScriptedReader(overlap, LEGIBLE - 1), ScriptedReader(overlap, LEGIBLE)
    models = {"tiny": tiny, "able": able, "more": ScriptedReader(overlap, FLUENT)}
    auto = AutoRouter(ON, ROUTES, models, DECODERS)
    assert choose(auto, chat("12")).name == "numbers" and len(able.asked) == 1
    for named in ("tiny", "absent"):
        table = AutoRouterTable(enabled=True, model=named)
        assert choose(AutoRouter(table, ROUTES, models, DECODERS), chat("12")).name == ""


@pytest.mark.parametrize(
    ("path", "body", "targets", "step"),
    [
        (PATH, {"messages": [{"role": "user", "content": "123"}]}, "n", "log likelihoods"),
        (PATH, {"messages": [{"role": "user", "content": "x" * 9000 + "123"}]}, "n", "log"),
        (PATH, {"messages": 3}, "first", "cannot read"),
        ("/v1/embeddings", {"input": "123"}, "first", "no requests of this kind"),
    ],
)
def test_a_decision_is_the_auto_router_s_before_the_others(
    path: str, body: dict[str, Any], targets: str, step: str
) -> None:
    tables = ConfigTables(routes=ROUTES, auto_router=ON)
    reader = ScriptedReader(overlap, LEGIBLE)
    gateway = Gateway(Router(tables, ["first", "n", "v"]), auto=router(reader))
    request = HttpRequest("POST", path, "", (), None, "", "", "me")  # type: ignore[arg-type]
    encoded = json.dumps({"model": "auto", **body}).encode()
    decision = asyncio.run(gateway.decide("auto", request, path, encoded))
    assert decision.targets == (Target(None, targets),) and step in decision.steps[0]
    assert decision.method == ("auto" if targets == "n" else "default")
    asked = len(reader.asked)
    assert asyncio.run(gateway.decide("v", request, path, encoded)).method == "local"
    assert len(reader.asked) == asked


SAMPLES = {
    "code": ["Write a Python function that reverses a linked list.",
             "How do I undo my last git commit without losing the changes?",
             "segfault when I free this pointer twice, is that expected?"],
    "stories": ["Write a love poem in the style of Shakespeare",
                "Describe a dragon's cave through the eyes of a frightened child.",
                "Give me an opening line for a detective novel set in Venice"],
    "math": ["What is the derivative of x^3 * sin(x)?",
             "I roll two dice. What's the probability that the sum is 9?",
             "Is 1001 a prime number?",
             "A rectangle has perimeter 30 and area 50. Find its sides."],
}  # fmt: skip
CONFIG = """
[auto_router]
enabled = true
timeout_ms = 60000  # the machine may be busy
[[routes]]
name = "code"
description = "Writing, explaining and debugging computer programs."
provider = "local"
[[routes]]
name = "stories"
description = "Creative writing: stories, poems, characters and songs."
provider = "local"
[[routes]]
name = "math"
description = "Mathematics: calculations, equations, proofs and statistics."
provider = "local"
"""


def test_the_default_model_sends_prompts_where_a_person_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long a prompt is, so much of it is read that there is a decision."""
    config = tmp_path / "config.toml"
    config.write_text(CONFIG)
    long = "My loop never ends. " + "x = x + 1\n" * 20_000 + "Debug this program."

    def asked(server: Server, text: str) -> str:
        body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
        status, told, _ = server.ask("POST", "/v1/route", body)
        assert status == 200, told
        return str(told["by"]).removeprefix("auto ")

    with serving("--model", DEFAULT, "--config", str(config)) as server:
        pairs = [(name, asked(server, text)) for name, texts in SAMPLES.items() for text in texts]
        assert asked(server, long) == "code"
        monkeypatch.setenv("BESSEMER_PORT", str(server.port))
        assert main(["route", "auto", "--prompt", "Sing me a song.", "--config", str(config)]) == 0
    assert len(pairs) == 10 and sum(name == found for name, found in pairs) >= 8, pairs
    assert capsys.readouterr().out.splitlines()[-1].startswith("auto stories: local/")
