"""The sandbox of templates: what they are given, as in transformers, and what they must not do."""

from datetime import datetime

import pytest
from jinja2.exceptions import SecurityError

from bessemer.engine.sandbox import FAULTS, Objection, sandbox

# As transformers sets up its templates: trim_blocks, lstrip_blocks, loop controls, plain JSON.
RENDERED = [
    ("{{ {'b': '<é>', 'a': 1} | tojson }}", '{"b": "<é>", "a": 1}'),
    (
        "{{ {'b': 1, 'a': [2]} | tojson(indent=1, sort_keys=true) }}",
        '{\n "a": [\n  2\n ],\n "b": 1\n}',
    ),
    ("{% for x in [1, 2, 3] %}{% if x == 3 %}{% break %}{% endif %}{{ x }}{% endfor %}", "12"),
    ("{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}", "21"),
    ("  {% if true %}\nyes\n  {% endif %}", "yes\n"),
    ("{{ strftime_now('%d %b %Y') }}", "02 Mar 2031"),
    ("{{ '=' * 3 }}{{ 7 * 6 }}", "===42"),
]


@pytest.mark.parametrize(("template", "text"), RENDERED)
def test_what_a_template_renders(template: str, text: str) -> None:
    environment = sandbox(lambda: datetime(2031, 3, 2))
    assert environment.from_string(template).render() == text


@pytest.mark.parametrize(
    "template",
    [
        "{{ items.append(1) }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ 'a' * 2000000 }}",
        "{{ items * 2000000 }}",
        "{{ 2**63 * 4 }}",
        "{{ 2 ** 3 }}",
    ],
)
def test_what_is_forbidden(template: str) -> None:
    with pytest.raises(SecurityError):
        sandbox().from_string(template).render(items=[1])


def test_a_template_may_object() -> None:
    with pytest.raises(Objection, match="roles must alternate") as caught:
        sandbox().from_string("{{ raise_exception('roles must alternate') }}").render()
    assert isinstance(caught.value, FAULTS)


@pytest.mark.parametrize(
    "template", ["{{ 1 / 0 }}", "{{ x.y.z }}", "{% break %}", "{% if %}", "{{ [1] + 'a' }}"]
)
def test_a_faulty_template_raises_a_fault(template: str) -> None:
    with pytest.raises(FAULTS):
        sandbox().from_string(template).render()
