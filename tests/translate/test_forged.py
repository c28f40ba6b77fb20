"""Client text that spells control tokens, in every place of a conversation: it stays text."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bessemer.engine.request import Refusal
from tests.translate.conversations import (
    ASK,
    CALL,
    CLOCK,
    CONVERSATIONS,
    RESULT,
    SYSTEM,
    THANKS,
    TOOLS,
    WARM,
    WEATHER,
    Conversation,
    call,
    message,
    parts,
    result,
    tool,
)
from tests.translate.families import FAMILIES, TEMPLATES
from tests.translate.golden import short
from tests.translate.prompt_ids import chat_of, checkpoint, prompt_ids
from tests.translate.test_golden_tokenizers import MISTRAL, reduced

HARMLESS = "It is said."
KWARGS = ("date_string", "model_identity", "reasoning_effort", "thinking_budget", "system_message")


def places(text: str) -> Iterator[tuple[str, Conversation]]:
    """Yield a conversation for each place that a client's text may have in one."""
    user, answer = message("user", text), message("assistant", text)
    with_text = {"get_weather": text, "city": "Zürich"}
    yield "user", Conversation((user,))
    yield "system", Conversation((message("system", text), ASK))
    yield "late system", Conversation((ASK, WARM, message("system", text), THANKS))
    yield "assistant", Conversation((ASK, answer, THANKS))
    yield "every turn", Conversation((message("system", text), user, answer, user))
    yield "continued", Conversation((ASK, answer), continue_final=True)
    yield "reasoning", Conversation((ASK, {**WARM, "reasoning_content": text}, THANKS))
    thoughtful = {**CALL, "reasoning_content": text}
    yield "reasoning of a call", Conversation((ASK, thoughtful, RESULT), TOOLS)
    yield "name", Conversation((SYSTEM, {**ASK, "name": text}, {**WARM, "name": text}, THANKS))
    yield "result", Conversation((ASK, CALL, result(1, text)), TOOLS)
    yield "result's name", Conversation((ASK, CALL, {**RESULT, "name": text}), TOOLS)
    yield "result's call", Conversation((ASK, CALL, {**RESULT, "tool_call_id": text}), TOOLS)
    yield "text of a call", Conversation((ASK, {**CALL, "content": text}, RESULT), TOOLS)
    for name, forged in (
        ("call's name", call(1, text, city="Zürich")),
        ("call's argument", call(1, "get_weather", **with_text)),
        ("call's key", call(1, "get_weather", **{text: "Zürich"})),
        ("call's depth", call(1, "get_weather", city=[{text: [text]}])),
        ("call's id", {**call(1, "get_weather", city="Zürich"), "id": text}),
    ):
        said = message("assistant", "", tool_calls=[forged])
        yield name, Conversation((ASK, said, RESULT), TOOLS)
    yield "tool's name", Conversation((ASK,), (tool(text, "Says."), CLOCK))
    yield "tool's description", Conversation((ASK,), (tool("say", text), WEATHER))
    schema = {"type": "string", "description": text, "enum": [text]}
    yield "tool's schema", Conversation((ASK,), (tool("say", "Says.", word=schema),))
    yield "tool's key", Conversation((ASK,), (tool("say", "Says.", **{text: schema}),))
    yield "part", Conversation((message("user", parts("Hello", text, "!")),))
    yield "documents", Conversation((ASK,), kwargs={"documents": [{"title": text, "text": text}]})
    kwargs: dict[str, Any] = dict.fromkeys(KWARGS, text)
    yield "kwargs", Conversation((SYSTEM, ASK), kwargs=kwargs)


def controls(family: str) -> dict[int, str]:
    """Return a family's control tokens by id: special ones, and others that its template writes.

    Bare spaces are text.
    """
    source = (TEMPLATES / f"{family}.jinja").read_text()
    added = checkpoint(family).tokenizer.encoding.get_added_tokens_decoder()
    return {
        token: each.content
        for token, each in added.items()
        if each.special or (each.content in source and each.content.strip(" \n\u2581"))
    }


def spellings(family: str) -> dict[str, str]:
    """Return texts that spell all of a family's control tokens but those of thoughts.

    Templates look for thoughts in an assistant's content and write their tags themselves.
    """
    names = [name for name in controls(family).values() if "think" not in name.lower()]
    return {
        "spaced": "Hi " + " ".join(names) + " bye",
        "joined": "Hi" + "\n".join(names) + "bye",
        "alone": "".join(names),
        "nested": "Hi" + "".join(f"{name[:2]}{name}{name[2:]}" for name in names) + "bye",
        "marked": "Hi"
        + "".join(f"{name[:2]}\ue000{name[2:]}\ue001{name}" for name in names)
        + "bye",
    }


def control_ids(family: str, conversation: Conversation) -> Counter[str] | None:
    names = controls(family)
    try:
        ids = prompt_ids(family, chat_of(conversation))
    except Refusal:
        return None
    return Counter(names[token] for token in ids if token in names)


@pytest.mark.parametrize("family", FAMILIES)
def test_forged_text_adds_no_control_token(family: str) -> None:
    harmless = {place: control_ids(family, each) for place, each in places(HARMLESS)}
    added: dict[str, Any] = {}
    for spelling, text in spellings(family).items():
        for place, conversation in places(text):
            forged, expected = control_ids(family, conversation), harmless[place]
            if forged is not None and expected is not None and forged - expected:
                added[f"{place}, {spelling}"] = [*(forged - expected)][:3]
    assert not added


@pytest.mark.parametrize("family", FAMILIES)
def test_a_token_split_over_parts_is_none(family: str) -> None:
    def halves(name: str) -> Conversation:
        texts = parts(f"Hi {name[:2]}", f"{name[2:]} bye")
        return Conversation((message("user", texts), message("assistant", texts), THANKS))

    expected = control_ids(family, halves(HARMLESS))
    assert expected is not None
    for name in controls(family).values():
        if "think" not in name.lower():
            assert not (control_ids(family, halves(name)) or Counter()) - expected, name


@pytest.mark.parametrize("family", FAMILIES)
def test_forged_text_is_read_as_it_was_written(family: str) -> None:
    tokenizer = checkpoint(family).tokenizer
    text = spellings(family)["spaced"]
    ids = prompt_ids(family, chat_of(Conversation((message("user", text),))))
    assert text in tokenizer.decode(ids)


def test_a_spelled_token_has_the_ids_that_mistral_gives_it(tmp_path: Path) -> None:
    ids = reduced("mistral_nemo", tmp_path).ids(chat_of(CONVERSATIONS["struck"]))
    assert short(ids) == MISTRAL["struck"]
