"""The time to render and tokenize a long conversation, and the turn that follows it.

python -P -m bessemer.bench.serving.tokenizing --tokenizer DIR

Ours is what the server does: texts are guarded, a process of its own renders, the prompt is
tokenized. Beside it: all of it in one process with no look for what spells control tokens, and
transformers' apply_chat_template by an interpreter that has it. All take turns in each round.
"""

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import IO, Annotated, Any

import uvloop
from rich.table import Table
from typer import Option

from bessemer.bench.command import FAILED, command
from bessemer.bench.compare.show import console
from bessemer.engine.text.loading import load_tokenizer
from bessemer.http.config import UsageError
from bessemer.http.hub import BUILT_IN
from bessemer.http.log import Log
from bessemer.http.template_host import TemplateHost
from bessemer.translate.chat import Chat, Message
from bessemer.translate.parsers.formats import choose
from bessemer.translate.parts import said
from bessemer.translate.renderer import Prompt, Renderer
from bessemer.translate.template import ChatTemplate
from bessemer.translate.template_source import pick

MAX_TRANSFORMERS = 1.2  # of its time
TURNS = 41  # of a conversation that ends in a question
SAID = "the of a request is read by one model, and so (as ever) its answer: 42\n if x < y then"
WORDS = SAID.split(" ")
# An interpreter with transformers: it reads messages, a line each, and writes seconds and ids.
THEIRS = """
import json, sys, time
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
for line in sys.stdin:
    messages, begun = json.loads(line), time.perf_counter()
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    print(json.dumps([time.perf_counter() - begun, ids]), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Contestant:
    """A way to come from a conversation to tokens: the seconds of a round, by its number."""

    name: str
    run: Callable[[int], float]
    figure: str = ""  # what must not be missed, in words
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Ways:
    """The ways of one model from a conversation to a prompt: as the server does, and plainly."""

    renderer: Renderer
    template: ChatTemplate
    host: TemplateHost
    runner: asyncio.Runner

    def prompt(self, chat: Chat) -> Prompt:
        chat = self.renderer.guarded(chat)
        text = self.runner.run(self.host.render(chat, self.renderer.limit(sys.maxsize)))
        return self.renderer.conversation(chat, text, sys.maxsize, sys.maxsize)

    def plain(self, chat: Chat) -> list[int]:
        return self.renderer.tokenizer.encode(self.template.render(chat), special=False)


def conversation(renderer: Renderer, tokens: int, seed: int = 1) -> Chat:
    """Make up a conversation of about so many tokens."""
    draw = random.Random(seed)
    sample = " ".join(draw.choices(WORDS, k=1000))
    words = int(1000 * tokens / len(renderer.tokenizer.encode(sample))) // TURNS
    roles = [("user", "assistant")[turn % 2] for turn in range(TURNS)]
    texts = [" ".join(draw.choices(WORDS, k=max(words, 1))) for _ in roles]
    messages = (Message(role, said(text)) for role, text in zip(roles, texts, strict=True))
    return Chat("bench", tuple(messages))


def followed(chat: Chat) -> Chat:
    """Return the conversation with an answer and the next question."""
    more = (Message("assistant", said("So it is.")), Message("user", said("And then?")))
    return replace(chat, messages=(*chat.messages, *more))


@contextmanager
def read_ways(directory: Path) -> Iterator[Ways]:
    """Read a model's tokenizer and template, and start the process that renders."""
    tokenizer = load_tokenizer(directory)
    if tokenizer.chat_template is None:
        raise UsageError(f"{directory} has no chat template; name a model that has one")
    source = pick(tokenizer.chat_template) or ""
    template = ChatTemplate(source, tokenizer.special_tokens)
    format = choose(source, tokenizer.special_names.values())
    host = TemplateHost(directory.name, Log())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(host.start(source, tokenizer.special_tokens))
        try:
            yield Ways(Renderer(tokenizer, format, source), template, host, runner)
        finally:
            runner.run(host.stop())


