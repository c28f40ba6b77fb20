"""Thoughts behind the whole server: budgets, levels, signatures, read by the official packages."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from anthropic import Anthropic
from anthropic import BadRequestError as AnthropicError
from openai import BadRequestError, OpenAI

from tests.http.running import Server, serving
from tests.http.scripted_checkpoint import write
from tests.translate.scripted import letters, scripting_tokenizer

HI: list[Any] = [{"role": "user", "content": "Hi"}]
SPECIAL = [
    "<|start|>",
    "<|end|>",
    "<|message|>",
    "<|channel|>",
    "<|return|>",
    "<think>",
    "</think>",
]
TURNS = "{% for m in messages %}<|start|>{{ m.content }}{{ m.reasoning or '' }}<|end|>{% endfor %}"
OFF = "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
WORDS = ["One.", " Two.", " Three.", " Four.", " Five."]
CLOSE = ["\n", "</think>", "\n", "\n"]
TEXT = ["Hello", " there."]
ANSWERS: dict[str, tuple[str, Sequence[str]]] = {
    "switch": (f"{TURNS}<|start|>{OFF}", ["<think>", "\n", *WORDS, *CLOSE, *TEXT, "<|end|>"]),
    "opened": (f"{TURNS}<|start|><think>", [*WORDS, *CLOSE, *TEXT, "<|end|>"]),
    "harmony": (
        f"{TURNS}<|start|>assistant",
        [
            *("<|channel|>", "analysis", "<|message|>", *WORDS, "<|end|>", "<|start|>"),
            *("assistant", "<|channel|>", "final", "<|message|>", *TEXT, "<|return|>"),
        ],
    ),
}
ALL, SAID = "".join(WORDS), "".join(TEXT)


def checkpoint(path: Path, template: str, script: Sequence[str]) -> Path:
    """Write a model that says these pieces, a token each."""
    special = [name for name in SPECIAL if name in script or name in template]
    tokenizer = scripting_tokenizer(script, special)
    if "final" in script:
        tokenizer.encoding.add_tokens(["final"])
    names = letters()
    spelled = {p: p if p in (*special, "final") else "" for p in script}
    spelled |= {
        p: "".join(names[bytes([byte])] for byte in p.encode()) for p in script if not spelled[p]
    }
    ids = [tokenizer.id_of(spelled[piece]) for piece in script]
    assert None not in ids
    return write(path, tokenizer.encoding, [i for i in ids if i is not None], template, script[-1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("reasoning")
    arguments = ["--threads", "1"]
    for name, answer in ANSWERS.items():
        arguments += ["--model", f"{name}={checkpoint(folder / name, *answer)}"]
    with serving(*arguments) as running:
        yield running


def chat(client: OpenAI, model: str, **more: Any) -> tuple[str, str, int, int]:
    """Return thought, text, reasoning tokens and all tokens, of a stream and a whole answer."""
    usual: Any = {"model": model, "messages": HI, "temperature": 0, "max_tokens": 100}
    usual |= {"extra_body": more}
    whole = client.chat.completions.create(**usual)
    message, usage = whole.choices[0].message, whole.usage
    thought = (message.model_extra or {}).get("reasoning_content", "")
    details = usage and usage.completion_tokens_details
    assert usage and details and details.reasoning_tokens is not None
    out = thought, message.content or "", details.reasoning_tokens, usage.completion_tokens
    pieces = client.chat.completions.create(
        **usual, stream=True, stream_options={"include_usage": True}
    )
    chunks = [*pieces]
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    extra = [(delta.model_extra or {}).get("reasoning_content") or "" for delta in deltas]
    assert ("".join(extra), "".join(d.content or "" for d in deltas)) == out[:2]
    told = [i for i, delta in enumerate(deltas) if delta.content]
    assert not any(extra[told[0] :] if told and "<think>" not in out[1] else ())
    assert chunks[-1].usage == usage
    return out


@pytest.mark.parametrize(
    "asked",
    [
        {"thinking_budget": 3},
        {"thinking_token_budget": 3},
        {"reasoning_budget": 3},
        {"reasoning_budget_tokens": 3},
        {"reasoning": {"max_tokens": 3}},
        {"thinking": {"type": "enabled", "budget_tokens": 3}},
        {"chat_template_kwargs": {"thinking_budget": 3}},
        {"reasoning_effort": "low", "max_tokens": 15},
    ],
)
def test_a_budget_by_each_of_its_names(client: OpenAI, asked: dict[str, Any]) -> None:
    """The newline after the mark is a token of the thought."""
    assert chat(client, "switch", **asked) == ("One. Two.\n", SAID, 6, 11)


def test_thoughts_without_a_budget_or_with_enough(client: OpenAI) -> None:
    free = chat(client, "switch")
    assert free == (f"{ALL}\n", SAID, 9, 14)
    for budget in (-1, 6, 7, 1000):
        assert chat(client, "switch", thinking_budget=budget) == free
    assert chat(client, "switch", reasoning_effort="max") == free


@pytest.mark.parametrize("model", ["opened", "harmony"])
def test_budgets_of_others(client: OpenAI, model: str) -> None:
    line = "\n" if model == "opened" else ""
    for budget, thought in ((1, "One."), (2, "One. Two."), (4, "One. Two. Three. Four.")):
        heard = chat(client, model, thinking_budget=budget)
        assert heard[:2] == (thought + line, SAID), budget


@pytest.mark.parametrize(
    "asked",
    [
        {"reasoning_effort": "none"},
        {"reasoning": {"enabled": False}},
        {"enable_thinking": False},
        {"thinking": {"type": "disabled"}},
        {"thinking_budget": 0},
    ],
)
def test_no_thoughts_at_all(client: OpenAI, asked: dict[str, Any]) -> None:
    """By the template's own switch, or else by closing what it or the model opens."""
    assert chat(client, "switch", **asked) == ("", SAID, 0, 3)
    assert chat(client, "opened", **asked) == ("", SAID, 2, 7)
    assert chat(client, "harmony", **asked)[:2] == ("", SAID)


