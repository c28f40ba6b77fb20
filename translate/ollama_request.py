"""Ollama's requests: conversations, prompts and options to Chat and Completion."""

import re
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any

from msgspec import Meta, Raw, Struct, field

from .chat import (
    Chat,
    Completion,
    GenerationOptions,
    Message,
    Reasoning,
    ResponseFormat,
    Tool,
    ToolCall,
    ToolChoice,
)
from .decode import invalid, missing, shown, unsupported
from .fields import OLLAMA, OLLAMA_IGNORED, OLLAMA_OPTIONS, RequestDecoder
from .media import decoded_base64, image_type
from .openai_tools import InputTool
from .parts import Image, said
from .sampling import MAX_MESSAGES, Alternatives, SamplingFields, TokenId, max_tokens, options
from .structured_output import UNSENT, json_format, schema_format
from .tool_fields import checked_arguments, checked_choice, checked_tool

ROLES = ("system", "user", "assistant", "tool")
LEVELS = ("low", "medium", "high", "max")  # of thinking
# As Go's time.ParseDuration reads them; a bare number is of seconds.
DURATION = re.compile(r"[-+]?(0|((\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h))+)")


class CalledFunction(Struct):
    name: str
    arguments: str | dict[str, Any] | None = None


class InputCall(Struct):
    function: CalledFunction
    id: str | None = None


class InputMessage(Struct):
    role: str
    content: str | None = None
    thinking: str | None = None
    images: list[Any] | None = None
    tool_calls: list[InputCall] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class OllamaRequest(Struct, kw_only=True):
    """The fields that both ways to get an answer share."""

    model: str | None = None
    stream: bool | None = None
    format: Raw = field(default_factory=Raw)
    options: Raw = field(default_factory=Raw)
    keep_alive: float | str | None = None
    truncate: bool | None = None
    think: bool | str | None = None
    logprobs: bool | None = None
    top_logprobs: Alternatives | None = None


class ChatRequest(OllamaRequest, kw_only=True):
    messages: Annotated[list[InputMessage], Meta(max_length=MAX_MESSAGES)] | None = None
    tools: list[InputTool] | None = None


class PromptRequest(OllamaRequest, kw_only=True):
    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    context: list[TokenId] | None = None
    raw: bool | None = None


CHAT: RequestDecoder[ChatRequest] = RequestDecoder(ChatRequest, OLLAMA, OLLAMA_IGNORED)
PROMPT: RequestDecoder[PromptRequest] = RequestDecoder(PromptRequest, OLLAMA, OLLAMA_IGNORED)
OPTIONS: RequestDecoder[SamplingFields] = RequestDecoder(
    SamplingFields, OLLAMA_OPTIONS, strict=False
)


def decode_chat(body: bytes) -> Chat:
    """Decode a conversation; one without messages only wants its model to be there."""
    request = CHAT.decode(body)
    messages = tuple(_messages(request.messages or ()))
    check_kept(request.keep_alive, bool(messages))
    inputs = enumerate(request.tools or ())
    tools = tuple(_tool(tool, f"tools[{at}]") for at, tool in inputs)
    last = messages[-1] if messages else Message("user")
    return Chat(
        model=request.model or "",
        messages=messages,
        options=_options(request),
        # A last turn of the assistant is a beginning that the model goes on from.
        continue_final=last.role == "assistant" and bool(last.text) and not last.calls,
        response_format=_format(request.format),
        tools=tools,
        tool_choice=checked_choice(tools, ToolChoice(), "tools"),
        **_thinking(request.think),
    )


def decode_prompt(body: bytes) -> Chat | Completion:
    """Decode a prompt: a turn of a conversation, or with `raw` or a suffix a text to continue."""
    request = PROMPT.decode(body)
    prompt = request.prompt or ""
    check_kept(request.keep_alive, bool(prompt or request.suffix))
    settings = _options(request)
    if request.raw and (request.system or request.context or request.suffix):
        named = next(name for name in ("system", "context", "suffix") if getattr(request, name))
        raise invalid(named, "cannot be had in raw mode")
    if (request.raw and prompt) or request.suffix:
        return Completion(
            model=request.model or "",
            prompts=(prompt,),
            options=settings,
            suffix=request.suffix or None,
            parse_special=not request.suffix,
            response_format=_format(request.format),
        )
    turns = (Message("system", said(request.system)),) if request.system else ()
    return Chat(
        model=request.model or "",
        messages=(*turns, Message("user", said(prompt))) if prompt else (),
        options=replace(settings, return_context=bool(prompt)),
        response_format=_format(request.format),
        before=tuple(request.context or ()),
        **_thinking(request.think),
    )