@contextmanager
def interpreter(
    python: str, source: str, directory: Path
) -> Iterator[Callable[[object], tuple[float, list[int]]]]:
    """Start a peer's interpreter on a source; yield what times a value there and returns ids."""
    argv = [python, "-c", source, str(directory)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(argv, text=True, **pipes) as process:
        assert process.stdin and process.stdout
        answers: IO[str] = process.stdout
        sink: IO[str] = process.stdin

        def run(value: object) -> tuple[float, list[int]]:
            print(json.dumps(value), file=sink, flush=True)
            if not (line := answers.readline()):
                raise UsageError(f"{python} cannot run the peer on {directory}")
            seconds, ids = json.loads(line)
            return seconds, ids

        yield run
        sink.close()


def peer(
    name: str,
    theirs: Callable[[object], tuple[float, list[int]]],
    value: object,
    ids: list[int],
    most: float,
) -> Contestant:
    """Return a peer as a contestant, of whose time ours is to be at most so many times.

    Raises UsageError where it does not give these ids.
    """
    if theirs(value)[1] != ids:
        raise UsageError(f"{name} gives other tokens, so its time says nothing")
    return Contestant(name, lambda _: theirs(value)[0], f"at most {most:.2g}")


def seconds(run: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def ours(ways: Ways, chat: Chat) -> list[Contestant]:
    """Return ours, the plain way, and the turn that follows ours."""

    def whole(number: int) -> float:  # each round for another client, who finds nothing of others
        return seconds(lambda: ways.prompt(replace(chat, client=str(number))))

    def next_turn(number: int) -> float:
        after = followed(replace(chat, client=str(number)))
        return seconds(lambda: ways.prompt(after))

    return [
        Contestant("Bessemer", whole),
        Contestant("plainly", lambda _: seconds(lambda: ways.plain(chat))),
        Contestant("the next turn", next_turn),
    ]


def ratio(one: Contestant, other: Contestant) -> float:
    return median(a / b for a, b in zip(one.seconds, other.seconds, strict=True))


def measure(contestants: Sequence[Contestant], rounds: int) -> None:
    """Let all run once in each round; the first round is not counted."""
    for number in range(rounds + 1):
        for each in contestants:
            taken = each.run(number)
            if number:
                each.seconds.append(taken)


def missed(contestants: Sequence[Contestant]) -> bool:
    first, _, _, *theirs = contestants
    return any(ratio(first, each) > MAX_TRANSFORMERS for each in theirs)


def show(contestants: Sequence[Contestant], title: str) -> None:
    """Print a table of all, each beside the first."""
    table = Table("", "ms (median)", f"{contestants[0].name} / this", "must be", title=title)
    for each in contestants:
        milliseconds = f"{median(each.seconds) * 1e3:.1f}"
        table.add_row(each.name, milliseconds, f"{ratio(contestants[0], each):.2f}", each.figure)
    console().print(table)


# fmt: off
@command(__doc__)
def main(
    directory: Annotated[Path, Option("--tokenizer", help="A model's directory.")] = BUILT_IN,
    tokens: Annotated[int, Option(help="Of the conversation, about.")] = 100_000,
    rounds: Annotated[int, Option(help="Rounds that count.")] = 9,
    python: Annotated[str, Option(help="An interpreter that has transformers.")] = "",
) -> int:
    # fmt: on
    """Exit with 1 where it takes longer than it should."""
    with ExitStack() as stack:
        ways = stack.enter_context(read_ways(directory))
        chat = conversation(ways.renderer, tokens)
        ids, contestants = ways.prompt(chat).tokens, ours(ways, chat)
        if python:
            theirs = stack.enter_context(interpreter(python, THEIRS, directory))
            messages = [{"role": each.role, "content": each.text} for each in chat.messages]
            contestants.append(peer("transformers", theirs, messages, ids, MAX_TRANSFORMERS))
        measure(contestants, rounds)
    show(contestants, f"{len(ids)} tokens")
    return FAILED if missed(contestants) else 0


if __name__ == "__main__":
    raise SystemExit(main())
