"""Prompts of real templates, id by id as transformers makes them."""

import json
from contextlib import suppress

import pytest

from bessemer.engine.request import Refusal
from tests.translate.conversations import CONVERSATIONS
from tests.translate.families import FAMILIES
from tests.translate.golden import GOLDEN, digest
from tests.translate.prompt_ids import chat_of, prompt_ids

EXPECTED: dict[str, dict[str, str]] = json.loads(GOLDEN.read_text())

REASONS = ("refused", "lost", "forged")  # why there are no golden ids


@pytest.mark.parametrize("family", FAMILIES)
def test_honest_conversations_have_the_ids_that_transformers_gives_them(family: str) -> None:
    wrong = {}
    for name, expected in EXPECTED[family].items():
        if expected not in REASONS:
            found = _digest(family, name)
            if found != expected.split()[0]:
                wrong[name] = f"{found}, not {expected}"
    assert not wrong


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_template_refuses_or_drops_is_tidied_or_refused_and_nothing_worse(
    family: str,
) -> None:
    for name, expected in EXPECTED[family].items():
        if expected in ("refused", "lost"):
            with suppress(Refusal):
                assert prompt_ids(family, chat_of(CONVERSATIONS[name]))


def test_every_family_and_conversation_has_its_golden_ids() -> None:
    assert EXPECTED.keys() == FAMILIES.keys()
    for goldens in EXPECTED.values():
        assert goldens.keys() == CONVERSATIONS.keys()
        assert sum(each[0].isdigit() for each in goldens.values()) > len(CONVERSATIONS) / 3


def _digest(family: str, name: str) -> str:
    try:
        return digest(prompt_ids(family, chat_of(CONVERSATIONS[name])))
    except Refusal as refusal:
        return refusal.message
