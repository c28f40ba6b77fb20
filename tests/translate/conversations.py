"""Honest conversations, as transformers takes them."""

# ruff: noqa: RUF001 - tokens and texts hold such letters

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages and what goes with them; contents are strings or lists of parts."""

    messages: tuple[dict[str, Any], ...]
    tools: tuple[dict[str, Any], ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    continue_final: bool = False


def _turns(*texts: str, first: str = "user", **kwargs: Any) -> Conversation:
    """Return a conversation of user and assistant in turns."""
    roles = ("user", "assistant") if first == "user" else ("assistant", "user")
    return Conversation(tuple(message(roles[i % 2], t) for i, t in enumerate(texts)), **kwargs)


def message(role: str, content: Any = "", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def parts(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


def tool(name: str, description: str | None, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": [*properties][:1]}
    about = {} if description is None else {"description": description}
    return {"type": "function", "function": {"name": name, **about, "parameters": parameters}}


def call(number: int, name: str, **arguments: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"type": "function", "id": f"call{number:05}", "function": function}


def result(number: int, content: Any) -> dict[str, Any]:
    return message("tool", content, tool_call_id=f"call{number:05}")


WEATHER = tool(
    "get_weather",
    "Say what the weather is.",
    city={"type": "string", "description": 'A city, as "Zürich".'},
    unit={"type": "string", "enum": ["celsius", "fahrenheit"]},
)
CLOCK = tool("clock", "Say the time.")
SYSTEM = message("system", "You are terse.")
ASK = message("user", "How warm is it in Zürich?")
CALL = message("assistant", "", tool_calls=[call(1, "get_weather", city="Zürich")])
RESULT = result(1, '{"temperature": 21.5, "unit": "celsius"}')
WARM = message("assistant", "It is 21.5 °C.")
THANKS = message("user", "Thanks! And tomorrow?")
TOOLS = (WEATHER, CLOCK)
CODE = (
    'def f(x):\n    """Say "hi"."""\n    return {"a": [x, -1.5e3], \'b\': r"\\d+\\n"}\n\n\n'
    "print(f(1))\n"
)
THOUGHT = "They greet me.\n\nI should greet them back."


def _calls(*messages: dict[str, Any], **kwargs: Any) -> Conversation:
    return Conversation(messages, TOOLS, **kwargs)


CONVERSATIONS: dict[str, Conversation] = {
    "hello": _turns("Hello!"),
    "system": Conversation((SYSTEM, message("user", "Hello!"))),
    "empty_system": Conversation((message("system"), message("user", "Hello!"))),
    "turns": Conversation((SYSTEM, ASK, WARM, THANKS, message("assistant", "Rain."), ASK)),
    "turns_without_system": _turns(
        "Hello!", "Hi. What is it?", "Count to 3.", "1, 2, 3.", "Go on."
    ),
    "empty_question": _turns(""),
    "empty_answer": _turns("Hello!", "", "Are you there?"),
    "blank": _turns(" ", "\n", "\t"),
    "unicode": _turns(
        "naïve café – 東京, Ελλάδα, עברית, ไทย", "👩‍👩‍👧‍👦 🇨🇭 👍🏽 \u00a0\u200b\u2028.", "𝔘𝔫𝔦"
    ),
    "decomposed": _turns("cafe\u0301 A\u030a \ufb01 ½ ²", "e\u0301", "o\u0308k"),
    "spaces": Conversation(
        (message("system", "  Be  brief. "), *_turns("  Hello  there  ", "  Hi ", " ok ").messages)
    ),
    "newlines": Conversation(
        (message("system", "\n\nBrief.\n"), *_turns("\n\nHello\n", "\nHi\n\n", "ok\n\n\n").messages)
    ),
    "carriage_returns": _turns("one\r\ntwo\r\n\r\n\tthree\n \n", "a\rb"),
    "code": _turns(f"Mend this:\n```python\n{CODE}```", CODE, "    indented\n\n        more"),
    "json": _turns('{"a": [1, 2.50, true, null], "b": {"c": "\\u00e9 \\"q\\""}}', "[]", "{}"),
    "html": _turns("<b>bold</b> <br/> a < b > c & 'd' <p class=\"x\">&lt;</p>", "<ul>\n<li>1</li>"),
    "struck": _turns("<s>struck</s> and <pad> and <unk>", "<s>", "ok"),
    "brackets": _turns("[1] [INST [x] ]] [[ <| |> <|x|> | a | b |\n|---|---|", "#### <<SYS", "»«"),
    "template": _turns("{{ 7 * 7 }} {% raw %} {# no #} %s %(a)s {0}", "${x} {{", "}} {%- endif %}"),
    "numbers": _turns("1234567890 3.14159 1,000,000 0x7f -1e-9 2024-07-26", "12 345", "007"),
    "apostrophes": _turns("It's we'll I'D don't O'Brien's 'tis", "she'Ll", "y'all're"),
    "two_systems": Conversation((SYSTEM, message("system", "Speak English."), ASK)),
    "late_system": Conversation((ASK, WARM, message("system", "Speak French."), THANKS)),
    "two_questions": Conversation((SYSTEM, ASK, message("user", "Answer in Kelvin."))),
    "two_answers": Conversation((ASK, WARM, message("assistant", "Or so."), THANKS)),
    "system_alone": Conversation((SYSTEM,)),
    "answer_first": _turns("Hello, I am here.", "Who are you?", first="assistant"),
    "answer_last": _turns("Hello!", "Hi."),
    "no_generation": _turns("Hello!", "Hi.", "Bye.", kwargs={"add_generation_prompt": False}),
    "no_generation_answered": _turns("Hello!", "Hi.", kwargs={"add_generation_prompt": False}),
    "continued": _turns("Say hello.", "Hello, I am", continue_final=True),
    "continued_space": _turns("Say hello.", "Hello, I am ", continue_final=True),
    "continued_newline": _turns("Say hello.", "Hello:\n\n", continue_final=True),
    "continued_repeated": _turns("Hi", "Hi", "Hi", "Hi", continue_final=True),
    "continued_question": _turns("Once upon a", continue_final=True),
    "thinking": _turns("Hello!", kwargs={"enable_thinking": True, "thinking": True}),
    "no_thinking": _turns("Hello!", kwargs={"enable_thinking": False, "thinking": False}),
    "no_thinking_turns": _turns("Hi", "Ho", "Hm", kwargs={"enable_thinking": False}),
    "effort": Conversation((SYSTEM, ASK), kwargs={"reasoning_effort": "high"}),
    "thought_in_content": _turns("Hello!", f"<think>\n{THOUGHT}\n</think>\n\nHi.", "Bye."),
    "thought_in_last_content": _turns(
        "Hello!",
        f"<think>\n{THOUGHT}\n</think>\n\nHi.",
        kwargs={"add_generation_prompt": False},
    ),
    "thought_unopened": _turns("Hello!", f"{THOUGHT}\n</think>\n\nHi.", "Bye."),
    "reasoning": Conversation(
        (ASK, message("assistant", "Hi.", reasoning_content=THOUGHT), THANKS)
    ),
    "reasoning_last": Conversation(
        (ASK, message("assistant", "Hi.", reasoning_content=THOUGHT)),
        kwargs={"add_generation_prompt": False},
    ),
    "reasoning_blank": Conversation(
        (ASK, message("assistant", "Hi.", reasoning_content="\n \n"), THANKS)
    ),
    "reasoning_continued": Conversation(
        (ASK, message("assistant", "Hi and", reasoning_content=THOUGHT)), continue_final=True
    ),
    "reasoning_and_call": _calls(
        ASK, {**CALL, "reasoning_content": "I should look it up."}, RESULT
    ),
    "reasoning_call_and_answer": _calls(
        ASK, {**CALL, "reasoning_content": "I should look it up."}, RESULT, WARM, THANKS
    ),
    "named": Conversation((SYSTEM, {**ASK, "name": "alice"}, WARM, {**THANKS, "name": "bob"})),
    "parts": Conversation((message("user", parts("Hello!", "How are you?")),)),
    "parts_with_spaces": Conversation((message("user", parts(" Hello!\n", "\n How?", "")),)),
    "parts_everywhere": Conversation(
        (
            message("system", parts("You are terse.", "Be kind.")),
            message("user", parts("Hello!", "How are you?")),
            message("assistant", parts("Well.", "And you?")),
            message("user", parts("Well.", "Thanks.")),
        )
    ),
    "parts_and_strings": Conversation(
        (SYSTEM, message("user", parts("Hello!", "How?")), message("assistant", "Well."), THANKS)
    ),
    "documents": Conversation(
        (SYSTEM, ASK),
        kwargs={"documents": [{"title": "Zürich", "text": "It is warm.", "doc_id": "1"}]},
    ),
    "tools": _calls(ASK),
    "tools_with_system": _calls(SYSTEM, ASK),
    "tools_unused": _calls(SYSTEM, message("user", "Hello!"), message("assistant", "Hi."), ASK),
    "tool_nested": Conversation(
        (ASK,),
        (
            tool(
                "search",
                'Seeks "things" & <more>.',
                query={"type": ["string", "null"], "default": "x"},
                filters={
                    "type": "array",
                    "items": {"type": "object", "properties": {"key": {"type": "string"}}},
                },
                limit={"type": "integer", "minimum": 1},
                deep={"type": "boolean", "description": "Übergroß"},
            ),
        ),
    ),
    "tool_bare": Conversation((ASK,), ({"type": "function", "function": {"name": "ping"}},)),
    "call": _calls(ASK, CALL, RESULT),
    "call_with_system": _calls(SYSTEM, ASK, CALL, RESULT),
    "call_answered": _calls(SYSTEM, ASK, CALL, RESULT, WARM, THANKS),
    "call_beside_text": _calls(ASK, {**CALL, "content": "I look."}, RESULT),
    "call_without_arguments": _calls(
        ASK, message("assistant", "", tool_calls=[call(2, "clock")]), result(2, "12:00")
    ),
    "call_of_many_kinds": _calls(
        ASK,
        message(
            "assistant",
            "",
            tool_calls=[
                call(
                    1,
                    "get_weather",
                    city="Zü\n\"r'ich\\",
                    a=1,
                    b=2.5,
                    c=True,
                    d=None,
                    e=[{"f": []}],
                )
            ],
        ),
        RESULT,
    ),
    "two_calls": _calls(
        ASK,
        message(
            "assistant", "", tool_calls=[call(1, "get_weather", city="Zürich"), call(2, "clock")]
        ),
        RESULT,
        result(2, "12:00"),
    ),
    "calls_in_a_row": _calls(
        ASK,
        CALL,
        RESULT,
        message("assistant", "", tool_calls=[call(2, "clock")]),
        result(2, "12:00"),
        WARM,
    ),
    "empty_result": _calls(ASK, CALL, result(1, "")),
    "result_of_spaces": _calls(ASK, CALL, result(1, "\n  21\n\n")),
    "result_of_markup": _calls(ASK, CALL, result(1, "<b>21</b> & {'a': [1]}\n```\nx\n```")),
}
