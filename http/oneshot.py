"""`bessemer run`: one prompt, one answer, without a server."""

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from ..engine.command_line import say
from ..engine.request import Refusal
from ..translate.chat import Chat, GenerationOptions, Message, ReasoningDelta, TextDelta, said
from . import hub
from .config import Config, UsageError
from .listen import run as run_loop
from .log import Log, StatusLine
from .startup import started


def run(
    config: Config,
    prompt: str,
    options: GenerationOptions,
    system: str | None,
    status: StatusLine | None = None,
) -> int:
    """Print the answer as it comes, thinking on stderr. Raises UsageError."""
    if len(config.models) > 1:
        raise UsageError("run answers with one model; give --model once")
    models = hub.models(replace(config, models=config.models or hub.defaults()[:1]))
    with Log(config.log_level) as log:
        question = Message("user", said(prompt))
        messages = (Message("system", said(system)), question) if system else (question,)
        chat = Chat("", messages, replace(options, stream=True))
        return run_loop(_answer(config, models, chat, log, status or StatusLine()))


async def _answer(
    config: Config, models: Mapping[str, Path], chat: Chat, log: Log, status: StatusLine
) -> int:
    try:
        async with started(models, config, log, question=chat) as backends:
            (name,) = models
            status.say(f"{name} reads the prompt ...")
            async with aclosing(backends.find(name).events(chat)) as events:
                async for event in events:
                    if isinstance(event, TextDelta):
                        status.clear()
                        print(event.text, end="", flush=True)
                    elif isinstance(event, ReasoningDelta):
                        status.clear()
                        say(event.text)
    except Refusal as refusal:
        raise UsageError(refusal.message) from None
    print(flush=True)
    return 0
