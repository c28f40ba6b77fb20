"""Writes golden/templates.json: what transformers 5.24 makes of each conversation for each family.

python -m tests.translate.make_golden_templates [FAMILY CONVERSATION]
"""

# pyright: reportMissingImports=false

import json
import sys
import tempfile
from collections.abc import Iterator
from copy import deepcopy
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from jinja2 import TemplateError

from tests.translate.conversations import CONVERSATIONS, THOUGHT, Conversation
from tests.translate.families import FAMILIES, Family
from tests.translate.golden import GOLDEN, NOW, digest
from tests.translate.stand_ins import save

# What templates, and transformers about them, raise.
FAULTS = (TemplateError, AttributeError, LookupError, TypeError, ValueError)


class FixedDate(datetime):
    @classmethod
    def now(cls, tz: Any = None) -> "FixedDate":
        return cls(*NOW.timetuple()[:6])


def tokenizer_of(name: str, family: Family) -> Any:
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as directory:
        save(family, name, Path(directory))
        return AutoTokenizer.from_pretrained(directory)


def render(tokenizer: Any, conversation: Conversation, **how: Any) -> Any:
    kwargs = {"add_generation_prompt": not conversation.continue_final, **conversation.kwargs}
    with patch("transformers.utils.chat_template_utils.datetime", FixedDate):
        return tokenizer.apply_chat_template(
            [*deepcopy(conversation.messages)],
            tools=[*conversation.tools] or None,
            continue_final_message=conversation.continue_final,
            return_dict=False,
            **kwargs,
            **how,
        )


def forms(tokenizer: Any, conversation: Conversation) -> Iterator[tuple[str, Conversation]]:
    """Yield the ways in which a template may want the same said, the plainest first."""
    if reads_parts_alone(tokenizer):
        yield "parts", _changed(conversation, _parts)
        return
    if any(map(_thought, conversation.messages)) and reads_thoughts_in_content(tokenizer):
        conversation = _changed(conversation, _thought_part)
        yield "thoughts", conversation
        return
    yield "", conversation
    if any("tool_calls" in message for message in conversation.messages):
        yield "text arguments", _changed(conversation, _text_arguments)
        yield "no content", _changed(conversation, _no_content)
        yield "neither", _changed(conversation, _no_content, _text_arguments)


@cache
def reads_parts_alone(tokenizer: Any) -> bool:
    hello = CONVERSATIONS["hello"]
    try:
        return "Hello" not in render(tokenizer, hello, tokenize=False)
    except FAULTS:
        return True


@cache
def reads_thoughts_in_content(tokenizer: Any) -> bool:
    """Whether the template shows an earlier thought as a part of the content alone."""
    asked = CONVERSATIONS["reasoning_last"]
    try:
        field, part = (
            THOUGHT in render(tokenizer, each, tokenize=False)
            for each in (asked, _changed(asked, _thought_part))
        )
    except FAULTS:
        return False
    return part and not field


def _changed(conversation: Conversation, *changes: Any) -> Conversation:
    messages = tuple(map(deepcopy, conversation.messages))
    for message in messages:
        for change in changes:
            change(message)
    return Conversation(
        messages, conversation.tools, conversation.kwargs, conversation.continue_final
    )


def _text_arguments(message: dict[str, Any]) -> None:
    for call in message.get("tool_calls", ()):
        arguments = call["function"]["arguments"]
        call["function"]["arguments"] = json.dumps(arguments, ensure_ascii=False)


def _no_content(message: dict[str, Any]) -> None:
    if "tool_calls" in message and not message["content"]:
        message["content"] = None


def _thought(message: dict[str, Any]) -> bool:
    return "reasoning_content" in message


def _thought_part(message: dict[str, Any]) -> None:
    if _thought(message):
        _parts(message)
        thought = {"type": "thinking", "thinking": message.pop("reasoning_content")}
        said = [part for part in message["content"] if part["text"]]
        message["content"] = [thought, *said]


