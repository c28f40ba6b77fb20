"""The grammars that are kept, and the thread that compiles them."""

import threading
from typing import Any, cast

import numpy as np
import pytest

from bessemer.engine.grammar.compiler import Compiler
from bessemer.engine.grammar.grammars import CHARACTERS, ENTRIES, Grammars
from bessemer.engine.request import Constraint, Refusal, Request, Thought
from tests.engine.paper_model import END, VOCABULARY, compiler, request_for


class Counting:
    """A compiler that counts, and stands still while it is told to."""

    def __init__(self) -> None:
        self.size = compiler().size
        self.compiled: list[str] = []
        self.go = threading.Event()
        self.go.set()
        self.thread = ""

    def compile(self, constraint: Constraint, marks: Any) -> Any:
        self.go.wait(60)
        self.thread = threading.current_thread().name
        self.compiled.append(constraint.definition)
        return compiler().compile(constraint, marks)

    def circle(self, constraint: Constraint, max_tokens: int) -> Any:
        return compiler().circle(constraint, max_tokens)


def asking(definition: str, **more: Any) -> Request:
    return request_for(
        1, [5], 9, constraint=Constraint(grammar="regex", definition=definition), **more
    )


def compiled(grammars: Grammars, request: Request) -> None:
    grammars.compile(request)
    grammars.wait()


def grammars_of(counting: Counting, wake: Any = lambda: None) -> Grammars:
    return Grammars(cast(Compiler, counting), wake)


def test_a_grammar_is_compiled_once_by_another_thread() -> None:
    counting, woken = Counting(), threading.Event()
    grammars = grammars_of(counting, woken.set)
    assert grammars.idle and grammars.answer(asking("[0-9]"), [0]) is None
    counting.go.clear()
    grammars.compile(asking("[0-9]"))
    assert not grammars.idle and grammars.answer(asking("[0-9]"), [0]) is None
    assert not woken.is_set()
    counting.go.set()
    assert woken.wait(60)
    grammars.wait()
    assert grammars.idle and counting.thread != threading.current_thread().name
    first, second = (grammars.answer(asking("[0-9]"), [0]) for _ in range(2))
    assert first is not None and second is not None and counting.compiled == ["[0-9]"]
    first.add(ord("5") - 32)
    assert first.is_over and not second.is_over, "each answer has a place of its own"


def test_what_differs_in_marks_or_fields_is_another_grammar() -> None:
    counting = Counting()
    grammars = grammars_of(counting)
    compiled(grammars, asking("[0-9]"))
    thoughtful = asking("[0-9]", thought=Thought("<", ">", "thought"))
    assert grammars.answer(thoughtful, [0]) is None
    compiled(grammars, thoughtful)
    found = grammars.answer(thoughtful, [0])
    assert found is not None and bin(int(found.mask(50)[0])).count("1") > 20


@pytest.mark.parametrize(
    ("more", "ends"),
    [
        ({}, {END, 41}),
        ({"ignore_eos": True}, set()),
        ({"stop_token_ids": [42]}, {END, 41, 42}),
        ({"ignore_eos": True, "stop_token_ids": [42]}, {42}),
    ],
)
def test_the_tokens_that_end_an_answer(more: dict[str, Any], ends: set[int]) -> None:
    grammars = grammars_of(Counting())
    request = asking("A?", **more)
    compiled(grammars, request)
    answer = grammars.answer(request, [END, 41])
    assert answer is not None
    bits = np.unpackbits(answer.mask(VOCABULARY).view(np.uint8), bitorder="little")
    assert {*np.flatnonzero(bits).tolist()} == {ord("A") - 32} | ends


def test_a_refusal_is_kept_too_and_each_caller_gets_one_of_its_own() -> None:
    counting = Counting()
    grammars = grammars_of(counting)
    compiled(grammars, asking("("))
    caught = []
    for _ in range(2):
        with pytest.raises(Refusal) as info:
            grammars.answer(asking("("), [0])
        caught.append(info.value)
    assert caught[0] is not caught[1] and counting.compiled == ["("]


def test_the_grammars_that_nobody_asked_for_lately_make_way() -> None:
    counting = Counting()
    grammars = grammars_of(counting)
    for number in range(ENTRIES + 1):
        compiled(grammars, asking(f"A{{{number + 1}}}"))
        assert grammars.answer(asking("A{1}"), [0]) is not None
    assert grammars.answer(asking("A{2}"), [0]) is None
    assert grammars.answer(asking("A{3}"), [0]) is not None


def test_large_grammars_make_way_sooner() -> None:
    counting = Counting()
    grammars = grammars_of(counting)
    size = 2**16
    requests = [asking(f"A{{{number}}}|" + "B" * size) for number in range(CHARACTERS // size + 1)]
    for request in requests:
        compiled(grammars, request)
        grammars.answer(request, [0])
    kept = [grammars.answer(request, [0]) is not None for request in requests]
    assert not kept[0] and all(kept[3:])


def test_rules_within_rules_do_not_run_out_of_the_stack() -> None:
    chain = "start: r0\n" + "".join(f"r{i}: r{i + 1}\n" for i in range(6000)) + 'r6000: "7"'
    request = request_for(1, [5], 9, constraint=Constraint(grammar="lark", definition=chain))
    before = threading.stack_size()
    grammars = Grammars(compiler())
    compiled(grammars, request)
    assert grammars.answer(request, [0]) is not None and threading.stack_size() == before
