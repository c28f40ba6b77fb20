"""What requests may say and mean, in every dialect, over a real server."""

import json
from contextlib import closing
from typing import Any

import anthropic
import openai
import pytest

from tests.http.running import Server, serving

MODEL = "bessemer-guide"
QUESTION = "How do I serve a model?"
MESSAGES: list[Any] = [{"role": "user", "content": QUESTION}]
CHAT = {"model": MODEL, "messages": MESSAGES}


def test_a_nul_is_text_wherever_it_stands(
    server: Server, client: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    nul = "a\0b"
    turns: list[Any] = [
        {"role": "system", "content": nul},
        {"role": "user", "content": [{"type": "text", "text": nul}], "name": nul},
        {"role": "assistant", "content": nul, "reasoning_content": nul},
        {"role": "user", "content": "\0"},
    ]
    chat = {"messages": turns, "stop": [nul, "\0"], "user": nul, "cache_salt": nul}
    chat |= {"chat_template_kwargs": {nul: nul}, "bad_words": ["\0"], nul: nul}
    for more in ({}, {"stream": True}):
        body = {"model": MODEL, "max_tokens": 2} | more
        _, _, headers = _ok(server, "/v1/chat/completions", body | chat)
        assert headers["x-request-id"]
        _ok(server, "/v1/completions", body | {"prompt": ["\0", nul], "echo": True, "stop": "\0"})
        blocks = [{"role": "user", "content": [{"type": "text", "text": nul}]}]
        _ok(server, "/v1/messages", body | {"messages": blocks, "system": nul})
    assert claude.messages.count_tokens(model=MODEL, messages=turns[1:2]).input_tokens > 3
    reply = client.completions.create(model=MODEL, prompt=nul, max_tokens=0, echo=True, logprobs=0)
    assert reply.choices[0].text == nul
    status, answer, _ = server.ask("POST", "/v1/completions", {"model": nul, "prompt": "a"})
    assert status == 404 and "a\\x00b" in answer["error"]["message"]


def _ok(server: Server, path: str, body: Any) -> tuple[int, Any, dict[str, str]]:
    with closing(server.connect()) as connection:
        connection.request("POST", path, json.dumps(body))
        with connection.getresponse() as response:
            text = response.read()
            assert response.status == 200 and b'"error"' not in text, text
            return response.status, text, {k.lower(): v for k, v in response.getheaders()}


def test_a_nucleus_of_nothing_is_greedy_whatever_the_temperature(
    client: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    def text(**settings: Any) -> str:
        return (
            client.completions.create(
                model=MODEL, prompt=QUESTION, max_tokens=12, extra_body=settings
            )
            .choices[0]
            .text
        )

    greedy = text(temperature=0)
    assert text(top_p=0, temperature=2) == text(top_p=0.0) == text(top_p=1e-300) == greedy
    settings: Any = {"top_p": 0, "temperature": 2}
    said = {
        claude.messages.create(
            model=MODEL, max_tokens=12, messages=MESSAGES, extra_body=settings
        ).model_dump_json(include={"content"})
        for _ in range(3)
    }
    assert len(said) == 1


def test_seeds_belong_to_prompts(client: openai.OpenAI) -> None:
    def texts(*prompts: str, **settings: Any) -> list[str]:
        reply = client.completions.create(
            model=MODEL, prompt=list(prompts), max_tokens=12, temperature=1.5, **settings
        )
        return [choice.text for choice in reply.choices]

    together = texts("One", "Two", "One", seed=7, n=2)
    assert together[:2] == together[4:] == texts("One", seed=7, n=2)
    assert together[2:4] == texts("Two", seed=7, n=2) and len(set(together)) == 4
    assert len(set(texts(*["One"] * 4))) == len(set(texts(*["One"] * 4, seed=-1))) == 4


def test_answers_of_no_tokens(
    client: openai.OpenAI, claude: anthropic.Anthropic, server: Server
) -> None:
    for echo in (False, True):
        reply = client.completions.create(model=MODEL, prompt="Once", max_tokens=0, echo=echo)
        (choice,) = reply.choices
        assert (choice.text, choice.finish_reason) == ("Once" * echo, "length")
        assert reply.usage and reply.usage.completion_tokens == 0
    chunks = client.completions.create(model=MODEL, prompt="Once", max_tokens=0, stream=True)
    assert [(c.choices[0].text, c.choices[0].finish_reason) for c in chunks] == [("", "length")]
    message = claude.messages.create(model=MODEL, max_tokens=0, messages=MESSAGES)
    assert (message.content, message.stop_reason) == ([], "max_tokens")
    again = claude.messages.create(model=MODEL, max_tokens=1, messages=MESSAGES)
    assert again.usage.cache_read_input_tokens == message.usage.input_tokens // 32 * 32 or (
        message.usage.cache_read_input_tokens
    )
    with pytest.raises(openai.BadRequestError, match="max_tokens must be at least 1"):
        client.chat.completions.create(**CHAT, max_tokens=0)  # type: ignore[call-overload]


def test_an_empty_prompt_is_a_documents_beginning(client: openai.OpenAI, server: Server) -> None:
    settings: Any = {"model": MODEL, "max_tokens": 3, "temperature": 0}
    first = client.completions.create(prompt="", **settings)
    assert first.usage and first.usage.prompt_tokens == 1
    for prompt in (None, [], [""], [[]]):
        _, answer, _ = server.ask("POST", "/v1/completions", settings | {"prompt": prompt})
        assert answer["choices"][0]["text"] == first.choices[0].text, prompt
    status, answer, _ = server.ask("POST", "/v1/completions", settings)
    assert status == 200 and answer["usage"]["prompt_tokens"] == 1
    both = client.completions.create(prompt=["", "Once"], echo=True, logprobs=0, **settings)
    assert both.choices[1].text.startswith("Once") and both.choices[0].logprobs


def test_the_first_model_answers_where_none_is_named_and_says_who_it_was(
    client: openai.OpenAI, server: Server
) -> None:
    unnamed: Any = None
    asked: Any = {"model": unnamed, "messages": MESSAGES, "max_tokens": 1}
    reply = client.chat.completions.create(**asked)
    pieces = [*client.chat.completions.create(**asked, stream=True)]
    prints = {each.system_fingerprint for each in (reply, *pieces)}
    assert len(prints) == 1 and str(*prints).startswith("bessemer-")
    assert [piece.choices[0].delta.role for piece in pieces] == [
        "assistant",
        *[None] * (len(pieces) - 1),
    ]


def test_several_choices_in_a_stream_end_once_each(server: Server) -> None:
    body = {"model": MODEL, "prompt": ["One", "Two"], "n": 3, "max_tokens": 5, "temperature": 1}
    usage = {"include_usage": True, "continuous_usage_stats": True}
    ended: set[int] = set()
    counts = []
    *events, (_, last) = server.stream("/v1/completions", body | {"stream_options": usage})
    for _, chunk in events:
        counts.append(chunk["usage"]["completion_tokens"])
        for choice in chunk["choices"]:
            assert choice["index"] not in ended
            ended |= {choice["index"]} if choice["finish_reason"] else set()
    assert last == "[DONE]" and ended == set(range(6))
    _, end = events[-1]
    assert counts == sorted(counts) and counts[-1] <= 30
    assert end["choices"] == [] and end["usage"]["prompt_tokens"] == 3


def test_prompts_are_scored(client: openai.OpenAI) -> None:
    body: Any = {"prompt_logprobs": 2}
    reply = client.completions.create(
        model=MODEL, prompt=[QUESTION, "a"], n=2, max_tokens=1, extra_body=body
    )
    first, second, *rest = (c.model_dump()["prompt_logprobs"] for c in reply.choices)
    assert first == second and first[0] is None and rest[0] == rest[1]
    assert all(2 <= len(entry) <= 3 for entry in first[1:])
    assert all(entry["rank"] >= 1 for position in first[1:] for entry in position.values())
    echoed = (
        client.completions.create(model=MODEL, prompt=QUESTION, max_tokens=0, echo=True, logprobs=2)
        .choices[0]
        .logprobs
    )
    assert echoed and echoed.token_logprobs
    scores = [next(iter(entry.values()))["logprob"] for entry in first[1:]]
    assert scores == echoed.token_logprobs[1:]
    chat = client.chat.completions.create(model=MODEL, messages=MESSAGES, extra_body=body)
    assert chat.model_dump()["prompt_logprobs"][0] is None


def test_salts_part_the_prefix_cache(client: openai.OpenAI) -> None:
    def cached(salt: str) -> int:
        usage = client.completions.create(
            model=MODEL, prompt="salted " * 99, max_tokens=1, extra_body={"cache_salt": salt}
        ).usage
        assert usage and usage.prompt_tokens_details
        return usage.prompt_tokens_details.cached_tokens or 0

    assert [cached(salt) > 0 for salt in ("a", "b", "a", "b", "")] == [
        *(False, False, True, True, False)
    ]


def test_ids_that_the_model_does_not_have(client: openai.OpenAI) -> None:
    for field in ("logit_bias", "allowed_token_ids"):
        for stream in (False, True):
            value: Any = {"99999": 1} if field == "logit_bias" else [5, 99999]
            with pytest.raises(openai.BadRequestError, match=f"{field} names 99999") as caught:
                client.chat.completions.create(
                    model=MODEL, messages=MESSAGES, stream=stream, extra_body={field: value}
                )
            assert caught.value.param == field
    client.completions.create(
        model=MODEL,
        prompt="a",
        max_tokens=2,
        extra_body={"stop_token_ids": [99999], "min_tokens": 2},
    )


def test_keys_do_not_share_prefixes_unless_they_are_to() -> None:
    """What `cached_tokens` says of one's prompt must not tell what another asked."""
    chat = {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "s " * 300}]}
    bare = {"model": MODEL, "max_tokens": 1, "prompt": "salted " * 99}

    def cached(server: Server, key: str, path: str, body: Any) -> bool:
        status, answer, _ = server.ask("POST", path, body, {"x-api-key": key})
        assert status == 200, answer
        usage = answer["usage"]
        details = usage.get("prompt_tokens_details", {})
        return (usage.get("cache_read_input_tokens", 0) or details.get("cached_tokens", 0)) > 0

    asked = [
        (path, body | salt)
        for path, body in (("/v1/chat/completions", chat), ("/v1/completions", bare))
        for salt in ({}, {"cache_salt": "a"})
    ]
    for flags, shared in (((), False), (("--share-prefixes",), True)):
        with serving("--api-key", "one,two", *flags) as server:
            for path, body in asked:
                seen = [cached(server, key, path, body) for key in ("one", "two", "one", "two")]
                assert seen == [False, shared, True, True], (path, flags)
            assert cached(server, "two", "/v1/messages", chat)
            messages = [{"role": "user", "content": "t " * 300}]
            for key, known in (("one", False), ("two", shared), ("one", True)):
                body = chat | {"messages": messages}
                assert cached(server, key, "/v1/messages", body) == known


def test_cached_tokens_are_counted_once_for_all_choices(client: openai.OpenAI) -> None:
    def cached(n: int) -> tuple[int, int]:
        usage = client.completions.create(
            model=MODEL, prompt="choices " * 99, max_tokens=1, n=n
        ).usage
        assert usage and usage.prompt_tokens_details
        return usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens or 0

    cached(1)
    assert cached(1) == cached(4)
    assert 0 < cached(4)[1] < cached(4)[0]


def test_presence_and_frequency_penalties_change_an_answer(client: openai.OpenAI) -> None:
    """The bias makes one token sure; a penalty a time that it comes at last outweighs the rest."""

    def answer(**penalty: Any) -> str:
        return (
            client.completions.create(
                model=MODEL,
                prompt="a",
                max_tokens=40,
                temperature=0,
                extra_body={"logit_bias": {"40": 1.5}, **penalty},
            )
            .choices[0]
            .text
        )

    plain = answer()
    assert answer(presence_penalty=0.0, frequency_penalty=0.0) == plain
    assert answer(presence_penalty=2.0) != plain
    assert answer(frequency_penalty=2.0) != plain
    assert answer(presence_penalty=2.0) != answer(frequency_penalty=2.0)
