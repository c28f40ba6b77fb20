"""`bessemer run`: one prompt for the process that answers it, without a server."""

import asyncio
import itertools
import os
import secrets
import sys
from dataclasses import replace
from pathlib import Path
from time import monotonic

from ..engine.answer_wire import Ask, Begin, Link
from ..engine.command_line import StatusLine
from ..engine.request import Refusal, Request
from ..engine.settings import OneAnswer
from ..engine.text.vocabulary import VocabularyFile
from ..engine.wire import Ready
from ..translate.answer import AnswerStream, Bounds
from ..translate.chat import Chat, GenerationOptions, Message
from ..translate.parts import said
from ..translate.renderer import Prompt, Renderer
from . import hub
from .config import Config, UsageError
from .log import Log
from .machine import free_memory, total_memory
from .renderers import chosen, open_renderer, read_tokenizer
from .shares import SHARE, cores, fits_machine, shares, with_threads
from .template_host import TemplateHost

UNKNOWN = 2**17  # tokens of context, where a prompt is counted before the model is known


def run(
    config: Config,
    prompt: str,
    options: GenerationOptions,
    system: str | None,
    link: Link,
    status: StatusLine,
) -> int:
    """Ask for the answer to a prompt; return the exit code. Raises UsageError."""
    if len(config.models) > 1:
        raise UsageError("run answers with one model; give --model once")
    models = hub.models(replace(config, models=config.models or hub.defaults()[:1]))
    ((name, path),) = models.items()
    question = Message("user", said(prompt))
    messages = (Message("system", said(system)), question) if system else (question,)
    chat = Chat("", messages, options)
    with Log(config.log_level) as log:
        try:
            asyncio.run(_ask(config, name, path, chat, link, log, status.live))
        except Refusal as refusal:
            raise UsageError(refusal.message) from None
    return 0


async def _ask(
    config: Config,
    name: str,
    path: Path,
    chat: Chat,
    link: Link,
    log: Log,
    live: bool,
) -> None:
    """Make the prompt while the other process imports what it needs, and then hand it over."""
    fits_machine(config.model.kv_cache, total_memory())
    memory = shares({name: path}, int(free_memory() * SHARE))[name]
    settings = with_threads(config.model, cores())
    link.send(Begin(name, str(path.absolute()), memory, settings, live))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    renderer, vocabulary, chat, text = await _rendered(config, name, path, chat, log)
    counted = renderer.conversation(chat, text, UNKNOWN, sys.maxsize)
    length = len(counted.tokens) + config.max_tokens
    link.send(OneAnswer(length, renderer.tokenizer.eos))
    ready = link.receive()
    if ready is None:  # it has said why
        return
    log.debug(f"the model {name} is planned: {ready.plan}")
    prompt = renderer.conversation(chat, text, ready.plan.context, ready.vocabulary)
    request = _request(config, chat, prompt, renderer, ready)
    log.debug(f"{name} is asked {len(request.tokens)} tokens, at most {request.max_tokens} more")
    link.send(Ask(request, vocabulary))


async def _rendered(
    config: Config, name: str, path: Path, chat: Chat, log: Log
) -> tuple[Renderer, VocabularyFile, Chat, str]:
    """Return the model's renderer and vocabulary, the guarded conversation and its text."""
    own = chosen(config, {name: path})[name]
    purpose, tokenizer = read_tokenizer(name, path)
    if tokenizer is None:
        from .backends import other_purpose

        raise other_purpose(name, purpose)
    host = TemplateHost(name, log)
    try:
        opening = open_renderer(name, tokenizer, own, host, told=True)
        naming = asyncio.to_thread(VocabularyFile.of, tokenizer.encoding)
        renderer, vocabulary = await asyncio.gather(opening, naming)
        guarded = renderer.guarded(chat)
        text = await host.render(guarded, renderer.limit(sys.maxsize))
        return renderer, vocabulary, guarded, text
    finally:
        await host.stop()


def _request(
    config: Config, chat: Chat, prompt: Prompt, renderer: Renderer, ready: Ready
) -> Request:
    """Return the request for one answer. Raises Refusal."""
    bounds = Bounds(ready.plan.context, config.max_tokens, ready.defaults, ready.vocabulary)
    seed = secrets.randbits(63) if chat.options.seed is None else chat.options.seed
    numbers = itertools.count(1)
    answer = AnswerStream(
        chat, [prompt], renderer.tokenizer, bounds, lambda: next(numbers), seed, monotonic
    )
    (request,) = answer.requests
    return request
