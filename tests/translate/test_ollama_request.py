"""Tests of Ollama's requests: each field honoured, refused by name, or on the list of ignored."""

import json
from typing import Any

import pytest

from bessemer.engine.request import Refusal
from bessemer.translate.chat import Chat, Completion, GenerationOptions, Reasoning
from bessemer.translate.fields import IGNORED
from bessemer.translate.ollama_request import decode_chat, decode_prompt
from bessemer.translate.parts import Image, Text

HI = [{"role": "user", "content": "Hi"}]
FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object"}}
# As the API's documents have them, each with a value that asks for something.
OPTIONS: dict[str, Any] = {
    "num_ctx": 2048, "num_batch": 2, "num_gpu": 1, "main_gpu": 0, "use_mmap": True,
    "num_thread": 2, "draft_num_predict": 4, "num_keep": 5, "seed": 7, "num_predict": 9,
    "top_k": 20, "top_p": 0.5, "min_p": 0.25, "typical_p": 0.7, "repeat_last_n": 64,
    "temperature": 0.5, "repeat_penalty": 1.5, "presence_penalty": 1.25,
    "frequency_penalty": 0.75, "stop": ["a", "b"], "mirostat": 1, "tfs_z": 0.5,
    "penalize_newline": False, "numa": True, "low_vram": True, "f16_kv": True, "use_mlock": True,
}  # fmt: skip
CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Ho"}], "tools": [{"function": FUNCTION}],
    "truncate": True, "format": "json", "stream": False, "think": True, "shift": True,
    "logprobs": True,
}  # fmt: skip
PROMPT: dict[str, Any] = {
    "prompt": "Ho", "suffix": "end", "images": ["x"], "system": "Be brief.", "template": "x",
    "context": [1, 2], "raw": True, "format": {"type": "object"}, "stream": False,
    "think": "low", "shift": False, "logprobs": True, "width": 9, "_debug_render_only": True,
}  # fmt: skip
ALL = [
    *(
        ("options", {"options": {name: value}}, f"options.{name}")
        for name, value in OPTIONS.items()
    ),
    *(("chat", {name: value}, name) for name, value in CHAT.items()),
    *(("prompt", {name: value}, name) for name, value in PROMPT.items()),
]


def chat(**fields: Any) -> Chat:
    return decode_chat(json.dumps({"model": "m", "messages": HI} | fields).encode())


def prompt(**fields: Any) -> Chat | Completion:
    return decode_prompt(json.dumps({"model": "m", "prompt": "Hi"} | fields).encode())


