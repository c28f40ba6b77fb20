"""What is known of a chat template before it is rendered: which one it is, and that it is none."""

from bessemer.engine.text.tokenizer import NamedTemplate
from bessemer.translate.template_source import broken, no_template, pick


def test_of_several_templates_the_default_is_used_or_else_the_first() -> None:
    tools, default = (NamedTemplate(name=name, template=name) for name in ("tools", "default"))
    assert pick("text") == "text" and pick([tools, default]) == "default"
    assert pick([tools]) == "tools" and pick([]) is None


def test_refusals_say_what_works_without_a_template() -> None:
    for refusal, status, code in (
        (no_template(), 400, "no_chat_template"),
        (broken("line 1"), 500, "broken_chat_template"),
    ):
        assert (refusal.status, refusal.code) == (status, code)
        assert "/v1/completions works" in refusal.message
