"""The lists of ignored fields in http/README.md are those of the types that decode requests."""

from tests.http.readme_fields import END, README, lists, written


def test_the_readme_has_what_is_generated() -> None:
    page = README.read_text()
    assert written(page) == page, "python -m tests.http.readme_fields"
    assert written(page.replace(lists(), "| all | none |")) == page


def test_a_field_is_listed_where_it_is_ignored() -> None:
    rows = {line.split("|")[1].strip(): line for line in lists().splitlines()}
    chat, responses = (
        rows["`/v1/chat/completions` `/v1/completions` `/apply-template` `/v1/route`"],
        next(line for at, line in rows.items() if "`/v1/responses`" in at),
    )
    assert "`store`" in chat and "`reasoning.summary`" in chat
    assert "`store`" not in responses and "`reasoning.summary`" not in responses
    assert END not in lists()
