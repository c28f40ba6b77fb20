"""Anthropic's documents, search results and server tools: what a model reads of them."""

import json
from typing import Any

import pytest
from anthropic.types import DocumentBlockParam, ImageBlockParam, SearchResultBlockParam

from bessemer.engine.request import Refusal
from bessemer.translate.anthropic import decode_request
from bessemer.translate.chat import Chat, Message
from bessemer.translate.media import refuse_media
from bessemer.translate.parts import Document, Image, Text

PLAIN: DocumentBlockParam = {
    "type": "document",
    "title": "Notes",
    "context": "From Monday.",
    "source": {"type": "text", "media_type": "text/plain", "data": "Steel is iron."},
    "citations": {"enabled": True},
    "cache_control": {"type": "ephemeral"},
}
IN_PARTS: DocumentBlockParam = {
    "type": "document",
    "source": {"type": "content", "content": [{"type": "text", "text": "a"}]},
}
FOUND: SearchResultBlockParam = {
    "type": "search_result",
    "title": "Iron",
    "source": "https://example.org/iron",
    "content": [{"type": "text", "text": "Iron rusts."}, {"type": "text", "text": "Red."}],
}
NOTES = "<document>\nTitle: Notes\nContext: From Monday.\n\nSteel is iron.\n</document>"
MISSING = "missing_required_parameter"
IRON = (
    "<search_result>\nTitle: Iron\nSource: https://example.org/iron\n\nIron rusts.\nRed.\n"
    "</search_result>"
)


def decoded(*blocks: Any, role: str = "user") -> Chat:
    ask = {"role": "user", "content": "Hi"}
    body = {"model": "m", "max_tokens": 9, "messages": [ask, {"role": role, "content": blocks}]}
    return decode_request(json.dumps(body).encode())


def texts(message: Message) -> list[str]:
    return [part.text for part in message.content if isinstance(part, Text)]


def test_documents_and_search_results_are_texts_with_title_and_source() -> None:
    asked = decoded(PLAIN, FOUND, {"type": "text", "text": "Why?"}, IN_PARTS).messages[-1]
    assert texts(asked) == [NOTES, IRON, "Why?", "<document>\na\n</document>"]
    whole = {"type": "document", "source": {"type": "content", "content": "b"}}
    assert texts(decoded(whole).messages[-1]) == ["<document>\nb\n</document>"]


def test_a_tool_may_find_them() -> None:
    result = {"type": "tool_result", "tool_use_id": "a", "content": [FOUND, PLAIN]}
    (told,) = decoded(result).messages[1:]
    assert told.role == "tool" and texts(told) == [IRON, NOTES]


def test_what_anthropic_s_servers_did_is_text_of_the_answer_before() -> None:
    page = {"type": "web_search_result", "title": "Iron", "url": "https://a.org", "page_age": "1"}
    call = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "iron"}}
    result = {"type": "web_search_tool_result", "tool_use_id": "s", "content": [page, page]}
    failed = {"type": "web_search_tool_result", "tool_use_id": "s", "content": {"error_code": "x"}}
    assert texts(decoded(call, result, failed, role="assistant").messages[-1]) == [
        '<server_tool_use>\nName: web_search\n\n{"query":"iron"}\n</server_tool_use>',
        "<web_search_tool_result>\nIron: https://a.org\nIron: https://a.org\n"
        "</web_search_tool_result>",
        '<web_search_tool_result>\n{"error_code":"x"}\n</web_search_tool_result>',
    ]


def test_what_other_tools_of_theirs_returned_is_json() -> None:
    ran = {"type": "code_execution_result", "stdout": "4", "return_code": 0}
    result = {"type": "code_execution_tool_result", "tool_use_id": "s", "content": ran}
    call = {"type": "mcp_tool_use", "id": "m", "name": "ask", "server_name": "a", "input": {}}
    answer = {
        "type": "mcp_tool_result",
        "tool_use_id": "m",
        "content": [{"type": "text", "text": "b"}],
    }
    assert texts(decoded(result, call, answer, role="assistant").messages[-1]) == [
        "<code_execution_tool_result>\n"
        '{"type":"code_execution_result","stdout":"4","return_code":0}\n'
        "</code_execution_tool_result>",
        "<mcp_tool_use>\nName: ask\n\n{}\n</mcp_tool_use>",
        '<mcp_tool_result>\n[{"type":"text","text":"b"}]\n</mcp_tool_result>',
    ]