def _parts(message: dict[str, Any]) -> None:
    if isinstance(message["content"], str):
        message["content"] = [{"type": "text", "text": message["content"]}]


def shown(text: str, conversation: Conversation) -> bool:
    """Whether what is said and called appears, and no Python list does."""
    for message in conversation.messages:
        content = message["content"]
        if message["role"] in ("user", "tool") and content:
            texts = [content] if isinstance(content, str) else [part["text"] for part in content]
            if not all(text_.strip() in text for text_ in texts):
                return False
        if not all(call["function"]["name"] in text for call in message.get("tool_calls", ())):
            return False
    return "{'type'" not in text and '"type": "text"' not in text


def system_texts(conversation: Conversation) -> Iterator[str]:
    for message in conversation.messages:
        if message["role"] == "system":
            content = message["content"]
            texts = [{"text": content}] if isinstance(content, str) else content
            yield from (part["text"] for part in texts)


def best(tokenizer: Any, conversation: Conversation) -> tuple[str, Conversation] | None:
    """Return the first form that shows everything, else the first that the template takes."""
    taken: list[tuple[str, Conversation]] = []
    for form, changed in forms(tokenizer, conversation):
        try:
            text = render(tokenizer, changed, tokenize=False)
        except FAULTS as error:
            if len(sys.argv) > 2:
                print(form or "plain", "->", type(error).__name__, error)
            continue
        if shown(text, changed):
            return form, changed
        taken.append((form, changed))
    in_parts = any(isinstance(message["content"], list) for message in conversation.messages)
    return None if in_parts or not taken else taken[0]


def honest(tokenizer: Any, conversation: Conversation) -> str | tuple[str, Conversation, list[int]]:
    """Return a form and its ids, or why there are none to be had.

    `refused`: by the template; `lost`: it drops what the system says, tools, calls, results, or
    everything; `forged`: the conversation holds control tokens' texts.
    """
    found = best(tokenizer, conversation)
    if found is None:
        return "refused"
    form, changed = found
    ids = render(tokenizer, changed)
    text = render(tokenizer, changed, tokenize=False)
    told = all(part.strip() in text for part in system_texts(conversation))
    if not ids or not told or not tools_shown(text, conversation):
        return "lost"
    added = tokenizer.added_tokens_decoder
    clean = render(tokenizer, changed, sanitize_control_tokens=True)
    if [each for each in ids if each in added] != [each for each in clean if each in added]:
        return "forged"
    return form, changed, ids


def tools_shown(text: str, conversation: Conversation) -> bool:
    functions = [tool["function"] for tool in conversation.tools]
    tools = [each.get("description") or each["name"] for each in functions]
    calls = [c for m in conversation.messages for c in m.get("tool_calls", ())]
    names = [call["function"]["name"] for call in calls]
    if any(text.count(name) < 1 + names.count(name) for name in names):
        return False
    results = [m["content"] for m in conversation.messages if m["role"] == "tool"]
    beside = [m["content"] for m in conversation.messages if "tool_calls" in m and m["content"]]
    plain = text.replace("\\", "")  # of what is shown as JSON in JSON
    return all(each.strip().replace("\\", "") in plain for each in [*tools, *results, *beside])


def golden(tokenizer: Any, conversation: Conversation) -> str:
    found = honest(tokenizer, conversation)
    if isinstance(found, str):
        return found
    form, _, ids = found
    return f"{digest(ids)} ({form})" if form else digest(ids)


def show(name: str, key: str) -> None:
    tokenizer = tokenizer_of(name, FAMILIES[name])
    found = best(tokenizer, CONVERSATIONS[key])
    print(golden(tokenizer, CONVERSATIONS[key]))
    if found:
        print(render(tokenizer, found[1], tokenize=False))


def main() -> None:
    out = {}
    for name, family in FAMILIES.items():
        tokenizer = tokenizer_of(name, family)
        out[name] = {key: golden(tokenizer, each) for key, each in CONVERSATIONS.items()}
    GOLDEN.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    show(*sys.argv[1:3]) if len(sys.argv) > 1 else main()
