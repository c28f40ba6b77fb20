"""Biases, bans and penalties at the logits, against transformers and by hand."""

import random
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from bessemer.engine import sampler
from bessemer.engine.logit_edits import LogitEdits
from bessemer.engine.request import Request, Sampling
from bessemer.engine.sampler import sample, score_prompt
from bessemer.engine.sequence import Sequence
from bessemer.kernels.sampling import sample as sample_module
from bessemer.kernels.sampling.edit import edit, edit_reference

GOLDEN = np.load(Path(__file__).parents[1] / "kernels" / "golden" / "sample.npz")


def sequence_of(tokens: list[int], generated: list[int] = (), **settings: object) -> Sequence:  # type: ignore[assignment]
    """A sequence in the middle of its answer."""
    own = "min_tokens", "logprobs", "allowed_token_ids"
    limits = {name: settings.pop(name) for name in own if name in settings}
    sampling = Sampling(**({"temperature": 0} | settings))  # type: ignore[arg-type]
    sequence = Sequence.of(
        Request(id=1, tokens=tokens, max_tokens=9, sampling=sampling, **limits)  # type: ignore[arg-type]
    )
    sequence.edits = LogitEdits.of(sequence.request, sequence.tokens, [2])
    sequence.tokens.extend(generated)
    return sequence


def edited(sequence: Sequence, logits: np.ndarray) -> np.ndarray:
    """Return the logits that were sampled, read back through log probabilities of a biased copy."""
    from bessemer.engine.sampler import _edits
    from bessemer.kernels.sampling.edit import edit

    edits = _edits([sequence])
    return logits if edits is None else np.array(edit(mx.array(logits[None]), edits))[0]


def test_repetition_penalty_is_transformers() -> None:
    sequence = sequence_of(GOLDEN["history"].tolist(), repetition_penalty=1.7)
    assert edited(sequence, GOLDEN["logits"][0]) == pytest.approx(GOLDEN["penalized"], abs=1e-5)


def test_presence_and_frequency_count_the_answer_alone() -> None:
    logits = np.zeros(10, dtype=np.float32)
    sequence = sequence_of([5, 5, 6], [7, 7, 8], presence_penalty=0.5, frequency_penalty=0.25)
    oracle = np.zeros(10)
    oracle[7], oracle[8] = -1.0, -0.75
    assert edited(sequence, logits) == pytest.approx(oracle)


def test_bias_comes_before_the_penalty() -> None:
    logits = np.full(10, -1.0, dtype=np.float32)
    sequence = sequence_of([3], logit_bias={3: 5.0, 4: -100.0}, repetition_penalty=2.0)
    out = edited(sequence, logits)
    assert (out[3], out[4], out[5]) == (2.0, -101.0, -1.0)


def test_ends_are_banned_until_there_are_enough_tokens() -> None:
    logits = np.zeros(10, dtype=np.float32)
    assert edited(sequence_of([1], [4], min_tokens=2), logits)[2] == -np.inf
    assert edited(sequence_of([1], [4, 4], min_tokens=2), logits)[2] == 0


def test_rows_of_one_step_keep_their_own_settings() -> None:
    logits = mx.array(np.tile(np.array([0.0, 1.0, 0.5, 0.9], dtype=np.float32), (3, 1)))
    sequences = [
        sequence_of([1]),
        sequence_of([1], logit_bias={1: -9.0}),
        sequence_of([1], logit_bias={0: 9.0}),
    ]
    assert [sampled.token for sampled in sample(logits, sequences).read()] == [1, 3, 0]


def test_rows_that_may_draw_few_stand_beside_rows_that_may_draw_all() -> None:
    logits = np.tile(np.linspace(0, 1, 70, dtype=np.float32), (3, 1))
    sequences = [sequence_of([1]), sequence_of([1], allowed_token_ids=[3, 40]), sequence_of([1])]
    assert [sampled.token for sampled in sample(mx.array(logits), sequences).read()] == [69, 40, 69]