def test_everything_else_goes_on_behind_a_budget(client: OpenAI) -> None:
    some = {"thinking_budget": 3}
    assert chat(client, "switch", stop=[" there"], **some)[:2] == ("One. Two.\n", "Hello")
    assert chat(client, "switch", guided_choice=["Bye"], **some)[:2] == ("One. Two.\n", "Bye")
    assert chat(client, "opened", guided_regex="[0-9]{3}", thinking_budget=0)[0] == ""
    held = {"guided_choice": ["Bye"], "thinking_budget": 2}
    assert chat(client, "harmony", **held)[:2] == ("One. Two.", "Bye")
    assert chat(client, "switch", max_tokens=6, **some)[:2] == ("One. Two.\n", "")


@pytest.mark.parametrize("model", ANSWERS)
def test_choices_and_log_probabilities(client: OpenAI, model: str) -> None:
    """What is forced is scored as well: each token once, in every choice."""
    more: Any = {"extra_body": {"thinking_budget": 3}, "temperature": 0}
    plain = client.chat.completions.create(model=model, messages=HI, n=2, **more)
    scored = client.chat.completions.create(
        model=model, messages=HI, n=2, logprobs=True, top_logprobs=1, **more
    )
    assert scored.usage == plain.usage and scored.usage
    for one, other in zip(plain.choices, scored.choices, strict=True):
        assert one.message == other.message
        assert other.logprobs and other.logprobs.content
        assert len(other.logprobs.content) == scored.usage.completion_tokens // 2 - 1  # but its end
    spelled = "".join(t.token for t in scored.choices[0].logprobs.content)  # type: ignore
    assert "One. Two." in spelled and spelled.endswith(SAID)


def test_answers_are_the_same_side_by_side_and_from_the_cache(client: OpenAI) -> None:
    budgets = [*range(7), -1] * 2
    alone = [chat(client, "switch", thinking_budget=budget) for budget in budgets[:8]]
    with ThreadPoolExecutor(8) as threads:
        asked = (threads.submit(chat, client, "switch", thinking_budget=b) for b in budgets)
        assert [each.result() for each in [*asked]] == alone * 2