def refused(decode: Any, **fields: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        decode(**fields)
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize(("at", "fields", "name"), ALL, ids=[f"{at}-{n}" for at, _, n in ALL])
def test_a_field_is_honoured_or_refused_by_name_or_on_the_list(
    at: str, fields: dict[str, Any], name: str
) -> None:
    decode = prompt if at == "prompt" else chat
    try:
        changed = decode(**fields) != decode()
    except Refusal as refusal:
        assert (refusal.code, refusal.field) == ("unsupported", name)
        assert name in refusal.message and name not in IGNORED
        return
    assert changed != (name in IGNORED)


def test_options() -> None:
    names = ("num_predict", "temperature", "top_k", "top_p", "min_p", "seed", "stop")
    penalties = ("repeat_penalty", "presence_penalty", "frequency_penalty")
    sent = {name: OPTIONS[name] for name in (*names, *penalties)}
    assert chat(options=sent).options == GenerationOptions(
        max_tokens=9, temperature=0.5, top_k=20, top_p=0.5, min_p=0.25, seed=7, stop=("a", "b"),
        repetition_penalty=1.5, presence_penalty=1.25, frequency_penalty=0.75, stream=True,
    )  # fmt: skip
    assert chat(options={"num_predict": 128.0}).options.max_tokens == 128  # as JavaScript may
    assert chat(options=None).options == chat().options == GenerationOptions(stream=True)
    assert (chat(options={"num_predict": -1}).options.max_tokens or 0) > 10**9
    neutral = {"mirostat": 0, "typical_p": 1, "tfs_z": 1, "repeat_last_n": 64, "repeat_penalty": 1}
    assert chat(options=neutral | {"penalize_newline": True}).options.repetition_penalty == 1
    refusal = refused(chat, options={"temperature": -1})
    assert refusal.field == "options.temperature"
    assert refusal.message.startswith("options.temperature must be")
    assert refused(chat, options=[]).message.startswith("options must be an object")
    assert [chat(truncate=cut).options.overflow for cut in (True, False, None)] == [
        "truncate", "error", None,
    ]  # fmt: skip
    assert chat(logprobs=True, top_logprobs=3).options.logprobs == 3
    assert chat(logprobs=True).options.logprobs == 0
    assert refused(chat, top_logprobs=3).field == "top_logprobs"


def test_a_form() -> None:
    assert chat(format="").response_format is chat(format=None).response_format is None
    form = chat(format="json").response_format
    assert form and (form.kind, form.field) == ("json_object", "format")
    schema = {"type": "object", "properties": {}}
    form = prompt(format=schema).response_format
    assert form and form.kind == "json_schema" and json.loads(form.definition) == schema
    assert refused(chat, format="xml").field == refused(chat, format=3).field == "format"


def test_thinking() -> None:
    assert chat().reasoning == Reasoning() and not chat().must_think
    assert chat(think=False).reasoning == Reasoning(False) and not chat(think=False).must_think
    assert chat(think=True).reasoning == Reasoning(True) and chat(think=True).must_think
    for level in ("low", "high", "max"):
        thinking = chat(think=level)
        assert thinking.reasoning == Reasoning(True, level) and thinking.must_think
    assert "low, medium, high, max" in refused(chat, think="lots").message
    assert refused(chat, think=3).field == "think"


def test_messages_with_calls_and_results() -> None:
    call = {"function": {"name": "f", "arguments": {"a": 1}}}
    other = {"function": {"name": "g"}, "id": "x"}
    decoded = chat(
        messages=[
            {"role": "SYSTEM", "content": "s"},
            {"role": "user"},
            {"role": "assistant", "thinking": "t", "tool_calls": [call, other, call]},
            {"role": "tool", "tool_name": "g", "content": "1"},
            {"role": "tool", "tool_name": "f", "content": "2"},
            {"role": "tool", "content": "3"},
            {"role": "tool", "tool_call_id": "x", "content": "4"},
            {"role": "tool", "tool_name": "h", "content": "5"},
        ],
        tools=[{"type": "function", "function": FUNCTION}],
    )
    assert [turn.role for turn in decoded.messages] == [
        "system", "user", "assistant", *["tool"] * 5,
    ]  # fmt: skip
    calls = decoded.messages[2].calls
    assert [(each.name, each.arguments) for each in calls] == [
        ("f", '{"a":1}'), ("g", "{}"), ("f", '{"a":1}'),
    ]  # fmt: skip
    first, given, second = (each.id for each in calls)
    assert given == "x" and first != second and decoded.messages[2].reasoning == "t"
    results = [(turn.result_of, turn.name) for turn in decoded.messages[3:]]
    assert results == [("x", "g"), (first, "f"), (second, "f"), ("x", None), ("", "h")]
    (tool,) = decoded.tools
    assert (tool.name, tool.description, tool.parameters) == ("f", "d", {"type": "object"})


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"messages": [{"role": "critic", "content": "x"}]}, "messages[0].role"),
        ({"messages": [*HI, {"role": "user", "images": ["x"]}]}, "messages[1].images[0]"),
        ({"tools": [{"type": "web"}]}, "tools[0].type"),
        ({"tools": [{}]}, "tools[0].function"),
        ({"keep_alive": "soon"}, "keep_alive"),
        ({"messages": [], "keep_alive": 0}, "keep_alive"),
        ({"messages": [], "keep_alive": "0s"}, "keep_alive"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], field: str) -> None:
    assert refused(chat, **fields).field == field


def test_to_keep_a_model_or_only_to_load_it() -> None:
    for keep in (0, "0", -1, "-1", 300, "5m", "1h30m", "1.5h", "500ms", None):
        assert chat(keep_alive=keep) == chat() if keep != "-1" else refused(chat, keep_alive=keep)
    assert chat(messages=None).messages == chat(messages=[], keep_alive=-1).messages == ()
    loads = prompt(prompt="", system="Be brief.")
    assert isinstance(loads, Chat) and loads.messages == () and not loads.options.return_context
    assert refused(prompt, prompt="", keep_alive="0s").field == "keep_alive"


def test_a_last_turn_of_the_assistant_is_gone_on_from() -> None:
    assert not chat().continue_final
    begun = {"role": "assistant", "content": "It"}
    assert chat(messages=[*HI, begun]).continue_final
    assert not chat(messages=[*HI, begun | {"content": ""}]).continue_final


def test_prompts() -> None:
    plain = prompt(system="Be brief.", context=[4, 5])
    assert isinstance(plain, Chat) and plain.before == (4, 5) and plain.options.return_context
    assert [(turn.role, turn.text) for turn in plain.messages] == [
        ("system", "Be brief."), ("user", "Hi"),
    ]  # fmt: skip
    raw = prompt(raw=True)
    assert isinstance(raw, Completion) and raw.prompts == ("Hi",) and raw.suffix is None
    assert raw.parse_special and not raw.options.return_context
    filled = prompt(suffix="end")
    assert isinstance(filled, Completion) and (filled.prompts, filled.suffix) == (("Hi",), "end")
    assert not filled.parse_special
    for name, value in (("system", "s"), ("context", [1]), ("suffix", "s")):
        assert refused(prompt, raw=True, **{name: value}).field == name


def test_images_are_parts_that_say_what_they_are() -> None:
    turn = {"role": "user", "content": "See", "images": ["/9j/", "iVBO"]}
    (message,) = chat(messages=[turn]).messages
    assert message.content == (
        Text("See"),
        Image(media_type="image/jpeg", data=b"\xff\xd8\xff"),
        Image(media_type="image/png", data=b"\x89PN"),
    )
    assert [part.field for part in message.content if isinstance(part, Image)] == [
        "messages[0].images"
    ] * 2
