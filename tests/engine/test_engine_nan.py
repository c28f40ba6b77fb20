"""A sequence whose logits are no numbers is refused, and hurts no other, now or later."""

import mlx.core as mx
import numpy as np
import pytest

from bessemer.engine.batch import Batch, Output
from bessemer.engine.request import Refused, Started
from bessemer.kernels.attention.pages import PAGE
from tests.engine.paper_model import answers, engine, greedy, prompt, request_for


def test_broken_numbers_refuse_one_request_and_no_other() -> None:
    door, model = engine()
    poisoned = [49, 49, 49]

    def forward(batch: Batch) -> Output:
        logits = np.array(model(batch).logits)
        if batch.decodes and int(batch.positions[0]) == 3:
            logits[0] = np.nan
        return Output(mx.array(logits))

    door.forward = forward
    door.submit(request_for(1, poisoned, 9))
    door.submit(request_for(2, prompt(1, 9), 5))
    events = list(door.run())
    refused = [e for e in events if isinstance(e, Refused)]
    assert [(e.request, e.status, e.code) for e in refused] == [(1, 500, "numerics")]
    assert answers(e for e in events if e.request == 2) == {2: greedy(prompt(1, 9), 5)}


def test_pages_of_which_nan_came_are_never_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    door, _model = engine()
    broken: set[int] = {1, 3}
    forward = door.forward

    def with_nan(batch: Batch) -> Output:
        logits = np.array(forward(batch).logits)
        for row, request in enumerate(batch.sequences[: len(logits)]):
            logits[row] = np.nan if request in broken else logits[row]
        return Output(mx.array(logits))

    monkeypatch.setattr(door, "forward", with_nan)
    shared = prompt(1, 2 * PAGE)
    door.submit(request_for(0, [*shared, 3], 2))
    assert answers(door.run()) == {0: greedy([*shared, 3], 2)}
    bad = shared + prompt(2, 3 * PAGE)
    for number, tokens in ((1, bad), (2, prompt(7, 40)), (3, bad[:-1]), (4, bad)):
        door.submit(request_for(number, tokens, 2))
        if number != 1:
            events = list(door.run())
            assert {e.request for e in events if isinstance(e, Refused)} <= broken
            if number > 2:
                assert [e.cached for e in events if isinstance(e, Started)] == [2 * PAGE]
            if number not in broken:
                assert answers(e for e in events if e.request == number)[number] == greedy(
                    tokens, 2
                )
