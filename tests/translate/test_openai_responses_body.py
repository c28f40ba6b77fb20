"""Bodies of responses: what they repeat of a request, and what becomes of one that broke off."""

import json
from typing import Any

from openai.types.responses import Response

from bessemer.engine.request import Refusal
from bessemer.translate.chat import Identity, Shortened, Usage
from bessemer.translate.openai_responses_body import (
    MessageItem,
    OutputText,
    encode_json,
    failed_body,
    output_items,
    response_body,
    usage_body,
)
from bessemer.translate.openai_responses_request import DecodedRequest, decode_request
from tests.translate.test_openai_responses import TOOLS

WHO = Identity("resp_7", 5, "m")


def asked(**fields: Any) -> DecodedRequest:
    return decode_request(
        json.dumps({"model": "m", "input": "Hi", "tools": TOOLS} | fields).encode()
    )


def told(**fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(encode_json(response_body(asked(**fields), WHO, True)))
    Response.model_validate(body)
    return body


def test_a_body_repeats_what_was_asked() -> None:
    sent: dict[str, Any] = {
        "instructions": "Be brief.",
        "max_output_tokens": 20,
        "max_tool_calls": 3,
        "temperature": 0.5,
        "top_p": 0.25,
        "top_logprobs": 2,
        "text": {"format": {"type": "json_object"}, "verbosity": "low"},
        "reasoning": {"effort": "low", "summary": "auto"},
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "truncation": "auto",
        "metadata": {"a": "b"},
        "user": "u",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
    }
    body = told(**sent)
    assert {key: body[key] for key in sent} == sent
    assert body["tools"] == TOOLS and body["store"] is True and body["background"] is False
    plain = json.loads(encode_json(response_body(PLAIN, WHO, False)))
    Response.model_validate(plain)
    assert (plain["tools"], plain["tool_choice"], plain["store"]) == ([], "auto", False)
    assert plain["text"] == {"format": {"type": "text"}} and plain["metadata"] == {}


PLAIN = decode_request(b'{"input": "Hi", "tools": null, "text": null, "tool_choice": null}')


def test_a_body_that_its_server_did_not_end_becomes_a_failed_one() -> None:
    body = failed_body(
        encode_json(response_body(asked(background=True), WHO, True)), Refusal(503, "x", "Gone.")
    )
    response = Response.model_validate(json.loads(body))
    assert response.status == "failed" and response.error and response.error.message == "Gone."
    assert response.tools and response.id == "resp_7"


def test_items_are_stored_as_they_are_told() -> None:
    body = response_body(asked(), WHO, True)
    body.output = (MessageItem("msg_1", "completed", (OutputText("Hi"),)),)
    ((id, item),) = output_items(body)
    assert (id, json.loads(item)["content"][0]["text"]) == ("msg_1", "Hi")


def test_usage() -> None:
    usage = Usage(3, 9, cached=2, reasoning=4, shortened=Shortened("truncate", messages=1))
    assert json.loads(encode_json(usage_body(usage))) == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 4},
        "total_tokens": 12,
        "context_overflow": {"policy": "truncate", "messages": 1, "tokens": 0},
    }
