"""`bessemer run`: one prompt, one answer, without a server."""

import sys
from contextlib import aclosing
from dataclasses import replace

from ..engine.request import Refusal
from ..translate.chat import Chat, GenerationOptions, Message, ReasoningDelta, TextDelta, said
from . import hub
from .config import Config, UsageError
from .listen import run as run_loop
from .log import Log
from .startup import started


def run(config: Config, prompt: str, options: GenerationOptions, system: str | None) -> int:
    """Print the answer as it comes, thinking on stderr. Raises UsageError."""
    if len(config.models) > 1:
        raise UsageError("run answers with one model; give --model once")
    with Log(config.log_level) as log:
        return run_loop(_answer(config, prompt, options, system, log))


async def _answer(
    config: Config, prompt: str, options: GenerationOptions, system: str | None, log: Log
) -> int:
    question = Message("user", said(prompt))
    messages = (Message("system", said(system)), question) if system else (question,)
    async with started(hub.models(config), config, log) as backends:
        (name,) = backends.models
        chat = Chat(name, messages, replace(options, stream=True))
        try:
            async with aclosing(backends.find(name).events(chat)) as events:
                async for event in events:
                    if isinstance(event, TextDelta):
                        print(event.text, end="", flush=True)
                    elif isinstance(event, ReasoningDelta):
                        print(event.text, end="", flush=True, file=sys.stderr)
        except Refusal as refusal:
            raise UsageError(refusal.message) from None
    print()
    return 0