def check_kept(keep_alive: float | str | None, asks: bool) -> None:
    """Refuse a keep_alive that is no duration, and to unload where that alone `asks` for."""
    if isinstance(keep_alive, str) and DURATION.fullmatch(keep_alive) is None:
        raise invalid("keep_alive", f"is no duration such as 5m: {shown(keep_alive)}")
    none = keep_alive is not None and not re.search("[1-9]", str(keep_alive))
    if none and not asks:
        raise unsupported("keep_alive", "models that are unloaded on demand")


def decode_options(raw: Raw) -> SamplingFields:
    """Return the options of a request. Raises Refusal, which names them as a part of it."""
    return OPTIONS.decode_part(raw, "options") if bytes(raw) not in UNSENT else SamplingFields()


def _options(request: OllamaRequest) -> GenerationOptions:
    fields = decode_options(request.options)
    if request.top_logprobs and not request.logprobs:
        raise invalid("top_logprobs", "needs logprobs to be true")
    settled = options(fields, max_tokens(fields, 0))
    if request.truncate is not None:
        settled = replace(settled, overflow="truncate" if request.truncate else "error")
    return replace(
        settled,
        stream=request.stream is not False,
        logprobs=(request.top_logprobs or 0) if request.logprobs else None,
    )


def _format(raw: Raw) -> ResponseFormat | None:
    """Return the form of an answer: the word json, or a schema."""
    text = bytes(raw)
    if text in (*UNSENT, b'""'):
        return None
    if text == b'"json"':
        return json_format("format")
    if not text.startswith(b"{"):
        raise invalid("format", "must be json or a JSON schema")
    return schema_format("format", raw)


def _thinking(think: bool | str | None) -> dict[str, Any]:
    """Return the fields of a Chat that say whether, or how much, its model is to think."""
    if think is None:
        return {}
    if isinstance(think, bool):
        return {"reasoning": Reasoning(think), "must_think": think}
    if think not in LEVELS:
        allowed = ", ".join(LEVELS)
        raise invalid("think", f"must be true, false or one of {allowed}, not {shown(think)}")
    return {"reasoning": Reasoning(True, think), "must_think": True}


def _tool(tool: InputTool, place: str) -> Tool:
    if tool.type != "function":
        raise unsupported(f"{place}.type", "tools other than functions")
    if tool.function is None:
        raise missing(f"{place}.function")
    function = tool.function
    about = function.name, function.description, function.parameters, function.strict
    return checked_tool(*about, f"{place}.function")


class _OpenCalls:
    """The calls that have no result yet, by id and by name, each in the order of the turns."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}  # by id
        self._ids: defaultdict[str, deque[str]] = defaultdict(deque)  # by name; "" has all

    def add(self, calls: Iterable[ToolCall]) -> None:
        for call in calls:
            self._names[call.id] = call.name
            self._ids[call.name].append(call.id)
            self._ids[""].append(call.id)

    def take(self, id: str | None, name: str | None) -> tuple[str, str | None]:
        """Return the id and the name of the call that a result is of, by what is said of it."""
        if not id:
            ids = self._ids[name or ""]
            while ids and ids[0] not in self._names:
                ids.popleft()
            id = ids[0] if ids else ""
        return id, self._names.pop(id, None) or name


def _messages(messages: Sequence[InputMessage]) -> Iterator[Message]:
    """Yield the turns; calls without an id get one, and results are of the first by their name."""
    waiting = _OpenCalls()
    for at, message in enumerate(messages):
        place, role = f"messages[{at}]", message.role.lower()
        if role not in ROLES:
            problem = f"must be one of {', '.join(ROLES)}, not {shown(message.role)}"
            raise invalid(f"{place}.role", problem)
        content = said(message.content or "") + tuple(_images(message.images or (), place))
        if role == "tool":
            id_, name = waiting.take(message.tool_call_id, message.tool_name)
            yield Message(role, content, name=name, result_of=id_)
        else:
            calls = tuple(_calls(message.tool_calls or (), at))
            waiting.add(calls)
            yield Message(role, content, message.thinking or None, calls=calls)


def _images(images: Sequence[Any], place: str) -> Iterator[Image]:
    """Yield images, which come in base64; clients that know the type do not say it."""
    for at, image in enumerate(images):
        where = f"{place}.images[{at}]"
        if not isinstance(image, str):
            raise invalid(where, "must be a string")
        data = decoded_base64(image, where)
        yield Image(media_type=image_type(data), data=data, field=f"{place}.images")


def _calls(calls: Sequence[InputCall], at: int) -> Iterator[ToolCall]:
    for number, call in enumerate(calls):
        arguments = checked_arguments(call.function.arguments)
        yield ToolCall(call.id or f"call_{at}_{number}", call.function.name, arguments)
