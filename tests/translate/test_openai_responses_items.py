"""Items as the turns of a conversation, and as lists of them have them."""

from typing import Any

import msgspec
import pytest
from openai.types.responses import ResponseInputContentParam, ResponseItem
from pydantic import TypeAdapter

from bessemer.engine.request import Refusal
from bessemer.translate.chat import Message, ToolCall
from bessemer.translate.openai_responses_items import (
    Item,
    listed,
    new_id,
    sealed,
    tool_name,
    turns_of,
)
from bessemer.translate.parts import Document, Image, SignedThought, said

LISTED: TypeAdapter[Any] = TypeAdapter(ResponseItem)
ResponseInputContent: TypeAdapter[Any] = TypeAdapter(ResponseInputContentParam)


def turns(*items: dict[str, Any]) -> tuple[Message, ...]:
    return turns_of(msgspec.convert(list(items), list[Item]), "input")


def user(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def spoken(text: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "role": "assistant", "content": content, "id": "msg_1"}


def thought(text: str) -> dict[str, Any]:
    return {
        "type": "reasoning",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": text}],
    }


def call(id: str, **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": id, "name": "f", "arguments": "{}", **more}


def result(id: str, output: Any = "ok") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": id, "output": output}


def shapes(*items: dict[str, Any]) -> list[tuple[str, str, str | None, list[str]]]:
    """Return each turn's role, text, thought, and ids of its calls or of what it is result of."""
    return [
        (t.role, t.text, t.reasoning, [t.result_of] if t.result_of else [c.id for c in t.calls])
        for t in turns(*items)
    ]


def test_messages_in_all_forms() -> None:
    easy = ({"role": "user", "content": "Hi"}, {"role": "developer", "content": "Be brief."})
    assert turns(*easy) == (Message("user", said("Hi")), Message("system", said("Be brief.")))
    assert shapes(user("a"), spoken("b"), {"role": "system", "content": "c"}) == [
        ("user", "a", None, []),
        ("assistant", "b", None, []),
        ("system", "c", None, []),
    ]
    refused = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    assert shapes(refused) == [("assistant", "No.", None, [])]
    assert shapes({"content": "Hi"}) == [("user", "Hi", None, [])], "as the first that speaks"
    assert turns(user("a"))[0].in_parts and not turns(easy[0])[0].in_parts


def test_all_that_an_assistant_does_in_a_row_is_one_turn() -> None:
    assert shapes(
        user("a"), thought("t"), spoken("b"), call("1"), call("2"), result("1"), result("2")
    ) == [
        ("user", "a", None, []),
        ("assistant", "b", "t", ["1", "2"]),
        ("tool", "ok", None, ["1"]),
        ("tool", "ok", None, ["2"]),
    ]
    between = (call("1"), spoken("b"), thought("t"), call("2"), result("1"), result("2"))
    assert shapes(*between)[0] == ("assistant", "b", "t", ["1", "2"])
    assert shapes(spoken("a"), call("1"), spoken("b"), call("2"))[0][:2] == ("assistant", "a\nb")


def test_two_answers_in_a_row_are_two_turns() -> None:
    assert [turn[1] for turn in shapes(spoken("a"), spoken("b"))] == ["a", "b"]
    two = shapes(thought("t"), spoken("a"), thought("u"), spoken("b"))
    assert [turn[1:3] for turn in two] == [("a", "t"), ("b", "u")]
    assert shapes(thought("t"), result("1"))[0] == ("assistant", "", "t", [])


def test_a_thought_is_the_sealed_one_or_what_is_told_of_it() -> None:
    summary = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "short"}]}
    assert shapes(summary)[0][2] == "short"
    assert shapes(summary | {"content": None})[0][2] == "short"
    assert shapes(summary | {"encrypted_content": sealed("Zürich")})[0][2] == "Zürich"
    for foreign in ("gAAAAAB", "bessemer.%%%", "bessemer./w=="):  # another's, broken, no UTF-8
        assert shapes(summary | {"encrypted_content": foreign})[0][2] == "short"
    assert shapes({"type": "reasoning", "summary": [], "encrypted_content": "gAAA"})[0][2] is None


def test_calls_of_custom_tools_and_of_namespaces() -> None:
    custom = {"type": "custom_tool_call", "call_id": "1", "name": "patch", "input": 'a "b"\n'}
    output = {
        "type": "custom_tool_call_output",
        "call_id": "1",
        "output": [{"type": "input_text", "text": "x"}],
    }
    asked, told = turns(custom, output)
    assert asked.calls == (ToolCall("1", "patch", '{"input":"a \\"b\\"\\n"}'),)
    assert (told.text, told.result_of, told.in_parts) == ("x", "1", True)
    (turn,) = turns(call("1", namespace="mcp"))
    assert turn.calls[0].name == "mcp__f" == tool_name("f", "mcp") and tool_name("f", None) == "f"


def test_a_call_that_broke_off_is_left_out() -> None:
    custom = {"type": "custom_tool_call", "call_id": "2", "name": "p", "status": "incomplete"}
    assert (
        turns(call("1", status="incomplete", arguments='{"a'), custom, user("a"))[0].role == "user"
    )


