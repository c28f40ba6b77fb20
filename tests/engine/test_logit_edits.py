"""The table that follows a sequence, against edits looked up in dicts for every token."""

import random
from array import array
from collections import Counter
from collections.abc import Sequence as Seq
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from bessemer.engine import engine as engine_module
from bessemer.engine import sampler
from bessemer.engine.logit_edits import LogitEdits
from bessemer.engine.request import Request, Sampling
from bessemer.engine.sequence import Sequence
from bessemer.kernels.sampling.edit import Edits, edit
from tests.engine.paper_model import END, VOCABULARY, answers, engine, prompt, request_for

Entry = tuple[float, float, float]


def oracle(request: Request, tokens: Seq[int], eos_ids: Seq[int]) -> dict[int, Entry]:
    """Return what happens to each token: an addend, then a divisor, then a subtrahend."""
    sampling, answer = request.sampling, tokens[len(request.tokens) :]
    bias = dict(sampling.logit_bias)
    if len(answer) < request.min_tokens:
        bias |= dict.fromkeys([*eos_ids, *request.stop_token_ids], -np.inf)
    divisor, less = dict[int, float](), dict[int, float]()
    if sampling.repetition_penalty != 1:
        divisor = dict.fromkeys(tokens, sampling.repetition_penalty)
    if sampling.presence_penalty or sampling.frequency_penalty:
        for token, count in Counter(answer).items():
            less[token] = sampling.presence_penalty + count * sampling.frequency_penalty
    return {
        token: (bias.get(token, 0.0), divisor.get(token, 1.0), less.get(token, 0.0))
        for token in bias | divisor | less
    }


def entries(edits: LogitEdits | None) -> dict[int, Entry]:
    if edits is None:
        return {}
    rows = [(int(token), tuple(changes)) for token, *changes in edits.table().tolist()]
    assert len(dict(rows)) == len(rows), "a token has two entries"
    return dict(rows)  # type: ignore[arg-type]


def random_settings(chance: random.Random) -> dict[str, Any]:
    """Some of what a request may say of single tokens, often overlapping."""
    any_id = [*range(VOCABULARY), VOCABULARY + 3, -1, 2**31 - 1]
    sampling = Sampling(
        temperature=chance.choice([0.0, 1.3]),
        seed=chance.getrandbits(64),
        logit_bias={
            chance.choice(any_id): chance.gauss(0, 4) for _ in range(chance.choice([0, 6]))
        },
        repetition_penalty=chance.choice([1.0, 1.0, 1.2, 0.7]),
        presence_penalty=chance.choice([0.0, 0.0, 0.6, -0.3]),
        frequency_penalty=chance.choice([0.0, 0.0, 0.1, 0.3]),
    )
    stops = chance.sample(range(VOCABULARY), chance.choice([0, 2]))
    limits = {"min_tokens": chance.choice([0, 0, 3, 40]), "stop_token_ids": stops}
    return {"sampling": sampling} | limits


def test_after_every_token_it_has_what_the_dicts_have() -> None:
    chance = random.Random(3)
    kinds = Counter[bool]()
    for number in range(300):
        request = request_for(
            number, prompt(number, chance.choice([1, 30])), 60, **random_settings(chance)
        )
        tokens = array("I", request.tokens)
        edits = LogitEdits.of(request, tokens, [END, 7])
        kinds[edits is None] += 1
        for step in range(chance.choice([5, 60])):
            if step == 0 or chance.random() < 0.8:  # now and then two tokens at once
                assert entries(edits) == oracle(request, tokens, [END, 7])
            tokens.append(chance.randrange(VOCABULARY))
    assert min(kinds.values()) > 3


def test_what_changes_nothing_has_no_table() -> None:
    for settings in ({}, {"stop_token_ids": [3]}, {"sampling": Sampling(temperature=2, top_k=3)}):
        request = request_for(1, [5, 6], 9, **settings)
        assert LogitEdits.of(request, array("I", request.tokens), [END]) is None


class Auditor:
    """Stands between sampler and kernel: the dicts must edit the step's logits to the same bits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.edited = 0
        self.sequences: Seq[Sequence] = ()
        self._sample, self._draw = sampler.sample, sampler.draw
        monkeypatch.setattr(engine_module, "sample", self.sample)
        monkeypatch.setattr(sampler, "draw", self.draw)

    def sample(self, logits: mx.array, sequences: Seq[Sequence]) -> Any:
        self.sequences = sequences
        return self._sample(logits, sequences)

    def draw(self, logits: mx.array, edits: Edits | None, *settings: Any) -> Any:
        table = [
            (row, token, *entry)
            for row, sequence in enumerate(self.sequences)
            for token, entry in oracle(sequence.request, sequence.tokens, [END]).items()
        ]
        assert (edits is None) == (not table)
        if edits is not None:
            assert sorted(zip(*map(np.ndarray.tolist, vars_of(edits)), strict=True)) == sorted(
                table
            )
            reference, edited = edit(logits, Edits(*np.array(table).T)), edit(logits, edits)
            assert np.array(reference).tobytes() == np.array(edited).tobytes()
            self.edited += 1
        return self._draw(logits, edits, *settings)


def vars_of(edits: Edits) -> list[np.ndarray]:
    return [edits.rows, edits.ids, edits.bias, edits.penalty, edits.less]


@pytest.mark.parametrize("seed", range(3))
def test_traffic_with_preemption_is_edited_as_by_the_dicts(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(pages: int) -> dict[int, list[int]]:
        chance = random.Random(seed)
        door, _ = engine(pages=pages, batch=4, chunk=48)
        for number in range(12):
            door.submit(request_for(number, prompt(number, 60), 90, **random_settings(chance)))
        out = answers(door.run())
        assert bool(door.scheduler.preemptions) == (pages < 20)
        return out

    auditor = Auditor(monkeypatch)
    assert run(12) == run(64)
    assert auditor.edited > 100
