"""Chat templates of embedding and reranking models: which one, and how contents are put."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from bessemer.engine.embedding.chat_template import check_pairs, load_chat_template
from bessemer.engine.embedding.sentence_transformers import DescriptionError, Modality
from bessemer.engine.text.tokenizer import ChatTemplates, Tokenizer

HERE = Path("model")
FLAT = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }};{% endfor %}"
TYPED = "{% for m in messages %}{{ m.role }}: {{ m.content[0].text }};{% endfor %}"
TURNS = (("query", "who?"), ("document", "a cat"))


def rendered(template: ChatTemplates, format: Any = "auto") -> str:
    special = {"bos_token": "<s>"}
    tokenizer = Tokenizer(tokenizers.Tokenizer(tokenizers.models.BPE()), special, template)
    return load_chat_template(HERE, tokenizer, Modality(format))(TURNS)


def test_contents_are_put_as_the_template_takes_them() -> None:
    assert rendered(FLAT) == "<s>query: who?;document: a cat;"
    assert rendered(TYPED) == "query: who?;document: a cat;"
    assert rendered("{{ messages[0].content }}", "structured") == str(
        [{"type": "text", "text": "who?"}]
    )
    assert rendered("{{ add_generation_prompt }} {{ tools }}") == "False None"
    assert rendered("{# .type #}{{ messages[0].content }}", "flat") == "who?"


def test_the_default_one_of_several_else_the_first() -> None:
    other = {"name": "tool_use", "template": "other"}
    assert rendered([other, {"name": "default", "template": "usual"}]) == "usual"  # type: ignore[list-item]
    assert rendered([other]) == "other"  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("template", "message"),
    [(None, "has no chat template"), ([], "has no chat"), ("{% if %}", "template is broken")],
)
def test_templates_that_are_refused(template: ChatTemplates, message: str) -> None:
    with pytest.raises(DescriptionError, match=message):
        rendered(template)


def test_a_pair_has_to_be_in_its_template() -> None:
    def failing(turns: Sequence[tuple[str, str]]) -> str:
        return turns[2][1]

    check_pairs(HERE, lambda turns: f"{turns[0][1]} {turns[1][1]}")
    for place in (0, 1):
        with pytest.raises(DescriptionError, match="leaves out a query or a document"):
            check_pairs(HERE, lambda turns, place=place: turns[place][1])  # type: ignore[misc]
    with pytest.raises(DescriptionError, match="fails for a pair"):
        check_pairs(HERE, failing)
