"""Streams of responses, judged by the official package's types and by what their order may be."""

from collections.abc import Sequence
from typing import Any

from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
# Deltas -> the kind of item that they are of, and the field that has the whole of them.
DELTAS = {
    "output_text": ("message", "text"),
    "reasoning_text": ("reasoning", "text"),
    "reasoning_summary_text": ("reasoning", "text"),
    "function_call_arguments": ("function_call", "arguments"),
    "custom_tool_call_input": ("custom_tool_call", "input"),
}
ENDS = ("response.completed", "response.incomplete", "response.failed")


def checked(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the response that a whole stream ends in; every event must be legal where it is."""
    for at, event in enumerate(events):
        EVENT.validate_python(event)
        assert event["sequence_number"] == at, event
        assert not event.get("content_index") and not event.get("summary_index"), "one part each"
    kinds = [event["type"] for event in events]
    assert kinds[0] == "response.created" and kinds[-1] in ENDS
    assert not set(kinds[:-1]) & set(ENDS) and kinds.count("response.created") == 1
    assert len({e["response"]["id"] for e in events if "response" in e}) == 1
    final: dict[str, Any] = events[-1]["response"]
    Response.model_validate(final)
    items = _items(events)
    assert [each["id"] for each in final["output"]] == [items[at]["id"] for at in sorted(items)]
    done = [e for e in events if e["type"] == "response.output_item.done"]
    for event in done:
        assert final["output"][event["output_index"]] == event["item"]
    return final


def _items(events: Sequence[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Return the items as they were added; each is whole before the next begins."""
    items: dict[int, dict[str, Any]] = {}
    open_at, told = -1, ""
    for event in events:
        name, _, step = event["type"].removeprefix("response.").rpartition(".")
        at: Any = event.get("output_index")
        if event["type"] == "response.output_item.added":
            assert at == open_at + 1 == len(items)
            items[at], open_at, told = event["item"], at, ""
            continue
        if at is None:
            continue
        assert at == open_at, event
        assert event.get("item_id", items[at]["id"]) == items[at]["id"]
        if name in DELTAS:
            kind, field = DELTAS[name]
            assert items[at]["type"] == kind
            told += event["delta"] if step == "delta" else ""
            assert step == "delta" or event[field] in (told, told or "{}")
        elif event["type"] == "response.output_item.done":
            assert event["item"]["id"] == items[at]["id"]
            assert _text(event["item"]) in (told, told or "{}")
    return items


def _text(item: dict[str, Any]) -> str:
    if item["type"] in ("function_call", "custom_tool_call"):
        return str(item.get("arguments", item.get("input")))
    return "".join(part["text"] for part in [*item.get("summary", []), *item.get("content", [])])
