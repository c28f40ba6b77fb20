"""OpenAI's chat completions: request to Chat, answer and events to JSON."""

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from .chat import (
    Answer,
    AnswerChoice,
    AnswerStarted,
    ArgumentsDelta,
    Chat,
    Finish,
    GenerationOptions,
    Identity,
    Message,
    ReasoningDelta,
    TextDelta,
    ThoughtSigned,
    TokenText,
    ToolCallBegun,
)
from .decode import bound_values, invalid, missing, shown
from .dialect import Dialect
from .errors import OpenAIErrorBody, openai_error
from .fields import GENERATION, GENERATION_IGNORED, RequestDecoder
from .openai_parts import (
    InputDetail,
    InputPart,
    ReasoningDetail,
    content_of,
    detail_of,
    details_of,
    thoughts_of,
)
from .openai_reasoning import ReasoningRequest, reasoning_of
from .openai_shape import (
    DONE,
    AnswerBody,
    ChunkStream,
    Events,
    ProgressBody,
    PromptLogprobsBody,
    TimingsBody,
    UsageBody,
    encode_json,
    filled,
    finite,
    ranked,
    text_options,
    timings_body,
    usage_body,
)
from .openai_tools import CalledFunction, InputCall, calls_of, function_call, tools_of
from .operation import Operation
from .parts import Content, said
from .sampling import MAX_MESSAGES, Alternatives, max_tokens
from .structured_output import response_format

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


class InputMessage(Struct):
    role: str
    content: str | list[InputPart] | None = None
    name: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[InputDetail] | None = None
    tool_calls: list[InputCall] | None = None
    function_call: CalledFunction | None = None
    tool_call_id: str | None = None


class ChatRequest(ReasoningRequest, kw_only=True):
    messages: Annotated[list[InputMessage], Meta(min_length=1, max_length=MAX_MESSAGES)]
    logprobs: bool | None = None
    top_logprobs: Alternatives | None = None
    documents: list[dict[str, Any]] | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None


class TopLogprob(Struct):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    top_logprobs: list[TopLogprob]


class LogprobsBody(Struct):
    content: list[TokenLogprob]
    refusal: None = None


class Function(Struct):
    name: str | UnsetType = UNSET
    arguments: str = ""


class OutputCall(Struct):
    """A tool call, or a piece of one: only the first piece has an id and a name."""

    function: Function
    index: int | UnsetType = UNSET
    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET


class OutputMessage(Struct):
    """A message whose reasoning goes by two names, because clients look for either."""

    role: str
    content: str | None
    refusal: str | None = None
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    reasoning_details: list[ReasoningDetail] | UnsetType = UNSET
    tool_calls: list[OutputCall] | UnsetType = UNSET
    function_call: Function | UnsetType = UNSET


class OutputChoice(Struct):
    index: int
    message: OutputMessage
    logprobs: LogprobsBody | None
    finish_reason: str


class ChatResponse(AnswerBody, tag_field="object", tag="chat.completion"):
    choices: list[OutputChoice]
    usage: UsageBody
    prompt_logprobs: PromptLogprobsBody | UnsetType = UNSET
    timings: TimingsBody | UnsetType = UNSET
    system_fingerprint: str | UnsetType = UNSET


class Delta(Struct):
    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    reasoning_details: list[ReasoningDetail] | UnsetType = UNSET
    tool_calls: list[OutputCall] | UnsetType = UNSET
    function_call: Function | UnsetType = UNSET


class ChunkChoice(Struct):
    index: int
    delta: Delta
    logprobs: LogprobsBody | None = None
    finish_reason: str | None = None


class Chunk(AnswerBody, tag_field="object", tag="chat.completion.chunk"):
    choices: list[ChunkChoice]
    usage: UsageBody | UnsetType | None = UNSET
    timings: TimingsBody | UnsetType = UNSET
    prompt_progress: ProgressBody | UnsetType = UNSET
    system_fingerprint: str | UnsetType = UNSET


DECODER = RequestDecoder(ChatRequest, GENERATION, GENERATION_IGNORED)


