"""A process of `bessemer run`, which has the model and prints its one answer.

`python -m bessemer.engine.one_answer READS WRITES LAUNCHER`, all pipes. What is heavy is imported
while the other process makes the prompt. Where the launcher ends, so does this process.
"""

import ctypes
import os
import resource
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, TypeVar, cast

from msgspec.structs import replace

from .answer_wire import Ask, Begin, Link, answerer_link
from .command_line import StatusLine, fail, guarded, say
from .lifeline import follow
from .memory import Plan
from .request import GenerationDefaults, Refusal, Refused, Request, Token
from .settings import OneAnswer
from .text.tokenizer import Tokenizer
from .text.vocabulary import Vocabulary
from .wire import VERSION, Ready

if TYPE_CHECKING:
    import tokenizers

    from .engine import Engine

IN_BYTES = sys.platform == "darwin"  # is the highest memory counted, elsewhere in kilobytes
RUNNING = 4 * 10**6  # bytes of code that runs first in a step

Message = TypeVar("Message")


class Gone(Exception):
    """The other process has ended without a question, and has said why."""


def main(reads: int, writes: int, launcher: int) -> int:
    """Answer what the other process asks; return the exit code."""
    alone, link = follow(launcher), answerer_link(reads, writes)
    begin = link.receive()
    return 0 if begin is None else guarded("bessemer", partial(_answer, begin, link, alone))


def _answer(begin: Begin, link: Link, alone: Event) -> int:
    from .devices import LoadError, explained

    status = StatusLine(begin.live)
    try:
        with explained():
            engine, asked, tokenizer = _loaded(begin, link, alone, status)
        status.say(f"{begin.name} reads the prompt ...")
        _print(engine, asked.request, tokenizer, status)
        return 0
    except Gone:
        return 0
    except LoadError as error:
        message = f"{begin.name}: {error}"
    except Refusal as refusal:
        message = refusal.message
    finally:
        status.clear()
    return fail("bessemer", message)


def _loaded(
    begin: Begin, link: Link, alone: Event, status: StatusLine
) -> tuple["Engine", Ask, Tokenizer]:
    """Load the model, its weights when the process that made the prompt is over. Raises Gone."""
    import mlx.core as mx

    from .devices import choose_device
    from .embedding.sentence_transformers import describe
    from .gguf.container import forget
    from .serving import load_described

    choose_device(begin.settings)
    description = describe(Path(begin.directory))
    expected = _received(link, OneAnswer)
    settings = replace(begin.settings, max_batch=1, one_answer=expected)
    asked: list[Ask] = []

    def planned(plan: Plan, model_type: str, defaults: GenerationDefaults, ids: int) -> Tokenizer:
        link.send(Ready(VERSION, plan, model_type, defaults, ids))
        asked.append(_received(link, Ask))
        alone.wait()
        forget()
        _hand_back()
        decodes = cast("tokenizers.Tokenizer", Vocabulary(asked[0].vocabulary))
        return Tokenizer(decodes, {}, None)

    def progress(stage: str) -> None:
        status.say(f"{begin.name}: {stage} ...")

    mx.set_cache_limit(0)  # what reading a weight takes besides is handed back
    model = load_described(description, settings, begin.memory, progress, _program, planned)
    mx.set_cache_limit(model.plan.working)
    return model.engine, asked[0], model.tokenizer


def _hand_back() -> None:
    """Give what was freed back to the system."""
    with suppress(AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)


def _received(link: Link, kind: type[Message]) -> Message:
    """Wait for the next message, which is of this kind. Raises Gone."""
    message = link.receive()
    if message is None:
        raise Gone
    assert isinstance(message, kind)
    return message


def _program() -> int:
    """Return the bytes that Python and libraries take, and code that runs first in a step will."""
    return _highest() + RUNNING


def _highest() -> int:
    """Return the most bytes that this process has had; Linux counts who started it in rusage."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if IN_BYTES else 1024)


def _print(engine: "Engine", request: Request, tokenizer: Tokenizer, status: StatusLine) -> None:
    """Print the answer as it comes, thinking on stderr. Raises Refusal."""
    answer, specials = tokenizer.answer_text(request), tokenizer.specials(request)

    def show(thought: str, text: str) -> None:
        thought, text = specials.plain(thought), specials.plain(text)
        if thought or text:
            status.clear()
        if thought:
            say(thought)
        if text:
            print(text, end="", flush=True)

    engine.submit(request)
    for event in engine.run():
        if isinstance(event, Refused):
            raise event.refusal()
        if isinstance(event, Token):
            visible = len(event.tokens) - event.hidden
            for at, token in enumerate(event.tokens):
                show(*answer.add(token, hidden=at >= visible))
    show(*answer.close())
    print(flush=True)


if __name__ == "__main__":
    os._exit(main(*map(int, sys.argv[1:])))