@pytest.mark.parametrize(
    ("item", "field", "code"),
    [
        ({"role": "tool", "content": "x"}, "input[0].role", "invalid_value"),
        ({"role": "user"}, "input[0].content", "missing_required_parameter"),
        ({"role": "user", "content": [{"type": "x"}]}, "input[0].content[0].type", "invalid_value"),
        (
            {"role": "user", "content": [{"type": "input_image", "image_url": "x"}]},
            "input[0].content[0].image_url",
            "invalid_value",
        ),
        (
            {"role": "user", "content": [{"type": "input_file", "file_data": "x"}]},
            "input[0].content[0].file_data",
            "invalid_value",
        ),
        (
            {"role": "user", "content": [{"type": "input_file"}]},
            "input[0].content[0].file_data",
            "missing_required_parameter",
        ),
        (
            result("1", [{"type": "input_image"}]),
            "input[0].output[0].image_url",
            "missing_required_parameter",
        ),
        ({"type": "web_search_call", "id": "ws_1"}, "input[0].type", "unsupported"),
        ({"type": "function_call", "call_id": "1"}, "input[0].name", "missing_required_parameter"),
        ({"type": "function_call", "name": "f"}, "input[0].call_id", "missing_required_parameter"),
        (
            {"type": "custom_tool_call", "call_id": "1", "name": "f"},
            "input[0].input",
            "missing_required_parameter",
        ),
        (
            {"type": "function_call_output", "output": "x"},
            "input[0].call_id",
            "missing_required_parameter",
        ),
        (
            {"type": "function_call_output", "call_id": "1"},
            "input[0].output",
            "missing_required_parameter",
        ),
        (
            {"role": "user", "content": [{"type": "input_text"}]},
            "input[0].content[0].text",
            "missing_required_parameter",
        ),
    ],
)
def test_an_item_that_cannot_be_taken_is_named(item: dict[str, Any], field: str, code: str) -> None:
    with pytest.raises(Refusal) as caught:
        turns(item)
    assert (caught.value.status, caught.value.field, caught.value.code) == (400, field, code)


def test_items_are_listed_as_the_official_package_reads_them() -> None:
    items = (
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Ho"},
        user("a"),
        spoken("b"),
        thought("t"),
        call("1"),
        result("1"),
        {"type": "custom_tool_call", "call_id": "2", "name": "p", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "2", "output": "y"},
    )
    for sent in items:
        item = msgspec.convert(sent, Item)
        one = msgspec.json.decode(msgspec.json.encode(listed(item)))
        LISTED.validate_python(one)
        assert one["id"] and (sent.get("id") in (None, one["id"]))
        again = msgspec.convert(one, Item)
        assert [t.text for t in turns_of([again], "x")] == [t.text for t in turns_of([item], "x")]


def test_ids_are_new_and_say_of_what() -> None:
    assert new_id("message").startswith("msg_") and new_id("reasoning").startswith("rs_")
    assert len({new_id("function_call") for _ in range(9)}) == 9


def test_images_and_files_by_their_bytes_and_addresses() -> None:
    """As openai.types.responses.ResponseInputImageParam and ResponseInputFileParam have them."""
    pdf = "data:application/pdf;base64,JVBE"
    content: list[Any] = [
        {"type": "input_image", "image_url": "data:image/png;base64,iVBO", "detail": "low"},
        {"type": "input_image", "image_url": "https://a.org/b.png", "detail": "auto"},
        {"type": "input_image", "file_id": "file_1", "detail": "auto"},
        {"type": "input_file", "file_data": pdf, "filename": "a.pdf"},
        {"type": "input_file", "file_data": "JVBE", "filename": "a.pdf"},
        {"type": "input_file", "file_data": "SGk=", "filename": "a.txt"},
        {"type": "input_file", "file_url": "https://a.org/a.pdf"},
        {"type": "input_file", "file_id": "file_2"},
    ]
    for content_params in content:
        ResponseInputContent.validate_python(content_params)
    (asked,) = turns({"role": "user", "content": content})
    file = Document(media_type="application/pdf", data=b"%PD", title="a.pdf")
    assert asked.content == (
        Image(media_type="image/png", data=b"\x89PN", detail="low"),
        Image(media_type="", url="https://a.org/b.png", detail="auto"),
        Image(media_type="", file_id="file_1", detail="auto"),
        file,
        file,
        Document(media_type="text/plain", data=b"Hi", title="a.txt"),
        Document(media_type="application/pdf", url="https://a.org/a.pdf"),
        Document(media_type="", file_id="file_2"),
    )
    assert [getattr(part, "field", "") for part in asked.content][1] == "input[0].content[1].type"
    (told,) = turns(result("1", content[:1]))
    assert told.content == asked.content[:1] and told.role == "tool"


def test_where_the_prompt_is_to_be_kept() -> None:
    marked = {"type": "input_text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}
    (asked,) = turns({"role": "user", "content": [marked, {"type": "input_text", "text": "b"}]})
    assert [part.kept for part in asked.content] == ["5m", ""]


def test_thoughts_that_another_server_sealed() -> None:
    summed = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "t"}]}
    items = {**summed, "encrypted_content": "gAAA"}, {**thought(""), "encrypted_content": "gBBB"}
    asked, answered = turns(user("a"), *items, spoken("b"))
    assert answered.reasoning == "t" and asked.signed == ()
    assert answered.signed == (
        SignedThought("t", "gAAA", "responses"),
        SignedThought("", "gBBB", "responses"),
    )
    assert turns({**thought("t"), "encrypted_content": sealed("t")})[0].signed == ()


def test_lists_of_items_have_all_that_was_sent() -> None:
    part = {"type": "input_file", "file_data": "JVBE", "filename": "a.pdf", "file_url": "u"}
    image = {"type": "input_image", "image_url": "https://a.org", "detail": "low"}
    item = listed(msgspec.convert({"role": "user", "content": [part, image]}, Item))
    assert msgspec.to_builtins(item)["content"] == [part, image]