def test_thoughts_where_the_client_wants_them(client: OpenAI) -> None:
    some = {"thinking_budget": 3}
    for fields in ({"include_reasoning": False}, {"reasoning": {"exclude": True}}):
        assert chat(client, "switch", **some, **fields) == ("", SAID, 6, 11)
    inline = f"<think>\nOne. Two.\n</think>\n\n{SAID}"
    for fields in ({"separate_reasoning": False}, {"reasoning_format": "none"}):
        assert chat(client, "switch", **some, **fields) == ("", inline, 6, 11)
    assert chat(client, "harmony", thinking_budget=2, separate_reasoning=False)[1] == inline


def test_an_unknown_level_is_refused_by_name(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as caught:
        chat(client, "switch", reasoning_effort="huge")
    assert caught.value.param == "reasoning_effort" and "xhigh" in caught.value.message


def message(client: Anthropic, model: str, **more: Any) -> Any:
    """Return a message, of which a stream accumulates to the same."""
    usual: Any = {"model": model, "messages": HI, "max_tokens": 100}
    usual |= {"extra_body": {"temperature": 0}, **more}
    whole = client.messages.create(**usual)
    with client.messages.stream(**usual) as stream:
        events = [event.type for event in stream]
        streamed = stream.get_final_message()
    assert [b.model_dump() for b in streamed.content] == [b.model_dump() for b in whole.content]
    assert streamed.stop_reason == whole.stop_reason
    blocks = [kind for kind in events if kind.startswith("content_block_st")]
    assert blocks == ["content_block_start", "content_block_stop"] * len(whole.content)
    return whole


def test_a_thinking_block_is_signed_and_checked(claude: Anthropic) -> None:
    asked = {"thinking": {"type": "enabled", "budget_tokens": 3}}
    first = message(claude, "switch", **asked)
    thought, text = first.content
    assert (thought.type, thought.thinking, text.text) == ("thinking", "One. Two.\n", SAID)
    assert thought.signature and first.usage.output_tokens == 11
    assert first.usage.output_tokens_details.thinking_tokens == 6
    again = [*HI, {"role": "assistant", "content": first.content}, *HI]
    counted = claude.messages.count_tokens(model="switch", messages=again)
    without = [*HI, {"role": "assistant", "content": [text]}, *HI]
    fewer = claude.messages.count_tokens(model="switch", messages=without)
    assert counted.input_tokens - fewer.input_tokens == len("One. Two.\n"), "the template shows it"
    assert message(claude, "switch", messages=again, **asked).content[1].text == SAID
    for forged in ({"thinking": "One."}, {"signature": thought.signature[:-2]}):
        block = thought.model_dump() | forged
        again[1] = {"role": "assistant", "content": [block, text]}
        with pytest.raises(AnthropicError) as caught:
            claude.messages.create(model="switch", max_tokens=9, messages=again)
        words = "messages.1.content.0: Invalid `signature` in `thinking` block"
        assert words in caught.value.message
    again[1] = {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}, text]}
    assert message(claude, "switch", messages=again, **asked).content[1].text == SAID


def test_an_omitted_thought_comes_back_in_its_signature(claude: Anthropic) -> None:
    asked = {"thinking": {"type": "enabled", "budget_tokens": 3, "display": "omitted"}}
    first = message(claude, "switch", **asked)
    thought, text = first.content
    assert (thought.thinking, text.text) == ("", SAID) and thought.signature
    again = [*HI, {"role": "assistant", "content": first.content}, *HI]
    shown = {"thinking": "One. Two.\n", "type": "thinking", "signature": ""}
    same: Any = [*HI, {"role": "assistant", "content": [shown, text]}, *HI]
    counts = [
        claude.messages.count_tokens(model="switch", messages=each).input_tokens
        for each in (again, same)
    ]
    assert counts[0] == counts[1]


def test_levels_and_limits_of_messages(claude: Anthropic) -> None:
    low = {"output_config": {"effort": "low"}, "max_tokens": 15}
    assert message(claude, "switch", **low).content[0].thinking == "One. Two.\n"
    disabled = message(claude, "opened", thinking={"type": "disabled"})
    assert [block.type for block in disabled.content] == ["text"]
    with pytest.raises(AnthropicError) as caught:
        message(claude, "switch", thinking={"type": "enabled", "budget_tokens": 100})
    assert "thinking.budget_tokens must be less than max_tokens" in caught.value.message