def decode_request(body: bytes) -> Chat:
    request = DECODER.decode(body)
    tools, choice = tools_of(request)
    return Chat(
        model=request.model or "",
        messages=tuple(_message(m, f"messages[{i}]") for i, m in enumerate(request.messages)),
        options=text_options(request, max_tokens(request, 1), _logprobs(request)),
        template=_template(request),
        reasoning=reasoning_of(request),
        continue_final=_continue_final(request),
        tools=tools,
        tool_choice=choice,
        call_prefix="" if request.functions else "call_",
        response_format=response_format(request),
    )


def encode_response(answer: Answer, identity: Identity) -> bytes:
    who, prompt = identity, answer.choices[0].prompt
    lists: dict[str, Iterable[object]]
    lists = {"choices": (Raw(_choice(i, each)) for i, each in enumerate(answer.choices))}
    if prompt:
        lists["prompt_logprobs"] = map(ranked, prompt)
    body = ChatResponse(who.id, who.created, who.model, [], usage_body(answer.usage))
    body.prompt_logprobs = [] if prompt else UNSET
    body.timings = timings_body(answer.timings)
    body.system_fingerprint = who.fingerprint or UNSET
    return filled(body, **lists)


class Stream(ChunkStream):
    body = Chunk
    _legacy = False  # calls are of functions, which have no ids

    def __init__(self, identity: Identity, options: GenerationOptions) -> None:
        super().__init__(identity, options)
        self._introduced = set[int]()  # choices whose role is said

    def _nothing(self, choice: int) -> ChunkChoice:
        """Return an empty delta. A choice's first says the role; of two, clients join the texts."""
        role = UNSET if choice in self._introduced else "assistant"
        self._introduced.add(choice)
        return ChunkChoice(choice, Delta(role, ""))

    def _started(self, event: AnswerStarted) -> Events:
        silent = [i for i in self._begin(event) if i not in self._introduced]
        return tuple(self._send(self._nothing(i)) for i in silent)

    def _text_delta(self, event: TextDelta) -> Events:
        delta = Delta(content=event.text)
        return (self._send(ChunkChoice(event.choice, delta, _logprobs_body(event.tokens))),)

    def _reasoning_delta(self, event: ReasoningDelta) -> Events:
        delta = Delta(reasoning_content=event.text, reasoning=event.text)
        return (self._send(ChunkChoice(event.choice, delta, _logprobs_body(event.tokens))),)

    def _signed(self, event: ThoughtSigned) -> Events:
        delta = Delta(reasoning_details=[detail_of(event)])
        return (self._send(ChunkChoice(event.choice, delta)),)

    def _tool_call(self, event: ToolCallBegun) -> Events:
        self._legacy = not event.id
        function = Function(event.name)
        if self._legacy:
            return (self._send(ChunkChoice(event.choice, Delta(function_call=function))),)
        call = OutputCall(function, event.index, event.id, "function")
        return (self._send(ChunkChoice(event.choice, Delta(tool_calls=[call]))),)

    def _arguments(self, event: ArgumentsDelta) -> Events:
        function = Function(arguments=event.text)
        if self._legacy:
            return (self._send(ChunkChoice(event.choice, Delta(function_call=function))),)
        call = OutputCall(function, event.index)
        return (self._send(ChunkChoice(event.choice, Delta(tool_calls=[call]))),)

    def _finish(self, event: Finish) -> Events:
        self._open.discard(event.choice)
        reason = _reason(event.reason, self._legacy)
        return (self._send(ChunkChoice(event.choice, Delta(), None, reason)),)

    handlers: ClassVar = {
        AnswerStarted: _started,
        TextDelta: _text_delta,
        ReasoningDelta: _reasoning_delta,
        ThoughtSigned: _signed,
        ToolCallBegun: _tool_call,
        ArgumentsDelta: _arguments,
        Finish: _finish,
        **ChunkStream.common,
    }