def test_logprobs_are_of_the_model_not_of_the_settings() -> None:
    logits = np.array([0.0, 1.0, 2.0, 3.0], dtype=np.float32)
    sequence = sequence_of([1], logit_bias={0: 100.0}, logprobs=2)
    (sampled,) = sample(mx.array(logits[None]), [sequence]).read()
    scores = logits - np.log(np.exp(logits).sum())
    assert sampled.token == 0 and sampled.logprobs is not None
    assert sampled.logprobs.logprob == pytest.approx(scores[0], abs=1e-5)
    assert sampled.logprobs.top == [
        (3, pytest.approx(scores[3], abs=1e-5)),
        (2, pytest.approx(scores[2], abs=1e-5)),
    ]


def test_a_prompts_tokens_have_their_ranks() -> None:
    logits = np.array([[0.0, 1.0, 2.0, 3.0], [5.0, 1.0, 5.0, 5.0]], dtype=np.float32)
    first, second = score_prompt(mx.array(logits), [1, 2], 2).read()
    assert (first.token, first.rank, second.token, second.rank) == (1, 3, 2, 1)
    assert [token for token, _ in first.top] == [3, 2] and len(second.top) == 2
    assert first.logprob == pytest.approx(1 - np.log(np.exp(logits[0]).sum()), abs=1e-5)


def test_a_row_of_nan_is_told_apart() -> None:
    logits = mx.array(
        np.array([[0.0, np.nan, 1.0], [0.0, 5.0, 1.0]], dtype=np.float32) * [[np.nan], [1]]
    )
    assert [d.token for d in sample(logits, [sequence_of([1]), sequence_of([1])]).read()] == [-1, 1]


def test_draws_are_the_philox_stream_of_the_seed() -> None:
    logits = mx.zeros((1, 1000))
    sequence = sequence_of([1], temperature=1.0, seed=2**63 + 11)
    tokens = []
    for _ in range(5):
        tokens.append(sample(logits, [sequence]).read()[0].token)
        sequence.tokens.append(tokens[-1])
    stream = np.random.Generator(np.random.Philox(key=2**63 + 11)).random(5)
    assert tokens == pytest.approx((stream * 1000).astype(int), abs=1)


def test_a_greedy_row_needs_no_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    places = []
    monkeypatch.setattr(sampler, "uniform", lambda *place: places.append(place) or 0.5)
    rows = [sequence_of([1], [3]), sequence_of([1], [3, 3], temperature=1.0, seed=9)]
    sample(mx.zeros((2, 10)), rows)
    assert places == [(9, 2)]


@pytest.mark.parametrize("form", [edit, edit_reference])
def test_no_setting_makes_nan_of_numbers(form: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each at the ends of its range, and beyond what a float32 holds."""
    monkeypatch.setattr(sample_module, "edit", form)
    settings = {
        "repetition_penalty": [1e-300, 1e-50, 1e-40, 1e-37, 1.0, 100.0, 1e300],
        "logit_bias": [{}, {1: 1e38, 2: -1e38, 3: -100.0}, {1: 1e300, 2: -1e300}],
        "presence_penalty": [0.0, -2.0, 1e38],
        "temperature": [0.0, 1e-300, 1e-45, 1e-30, 1.0, 100.0],
        "top_p": [1e-300, 1e-40, 0.5, 1.0],
        "min_p": [0.0, 1e-300, 1.0],
        "top_k": [0, 1, 2**31 - 1],
        "min_tokens": [0, 9],
    }
    rows = np.array([[0.0, -1e-40, 1e-40, 3e38, -3e38, 5.0, -5.0, 0.0, 1.0, 2.0]])
    chance = random.Random(4)
    for spread in (rows, rows * 0, rows[:, ::-1], np.clip(rows, -30, 30)):
        for _ in range(150):
            chosen = {name: chance.choice(values) for name, values in settings.items()}
            (sampled,) = sample(
                mx.array(spread.astype(np.float32)), [sequence_of([1, 3], [3, 4], **chosen)]
            ).read()
            assert sampled.token >= 0, chosen


def test_logits_are_edited_only_where_there_is_something_to_edit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    edits = []
    monkeypatch.setattr(sample_module, "edit", lambda *given: edits.append(given) or edit(*given))
    logits = mx.array([[0.0, 1.0, 2.0]])
    for settings, token in (({}, 2), ({"allowed_token_ids": [1]}, 1)):
        assert [d.token for d in sample(logits, [sequence_of([1], **settings)]).read()] == [token]
    assert not edits
    sample(logits, [sequence_of([1], logit_bias={0: 9.0})]).read()
    assert len(edits) == 1
