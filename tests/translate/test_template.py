"""Templates in the style of the common families; the expected prompts were made by transformers."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from bessemer.engine.request import Refusal
from bessemer.translate.chat import Chat, Message, Tool, ToolCall, ToolChoice
from bessemer.translate.parts import Text, said
from bessemer.translate.template import ChatTemplate
from bessemer.translate.template_source import pick

CHATML = """\
{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'system' and loop.first %}
        {%- continue %}
    {%- endif %}
    {%- set content = message.content | trim %}
    {%- if message.role == 'assistant' and message.reasoning_content is defined %}
        {%- set thought = message.reasoning_content.strip('\\n') %}
        {%- set content = '<think>\\n' + thought + '\\n</think>\\n\\n' + content %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- generation %}{{ content }}{% endgeneration %}
    {{- '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""
HEADERS = """\
{{- bos_token }}
{%- if tools is not none %}
    {{- 'Tools: ' ~ (tools | tojson(indent=2)) }}
{%- endif %}
{%- set date = strftime_now('%d %b %Y') if strftime_now is defined else '26 Jul 2024' %}
{%- for m in messages %}
    {{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' -}}
    {% if m['role'] == 'system' %}{{ 'Today is ' + date + '.\\n' }}{% endif %}
    {{- m['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{% if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
INST = """\
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] %}
    {%- set turns = messages[1:] %}
{%- else %}
    {%- set turns = messages %}
{%- endif %}
{{- bos_token }}
{%- for turn in turns %}
    {%- if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Roles must alternate user/assistant/user/assistant.') }}
    {%- endif %}
    {%- if turn['role'] == 'user' %}
        {%- if loop.first and system is defined %}
            {{- '[INST] ' + system + '\\n\\n' + turn['content'] + '[/INST]' }}
        {%- else %}
            {{- '[INST] ' + turn['content'] + '[/INST]' }}
        {%- endif %}
    {%- elif turn['role'] == 'assistant' %}
        {{- ' ' + turn['content'] + eos_token }}
    {%- else %}
        {{- raise_exception('Only user and assistant turns are supported.') }}
    {%- endif %}
{%- endfor %}
"""

SYSTEM = Message("system", said("Be <brief> & 'kind'."))
USER = Message("user", said("  Hi there \n"))
ASSISTANT = Message("assistant", said("Hello! "))
THOUGHTFUL = Message("assistant", said("Hello! "), "\nThe user greets.\n")
AGAIN = Message("user", said("Émile 😀?"))
TOOL = Tool("é<f>", parameters={})
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def template(source: str | None) -> ChatTemplate:
    return ChatTemplate(source, TOKENS, now=lambda: datetime(2024, 7, 26))


def render(
    source: str | None,
    *messages: Message,
    tools: Sequence[Tool] = (),
    go_on: bool = False,
    **settings: Any,
) -> str:
    chat = Chat("m", messages, template=settings, continue_final=go_on, tools=tuple(tools))
    return template(source).render(chat)


def refusal(source: str | None, *messages: Message, go_on: bool = False, **kw: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        render(source, *(messages or (USER,)), go_on=go_on, **kw)
    return caught.value


def test_chatml() -> None:
    assert render(CHATML, SYSTEM, USER, THOUGHTFUL, AGAIN) == (
        "<|im_start|>system\nBe <brief> & 'kind'.<|im_end|>\n"
        "<|im_start|>user\nHi there<|im_end|>\n"
        "<|im_start|>assistant\n<think>\nThe user greets.\n</think>\n\nHello!<|im_end|>\n"
        "<|im_start|>user\nÉmile 😀?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_template_setting() -> None:
    assert render(CHATML, USER, enable_thinking=False) == (
        "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )


def test_headers_with_a_date() -> None:
    assert render(HEADERS, SYSTEM, USER, ASSISTANT, AGAIN) == (
        "<s><|start_header_id|>system<|end_header_id|>\n\n"
        "Today is 26 Jul 2024.\nBe <brief> & 'kind'.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi there<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nÉmile 😀?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_tools_are_written_without_escapes() -> None:
    assert render(HEADERS, USER, tools=[TOOL], add_generation_prompt=False) == (
        'Tools: [\n  {\n    "type": "function",\n    "function": {\n      "name": "é<f>",\n'
        '      "parameters": {}\n    }\n  }\n]'
        "<|start_header_id|>user<|end_header_id|>\n\nHi there<|eot_id|>"
    ).join(("<s>", ""))


def test_calls_and_their_results_reach_the_template_as_transformers_has_them() -> None:
    source = "{% for m in messages %}{{ m | tojson }}\n{% endfor %}{{ tools | tojson }}"
    called = Message("assistant", calls=(ToolCall("c1", "f", '{"a": [1]}'),))
    result = Message("tool", said("2"), name="f", result_of="c1")
    assert render(source, called, result, tools=[Tool("f", "Adds.")]) == (
        '{"role": "assistant", "content": "", "tool_calls": [{"type": "function", "id": "c1", '
        '"function": {"name": "f", "arguments": {"a": [1]}}}]}\n'
        '{"role": "tool", "content": "2", "name": "f", "tool_call_id": "c1"}\n'
        '[{"type": "function", "function": {"name": "f", "description": "Adds."}}]'
    )


def test_inst() -> None:
    assert render(INST, SYSTEM, USER, ASSISTANT, AGAIN) == (
        "<s>[INST] Be <brief> & 'kind'.\n\n  Hi there \n[/INST] Hello! </s>[INST] Émile 😀?[/INST]"
    )


def test_going_on_in_the_last_message() -> None:
    assert render(INST, USER, ASSISTANT, go_on=True) == "<s>[INST]   Hi there \n[/INST] Hello! "


def test_going_on_after_an_end_that_the_template_trims_as_transformers_does() -> None:
    prompt = render(CHATML, USER, ASSISTANT, go_on=True)
    assert prompt == "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\nHello!"


def test_going_on_in_the_last_of_several_parts() -> None:
    walks = "{% for m in messages %}[{{ m.role }}]{% for p in m.content %}{{ p.text }}{% endfor %}"
    two = Message("assistant", (Text("One. "), Text("Two ")))
    assert render(walks + "!{% endfor %}", USER, two, go_on=True) == (
        "[user]  Hi there \n![assistant]One. Two "
    )
    assert render(INST, USER, two, go_on=True) == "<s>[INST]   Hi there \n[/INST] One. \nTwo "


def test_a_content_reaches_a_template_as_it_was_sent_if_it_reads_both() -> None:
    both = (
        "{% for m in messages %}{% if m.content is string %}S:{{ m.content }}{% else %}"
        "{% for p in m.content %}P:{{ p.text }}{% endfor %}{% endif %}{% endfor %}"
    )
    for texts, in_parts, prompt in (
        (("Hi",), False, "S:Hi"),
        (("Hi",), True, "P:Hi"),
        (("Hi", "ho"), True, "P:HiP:ho"),
        ((), True, "S:"),
    ):
        message = Message("user", tuple(map(Text, texts)), in_parts=in_parts)
        assert render(both, message) == prompt
        assert "S:" in render(both.replace("P:{{ p.text }}", "{{ 1 / 0 }}"), message)


def test_where_to_go_on_cannot_be_forged() -> None:
    tells = "{{ raise_exception(messages[-1].content) if messages | length == 2 }}" + INST
    marked = [refusal(tells, USER, ASSISTANT, go_on=True).message for _ in range(2)]
    assert marked[0] != marked[1] and all("Hello! \ue000" in message for message in marked)
    forged = [Message("assistant", said(message)) for message in marked]
    assert render(INST, USER, forged[0], go_on=True).endswith(f"[/INST] {marked[0]}")


def test_going_on_opens_no_turn() -> None:
    source = "{{ messages[-1].content }}{% if add_generation_prompt %}{{ 1 / 0 }}{% endif %}"
    assert render(source, USER, ASSISTANT, go_on=True) == "Hello! "


def test_going_on_where_the_template_drops_the_message() -> None:
    fault = refusal("{{ messages[0].content }}", USER, ASSISTANT, go_on=True)
    assert fault.status == 400
    assert "last message" in fault.message


def test_no_template() -> None:
    fault = refusal(None)
    assert (fault.status, fault.code) == (400, "no_chat_template")
    assert "/v1/completions" in fault.message


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{% if %}", "line 1"),
        ("{% for x in y %}", "line 1"),
        ("{% break %}", "'break' outside loop"),
        ("{{ nothing.here }}", "UndefinedError"),
        ("{{ messages[0].content + 5 }}", "TypeError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ {} | tojson(indent='x') + undefined_thing() }}", "UndefinedError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{{ '\\ud800' }}", "UnicodeEncodeError"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "SecurityError"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{{ 'x' * 10000000000 }}", "SecurityError"),
        ("{{ [messages] * 10000000000 }}", "SecurityError"),
        ("{{ 10 ** 10000000000 }}", "SecurityError"),
        ("{{ range(10000000000) | list }}", "OverflowError"),
    ],
)
def test_a_broken_template(source: str, says: str) -> None:
    fault = refusal(source)
    assert (fault.status, fault.code) == (500, "broken_chat_template")
    assert says in fault.message


def test_a_message_of_the_template_can_always_be_sent() -> None:
    refusal("{{ raise_exception('\\ud800') }}").message.encode()


def test_undefined_is_empty_and_special_tokens_are_known() -> None:
    assert ChatTemplate("{{ bos_token }}{{ missing }}|").render(Chat("m", (USER,))) == "|"
    pad = ChatTemplate("{{ pad_token }}", special_tokens={"pad_token": "<pad>"})
    assert pad.render(Chat("m", (USER,))) == "<pad>"


def test_there_are_no_documents() -> None:
    assert render("{% if documents is not none %}D{% else %}-{% endif %}", USER) == "-"
    assert render("{{ documents | length }}", USER, documents=[1]) == "1"


def test_small_products_are_allowed() -> None:
    assert render("{{ '-' * 3 }}{{ 6 * 7 }}{{ 2.5 * 2 }}", USER) == "---425.0"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_an_earlier_thought_by_each_name(name: str) -> None:
    source = "{% for m in messages %}[{{ m.NAME }}]{{ m.NAME is defined }}{% endfor %}"
    prompt = render(source.replace("NAME", name), USER, THOUGHTFUL)
    assert prompt == "[]False[\nThe user greets.\n]True"


def test_an_earlier_thought_as_a_part_of_the_content() -> None:
    """As Mistral's templates have it, which know no field for it."""
    source = (
        "{% for m in messages %}[{% if m.content is string %}{{ m.content }}{% else %}"
        "{% for p in m.content %}{{ p.type }}:{{ p[p.type] }};{% endfor %}{% endif %}]{% endfor %}"
    )
    spoken = Message("assistant", said("Hi"), "Hm.")
    assert render(source, USER, spoken).endswith("[thinking:Hm.;text:Hi;]")
    silent = replace(spoken, content=())
    assert render(source, USER, silent).endswith("[thinking:Hm.;]")
    assert render(source, USER, replace(spoken, reasoning=None)).endswith("[Hi]")
    assert render(source, USER, spoken, go_on=True).endswith("[thinking:Hm.;text:Hi")
    fields = source.replace("{% for m in messages %}", "{% for m in messages %}{{ m.reasoning }}")
    assert render(fields, USER, spoken).endswith("Hm.[Hi]"), "a field does as well"


def test_what_is_set_in_a_generation_is_forgotten_after_it() -> None:
    source = (
        "{% set x = 'out' %}{% set n = namespace(y=1) %}{% for m in messages %}{% generation %}"
        "{% set x = 'in' %}{% set n.y = n.y + loop.index %}{{ x }}{{ m.content }}"
        "{% endgeneration %}{{ x }}{% endfor %}{{ n.y }}"
    )
    assert render(source, ASSISTANT, AGAIN) == "inHello! outinÉmile 😀?out4"


def test_names_and_lines() -> None:
    assert (
        render(
            "{% for m in messages %}\n  {%- if 1 %}\n{{ m.name }}\n  {% endif %}\n{% endfor %}",
            Message("user", said("x"), None, "ann"),
        )
        == "ann\n"
    )


@pytest.mark.parametrize(
    "name",
    ["messages", "tools", "bos_token", "pad_token", "raise_exception", "strftime_now", "range",
     "namespace", "dict", "lipsum", "cycler", "joiner"],
)  # fmt: skip
def test_what_the_server_sets_cannot_be_set(name: str) -> None:
    with pytest.raises(Refusal) as caught:
        template(CHATML).render(Chat("m", (USER,), template={name: "x"}))
    assert (caught.value.status, caught.value.field) == (400, "chat_template_kwargs")
    assert name in caught.value.message


@pytest.mark.parametrize("name", ["enable_thinking", "add_generation_prompt"])
@pytest.mark.parametrize("value", ["no", 0, [], {}])
def test_switches_are_true_or_false(name: str, value: Any) -> None:
    fault = refusal(CHATML, **{name: value})
    assert (fault.status, fault.field) == (400, "chat_template_kwargs") and name in fault.message


@pytest.mark.parametrize(
    ("use", "value"),
    [
        ("'x' + level", 5),
        ("'x' + level", ["high"]),
        ("level.name.first", None),
        ("raise_exception('no such level')", 1),
        ("('%d' % level)", "x"),
        ("range(level) | list", 10**12),
        ("walk(level)", [[]]),
        ("'x' * level", 10**12),
    ],
)
def test_settings_that_do_not_suit_are_the_clients_mistake(use: str, value: Any) -> None:
    walk = "{% macro walk(x) %}{{ walk(x) }}{% endmacro %}"
    source = walk + "{% if level is defined %}{{ " + use + " }}{% endif %}{{ messages[0].content }}"
    fault = refusal(source, level=value)
    assert (fault.status, fault.field) == (400, "chat_template_kwargs")
    assert "'level'" in fault.message
    assert render(source, USER) == "  Hi there \n"


def test_a_prompt_has_a_longest_length() -> None:
    endless = "{{ messages[0].content }}{% for i in range(999) %}{{ 'x' * 99 }}{% endfor %}"
    with pytest.raises(Refusal, match="more than 9000 characters for") as caught:
        template(endless).render(Chat("m", (USER,)), 9000)
    assert (caught.value.status, caught.value.code) == (500, "broken_chat_template")
    long = Chat("m", (Message("user", said("x" * 2000)),))
    with pytest.raises(Refusal, match="shorten it") as caught:
        template(CHATML).render(long, 1000)
    assert (caught.value.status, caught.value.code) == (400, "context_length_exceeded")
    endless = "{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}"
    assert "more than" in refusal(endless).message


def test_what_a_template_says_is_cut() -> None:
    assert len(refusal("{{ raise_exception('x' * 99999) }}").message) < 1200


def test_pick() -> None:
    both = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    assert pick("S") == "S"
    assert pick(both) == "{% if tools %}T{% else %}D{% endif %}"  # type: ignore[arg-type]
    assert pick([{"name": "rag", "template": "R"}, both[1]]) == "D"  # type: ignore[list-item]
    assert pick([{"name": "tool_use", "template": "T"}]) == "T"
    assert pick([]) is None


def test_the_template_for_tools_is_chosen_where_there_are_some() -> None:
    both = [
        {"name": "default", "template": "D{{ messages[0].content }}"},
        {"name": "tool_use", "template": "T{% for t in tools %}{{ t.function.name }}{% endfor %}"},
    ]
    template = ChatTemplate(pick(both))  # type: ignore[arg-type]
    chat = Chat("m", (Message("user", said("Hi")),))
    assert template.render(chat) == "DHi"
    assert template.render(replace(chat, tools=(Tool("f"),))) == "Tf"
    for choice in (ToolChoice("none"), ToolChoice("auto", ("g",))):  # its beginning stays as it is
        assert template.render(replace(chat, tools=(Tool("f"),), tool_choice=choice)) == "Tf"
    deferred = (Tool("f"), Tool("g", deferred=True))
    assert template.render(replace(chat, tools=deferred)) == "Tf"
    assert template.render(replace(chat, tools=deferred[1:])) == "DHi"


def test_what_is_worth_a_line_in_the_log() -> None:
    said_of = {
        CHATML: (),
        "{% if %}": ("the chat template cannot be used (",),
        "{{ raise_exception('no') }}": ("the chat template cannot take a short question (no)",),
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}"
        "{{ m.content }}{% endfor %}": ("the chat template has no system message: ",),
    }
    for source, lines in said_of.items():
        notes = ChatTemplate(source, {}).notes
        assert len(notes) == len(lines) and all(map(str.startswith, notes, lines)), notes