def _logprobs(request: ChatRequest) -> int | None:
    if request.logprobs:
        return request.top_logprobs or 0
    if request.top_logprobs:
        raise invalid("top_logprobs", "needs logprobs to be true")
    return None


def _template(request: ChatRequest) -> dict[str, Any]:
    """Return what the template is told; what is said more exactly counts for more."""
    kwargs: dict[str, Any] = {}
    if request.documents:
        kwargs["documents"] = request.documents
    if request.add_generation_prompt is not None and not request.continue_final_message:
        kwargs["add_generation_prompt"] = request.add_generation_prompt
    bound_values("documents", request.documents)
    bound_values("chat_template_kwargs", request.chat_template_kwargs)
    return kwargs | (request.chat_template_kwargs or {})


def _continue_final(request: ChatRequest) -> bool:
    if request.continue_final_message and request.add_generation_prompt:
        problem = "must be false where continue_final_message is true"
        raise invalid("add_generation_prompt", problem)
    return bool(request.continue_final_message)


def _message(message: InputMessage, place: str) -> Message:
    if message.role not in ROLES:
        allowed = ", ".join(ROLES)
        raise invalid(f"{place}.role", f"must be one of {allowed}, not {shown(message.role)}")
    calls = calls_of(message.tool_calls or (), f"{place}.tool_calls")
    if message.function_call is not None:
        calls = (function_call(message.function_call),)
    if message.role == "tool" and message.tool_call_id is None:
        raise missing(f"{place}.tool_call_id")
    content = _content(message, f"{place}.content")
    reasoning = message.reasoning_content or message.reasoning or None
    in_parts = isinstance(message.content, list)
    return Message(
        ROLES[message.role],
        content,
        reasoning,
        message.name,
        calls,
        "" if message.role == "function" else message.tool_call_id,
        in_parts=in_parts,
        signed=thoughts_of(message.reasoning_details or ()),
    )


def _content(message: InputMessage, place: str) -> Content:
    if isinstance(message.content, str):
        return said(message.content)
    if message.content is None and message.role not in ("assistant", "function", "tool"):
        raise missing(place)
    return content_of(message.content or (), place)


def _choice(index: int, choice: AnswerChoice) -> bytes:
    reasoning = choice.reasoning or UNSET
    message = OutputMessage("assistant", choice.text, None, reasoning, reasoning)
    if choice.signed:
        message.reasoning_details = details_of(choice.signed)
    functions = [Function(call.name, call.arguments) for call in choice.calls]
    legacy = bool(functions) and not choice.calls[0].id
    if functions:
        message.content = choice.text or None
    if legacy:
        message.function_call = functions[0]
    elif functions:
        ids = (call.id for call in choice.calls)
        message.tool_calls = [OutputCall(f, UNSET, next(ids), "function") for f in functions]
    reason = _reason(choice.reason, legacy)
    if not choice.tokens:
        return encode_json(OutputChoice(index, message, None, reason))
    body = OutputChoice(index, message, LogprobsBody([]), reason)
    return filled(body, content=map(token_logprob, choice.tokens))


def _reason(reason: str, legacy: bool) -> str:
    if reason == "refusal":
        return "content_filter"
    return "function_call" if legacy and reason == "tool_calls" else reason


def _logprobs_body(tokens: tuple[TokenText, ...]) -> LogprobsBody | None:
    return LogprobsBody([token_logprob(token) for token in tokens]) if tokens else None


def token_logprob(token: TokenText) -> TokenLogprob:
    top = [TopLogprob(t.text, finite(t), list(t.raw)) for t in token.top]
    return TokenLogprob(token.text, finite(token), list(token.raw), top)


DIALECT = Dialect(
    prefix="chatcmpl-",
    decode_request=decode_request,
    encode_response=encode_response,
    stream=Stream,
    encode_error=openai_error,
    formats=True,
    operation=Operation(
        summary="Answer a conversation, as OpenAI's chat completions do",
        request=DECODER,
        response=ChatResponse,
        pieces=(Chunk, OpenAIErrorBody),
        mark=DONE.data.decode(),
        example={"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 64},
    ),
)
