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
    ("{{ 'a'.ljust(3) ~ 'b' + 'c' }}{{ [1] + [2] }}", "a  bc[1, 2]"),
    ("{{ '%5.1f|%s%%' % (2.25, 'x') }}{{ '%3d' | format(7) }}", "  2.2|x%  7"),
    ("{{ '{:>4}{}'.format('a', {'b': 1}) }}{{ 7 % 4 }}", "   a{'b': 1}3"),
    ("{{ 'aXa' | replace('a', 'bc') }}{{ 'aXa'.replace('a', '') }}", "bcXbcX"),
    ("{{ [1, 'b'] | join(', ') }}{{ ', '.join(items | map('string')) }}", "1, b1"),
    ("{{ [{'n': 'a'}, {'n': 'b'}] | join('-', attribute='n') }}", "a-b"),
    ("{{ ('a'.ljust(1000000) ~ 'b' * 1000000) | length }}", "2000000"),  # no more than that
    ("{{ 'a' | center(3) }}{{ 'a\nb' | indent(2) }}", " a a\n  b"),
]


@pytest.mark.parametrize(("template", "text"), RENDERED)
def test_what_a_template_renders(template: str, text: str) -> None:
    environment = sandbox(lambda: datetime(2031, 3, 2))
    assert environment.from_string(template).render(items=[1]) == text


@pytest.mark.parametrize(
    "template",
    [
        "{{ items.append(1) }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ 'a' * 1000001 }}",
        "{{ 'a'.ljust(1000001) }}",
        "{{ items * 2000000 }}",
        "{{ 2**63 * 4 }}",
        "{{ 2 ** 3 }}",
        "{{ 'a'.ljust(3000000000) }}",
        "{{ 'a'.encode().rjust(3000000000) }}",
        "{{ '\t'.expandtabs(3000000000) }}",
        "{{ 'a' | center(3000000000) }}",
        "{{ 'a' | indent(width=3000000000) }}",
        "{{ items | tojson(indent=3000000000) }}",
        "{{ '%3000000000d' % 1 }}",
        "{{ '%.*f' % (3000000000, 1) }}",
        "{{ '%3000000000d' | format(1) }}",
        "{{ '{:3000000000}'.format(1) }}",
        "{{ '{:{}}'.format(1, 3000000000) }}",
        "{{ '{a:{b}}'.format_map({'a': 1, 'b': 3000000000}) }}",
        "{% set x = 'a' * 1000000 %}{{ x | replace('a', x) }}",
        "{% set x = 'a' * 1000000 %}{{ x.replace('a', x) }}",
        "{% set x = 'a' * 1000000 %}{{ ([x] * 100) | join }}",
        "{% set x = 'a' * 1000000 %}{{ x.join(x) }}",
        "{% set n = namespace(x='ab') %}{% for i in range(40) %}{% set n.x = n.x ~ n.x %}"
        "{% endfor %}",
        "{% set n = namespace(x='ab') %}{% for i in range(40) %}{% set n.x = n.x + n.x %}"
        "{% endfor %}",
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


def test_a_fault_says_what_was_wrong_with_a_call() -> None:
    with pytest.raises(TypeError, match="replace"):
        sandbox().from_string("{{ 'a'.replace('b') }}").render()