@pytest.mark.parametrize(
    ("block", "field", "code"),
    [
        ({"source": {"type": "base64", "data": "JVBE"}}, "source.media_type", MISSING),
        ({"source": {"type": "base64", "data": "J"}}, "source.data", "invalid_value"),
        ({"source": {"type": "url"}}, "source.url", MISSING),
        ({"source": {"type": "file"}}, "source.file_id", MISSING),
        ({"type": "image"}, "source", "invalid_value"),
        ({"type": "image", "source": {"type": "text"}}, "source.type", "invalid_value"),
        ({"source": {"type": "tape"}}, "source.type", "invalid_value"),
        ({"source": "a"}, "source", "invalid_value"),
        ({}, "source", "invalid_value"),
        (
            {"source": {"type": "content", "content": [{"type": "image"}]}},
            "source.content[0].type",
            "unsupported",
        ),
        ({"type": "search_result", "source": {}, "content": []}, "source", "invalid_value"),
        (
            {"type": "search_result", "source": "a", "content": [{"type": "image"}]},
            "content[0].type",
            "invalid_value",
        ),
        ({"type": "search_result", "source": "a", "content": {}}, "content", "invalid_value"),
        ({"type": "server_tool_use"}, "type", "invalid_value"),
        ({"type": "tool_result", "tool_use_id": "a", "content": {}}, "content", "invalid_value"),
    ],
)
def test_what_is_no_text_is_refused_by_its_place(block: Any, field: str, code: str) -> None:
    with pytest.raises(Refusal) as caught:
        decoded({"type": "document", **block})
    assert (caught.value.status, caught.value.code) == (400, code)
    assert caught.value.field == f"messages[1].content[0].{field}"


def test_a_system_prompt_is_text_alone() -> None:
    body = {"model": "m", "max_tokens": 9, "system": [PLAIN], "messages": []}
    body["messages"] = [{"role": "user", "content": "Hi"}]
    with pytest.raises(Refusal) as caught:
        decode_request(json.dumps(body).encode())
    assert caught.value.field == "system[0].type"


IMAGES: tuple[ImageBlockParam, ...] = (
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}},
    {
        "type": "image",
        "source": {"type": "url", "url": "https://a.org/b.png"},
        "cache_control": {"type": "ephemeral", "ttl": "1h"},
    },
    {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
)
FILES: tuple[DocumentBlockParam, ...] = (
    {
        "type": "document",
        "title": "A",
        "context": "From Monday.",
        "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
    },
    {"type": "document", "source": {"type": "url", "url": "https://a.org/a.pdf"}},
    {"type": "document", "source": {"type": "file", "file_id": "file_2"}},
)


def test_images_and_files_by_their_bytes_and_addresses() -> None:
    seen = (
        Image(media_type="image/png", data=b"\x89PN"),
        Image(media_type="", url="https://a.org/b.png"),
        Image(media_type="", file_id="file_1"),
    )
    chat = decoded(*IMAGES, *FILES)
    parts = chat.messages[-1].content
    assert parts == (
        *seen,
        Text("<context>\nTitle: A\n\nFrom Monday.\n</context>"),
        Document(media_type="application/pdf", data=b"%PD", title="A"),
        Document(media_type="application/pdf", url="https://a.org/a.pdf"),
        Document(media_type="application/pdf", file_id="file_2"),
    )
    assert [part.kept for part in parts] == ["", "1h", *([""] * 5)]
    result = {"type": "tool_result", "tool_use_id": "a", "content": [*IMAGES]}
    (told,) = decoded(result).messages[1:]
    assert told.role == "tool" and told.content == seen
    with pytest.raises(Refusal) as caught:
        refuse_media(chat)
    assert caught.value.field == "messages[1].content[0].type"


def test_a_model_reads_nothing_of_marks_in_what_tools_returned() -> None:
    """A mark moves on with the conversation, and the text is to stay."""
    text = {"type": "text", "text": "b"}
    marked = {**text, "cache_control": {"type": "ephemeral"}}
    results = [
        {"type": "mcp_tool_result", "tool_use_id": "m", "content": [each]}
        for each in (text, marked)
    ]
    first, second = texts(decoded(*results, role="assistant").messages[-1])
    assert first == second
