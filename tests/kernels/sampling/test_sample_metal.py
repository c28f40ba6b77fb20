"""The Metal sampler, simulated: against exact chances, its definition, transformers' warpers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using
from bessemer.kernels.metal.library import watching
from bessemer.kernels.sampling.edit import Edits, edit_reference, edits_of
from bessemer.kernels.sampling.logprobs import RowLogprobs, logprobs_mlx
from bessemer.kernels.sampling.sample import Draws, draw, sample, sample_metal, sample_reference

from ..metal_cases import Case

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "sample.npz")
Rows = tuple[np.ndarray, np.ndarray, np.ndarray]  # logits, settings, uniforms
CHECK = Simulator(SimulatorOptions(mode="check"))
FLOATS = (mx.float32, mx.float16, mx.bfloat16)
# Chances come from float32 exponentials; against float64 they and their sums differ by this much.
TOLERANCE = 2e-6
SETTINGS = np.array(  # temperature, top_k, top_p, min_p
    [
        [0, 0, 1, 0],
        [1.0, 0, 1, 0],
        [0.7, 10, 1, 0],
        [1.3, 0, 0.8, 0],
        [1.0, 0, 1, 0.1],
        [1.5, 40, 0.9, 0.05],
        [4.0, 1, 0.5, 0],
    ]
)
# What the first few hundred ranks do not settle.
FLAT = np.array(
    [
        [9.0, 0, 0.9, 0],
        [9.0, 1500, 1, 0],
        [9.0, 1400, 0.97, 0],
        [9.0, 0, 1, 0.3],
        [9.0, 4000, 0.6, 0.01],
        [1e30, 0, 0.5, 0],
        [9.0, 0, 1, 0],
    ]
)


def draws(settings: np.ndarray, uniform: np.ndarray) -> Draws:
    temperature, top_k, top_p, min_p = settings.T
    return Draws(temperature, top_k.astype(np.int32), top_p, min_p, uniform)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Token ids in the order in which they are drawn from, and each one's share of [0, 1)."""

    ids: np.ndarray
    cumulative: np.ndarray

    def may(self, token: int, uniform: float) -> bool:
        at = np.flatnonzero(self.ids == token)
        if not len(at):
            return False
        start = self.cumulative[at[0] - 1] if at[0] else 0.0
        return bool(start - TOLERANCE <= uniform <= self.cumulative[at[0]] + TOLERANCE)


def candidates_of(
    logits: np.ndarray, top_k: int, top_p: float, min_p: float, temperature: float
) -> Candidates:
    """Return the tokens that the cuts leave, in float64, by a sort."""
    chances = np.exp((logits - logits.max()) / temperature)
    if not top_k and top_p >= 1 and min_p <= 0:
        return Candidates(np.arange(len(logits)), np.cumsum(chances) / chances.sum())
    ids = np.argsort(-logits, kind="stable")[: top_k or None]
    ids = ids[np.isfinite(logits[ids])]
    before = np.cumsum(chances[ids]) - chances[ids]
    keep = (before < top_p * chances[ids].sum()) if top_p < 1 else np.ones(len(ids), bool)
    keep &= chances[ids] >= min_p
    ids = ids[: max(int(keep.sum()), 1)]
    return Candidates(ids, np.cumsum(chances[ids]) / chances[ids].sum())


def allow(token: int, logits: np.ndarray, setting: np.ndarray, uniform: float) -> bool:
    """Return whether some cut within the rounding of the setting's lets the token be drawn."""
    temperature, top_k, top_p, min_p = (float(x) for x in setting)
    logits = logits.astype(np.float64)
    if not temperature:
        return token == int(np.argmax(logits))
    return any(
        candidates_of(logits, int(top_k), p, m, temperature).may(token, uniform)
        for p in (top_p, *((top_p - TOLERANCE, top_p + TOLERANCE) if top_p < 1 else ()))
        for m in (min_p, *((min_p * (1 - TOLERANCE), min_p * (1 + TOLERANCE)) if min_p else ()))
    )


def check(
    logits: np.ndarray,
    settings: np.ndarray,
    uniform: np.ndarray,
    dtype: mx.Dtype = mx.float32,
    simulator: Simulator = CHECK,
) -> np.ndarray:
    rounded = mx.array(logits.astype(np.float32)).astype(dtype)
    with using(simulator):
        out = np.array(sample(rounded, draws(settings, uniform)))
    exact = np.array(rounded.astype(mx.float32))
    wrong = [i for i in range(len(out)) if not allow(out[i], exact[i], settings[i], uniform[i])]
    assert not wrong, [(out[i], settings[i], uniform[i]) for i in wrong]
    return out


def rows(vocabulary: int, settings: np.ndarray, each: int, seed: int = 0) -> Rows:
    """Return `each` rows a setting."""
    state = np.random.RandomState(seed)
    settings = np.repeat(settings, each, axis=0)
    logits = state.normal(size=(len(settings), vocabulary)) * 3
    return logits, settings, state.uniform(size=len(settings))


@pytest.mark.parametrize(
    ("vocabulary", "dtype"),
    [
        *((2, mx.float32), (7, mx.float16), (31, mx.bfloat16), (1000, mx.float32)),
        *((1024, mx.bfloat16), (1025, mx.float16), (5000, mx.float32)),
    ],
)
def test_drawn_by_the_exact_chances(vocabulary: int, dtype: mx.Dtype) -> None:
    check(*rows(vocabulary, SETTINGS, 4), dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_real_vocabulary(dtype: mx.Dtype) -> None:
    check(*rows(32003, SETTINGS, 1), dtype)


def test_a_large_vocabulary() -> None:
    logits, settings, uniform = rows(151936, SETTINGS[[1, 3, 5]], 1)
    check(logits, settings, uniform, mx.float16)


@pytest.mark.parametrize("step", [0, 0.25, 3])
def test_what_the_first_ranks_do_not_settle(step: float) -> None:
    """Rounded to a multiple of step, logits have few values, the same at thousands of tokens."""
    logits, settings, uniform = rows(5003, FLAT, 3, seed=2)
    check(np.round(logits / step) * step if step else logits, settings, uniform)


def test_equal_logits() -> None:
    uniform = np.array([0, 0.3, 0.9999999])
    for size in (40, 3000):
        settings = np.array([[1.0, 0, 1, 0], [1, 0, 0.5, 0], [1, size - 5, 1, 0], [1, 0, 1, 1]])
        settings = np.repeat(settings, 3, axis=0)
        check(np.zeros((12, size)), settings, np.tile(uniform, 4))


def test_cuts_at_the_end_of_a_bin() -> None:
    """Two plateaus, each with more tokens than are listed: how many and how heavy is known."""
    logits = np.repeat([0.0, -np.log(2)], 1200)[None]
    cuts = ([1200, 1], [1201, 1], [2399, 1], [0, 0.6666], [0, 0.6], [1201, 0.999])
    settings = np.array([[1.0, *cut, 0] for cut in cuts])
    every = np.repeat(logits, len(settings), axis=0)
    out = check(every, settings, np.full(len(settings), 1 - 1e-9))
    assert out.tolist() == [1199, 1200, 2398, 1199, 1080, 1199]
    banned = np.where(np.arange(4000) < 1500, 0.0, -np.inf)[None]
    assert check(banned, np.array([[1.0, 2000, 1, 0]]), np.array([1 - 1e-9])).tolist() == [1499]


@pytest.mark.parametrize("depth", [10, 20])
def test_a_tail_of_little_weight(depth: int) -> None:
    """Histograms keep weights in three pieces: all of them count."""
    logits = np.full((1, 3000), -depth)
    logits[0, 7] = 0
    for setting, count in (([1.0, 2500, 1, 0], 2499), ([1.0, 0, 1, 1e-12], 2999)):
        tail = count * np.exp(-depth)
        with using(CHECK):
            uniform = np.array([1 - 0.4 * tail / (1 + tail)])
            out = sample(mx.array(logits.astype(np.float32)), draws(np.array([setting]), uniform))
        assert np.array(out) == pytest.approx([0.6 * count], abs=4)


def test_a_goal_between_two_bins() -> None:
    """Weights 2 and 1, so that half of the whole is the heavier ones to the bit."""
    logits = np.repeat([0.0, -1.0], [1200, 2400])[None]
    halves = np.array([[1 / np.log(2), 0, 1, 1e-9]])
    assert check(logits, halves, np.array([0.5])).tolist() == [1200]


def listed(logits: np.ndarray, threads: int = 512, each: int = 8, group: int = 8) -> int:
    """Return how many tokens sample.metal and logprobs.metal list at once of a row of many."""
    owner = np.arange(logits.size) // each % threads // group
    largest = [logits[owner == i].max(initial=-np.inf) for i in range(threads // group)]
    return int((logits >= min(x for x in largest if x > -np.inf)).sum())


def test_one_more_than_are_listed() -> None:
    logits = np.random.RandomState(2).normal(size=(1, 5003)).astype(np.float32)
    settings = np.array([[9.0, listed(logits[0]) + 1, 1, 0]])
    last = np.argsort(-logits[0], kind="stable")[int(settings[0, 1]) - 1]
    assert check(logits, settings, np.array([1 - 1e-9])).tolist() == [last]


def full_bin() -> np.ndarray:
    """1500 equal tokens, then as many unlike ones as can be listed, all in one bin."""
    below = np.random.RandomState(4).permutation(1024) * 1e-5
    return np.concatenate([np.zeros(1500), -5 - below])[None]


def test_a_bin_of_as_many_as_are_listed() -> None:
    settings = np.array([[4.0, 2200, 1, 0]])
    last = np.argsort(-full_bin()[0], kind="stable")[2199]
    assert check(full_bin(), settings, np.array([1 - 1e-9])).tolist() == [last]


def test_a_bin_of_one_key_more_than_a_histogram_has() -> None:
    near = (1e4 + np.arange(4000) % 513 * 2.0**-10).astype(np.float32)
    check(np.stack([near] * 2), np.array([[9.013, 0, 0.5, 0], [9.013, 2500, 1, 0]]), np.ones(2) / 2)


def test_the_last_tokens_of_a_part_of_a_span() -> None:
    logits, settings, _ = rows(1032, SETTINGS[[3, 1]], 1)
    logits[1, -8:] += 40
    assert check(logits, settings, np.array([0.5, 1 - 1e-9]))[1] >= 1024


def test_near_logits_far_from_zero() -> None:
    """Neighbouring floats, whose differences are within a bin."""
    near = (1e4 + np.arange(4000) % 1300 * 2.0**-10).astype(np.float32)
    settings = np.array([[1.0, 0, 0.5, 0], [1.0, 2500, 1, 0], [1.0, 3, 1, 0]])
    check(np.stack([near] * 3), settings, np.array([0.7, 0.99, 0.5]))


def test_one_thread_s_tokens_are_all_the_likeliest() -> None:
    logits = np.random.RandomState(3).normal(size=(2, 20_000))
    logits[:, np.arange(20_000) // 8 % 512 == 77] += 50
    logits[1] += np.arange(20_000) // 8 % 8 * 100  # one of eight threads
    check(logits, np.array([[1.0, 0, 0.99, 0], [9.0, 1800, 1, 0]]), np.array([0.9, 0.99]))


def test_a_sweep_of_the_uniform_gives_transformers_distribution() -> None:
    grid = 60
    sweep = (np.arange(grid) + 0.5) / grid
    for logits, settings, oracle in zip(
        GOLDEN["logits"], GOLDEN["settings"], GOLDEN["chances"], strict=True
    ):
        every = mx.array(np.repeat(logits[None], grid, axis=0))
        with using(Simulator()):
            out = sample(every, draws(np.repeat(settings[None], grid, axis=0), sweep))
        share = np.bincount(np.array(out), minlength=logits.size) / grid
        assert np.abs(share - oracle).max() <= 1.5 / grid
        assert not share[oracle == 0].any()


def test_frequencies_are_the_chances() -> None:
    """Pearson's statistic over 24 cells stays within 5 deviations of its mean."""
    state = np.random.RandomState(11)
    logits, uniform = state.normal(size=24), state.uniform(size=500)
    every = mx.array(np.repeat(logits[None], 500, axis=0).astype(np.float32))
    for setting in ([1.0, 0, 1, 0], [0.8, 20, 0.95, 0]):
        with using(Simulator()):
            out = sample(every, draws(np.repeat([setting], 500, axis=0), uniform))
        counts = np.bincount(np.array(out), minlength=24)
        candidates = candidates_of(
            logits.astype(np.float32), int(setting[1]), setting[2], 0, setting[0]
        )
        oracle = np.zeros(24)
        oracle[candidates.ids] = np.diff(candidates.cumulative, prepend=0) * 500
        cells = oracle > 0
        assert not counts[~cells].any()
        statistic = ((counts[cells] - oracle[cells]) ** 2 / oracle[cells]).sum()
        freedom = cells.sum() - 1
        assert abs(statistic - freedom) < 5 * (2 * freedom) ** 0.5


def test_cuts_that_leave_no_doubt() -> None:
    logits = np.log(np.array([0.1, 0.4, 0.05, 0.25, 0.2]))  # ranks: 1, 3, 4, 0, 2
    last = 1 - 1e-9
    table = [
        *([1.0, 0, p, 0] for p in (0.3, 0.6, 0.7, 0.9, 0.99)),
        *([1.0, 0, 1, p] for p in (1, 0.6, 0.45, 0.2, 0.1)),
        *([1.0, k, 1, 0] for k in (1, 2, 3, 4, 5)),
        *([1.0, 4, 0.7, 0], [0.1, 0, 0.999, 0], [1.0, 0, 0, 0], [1.0, 0, 1, 2]),
    ]
    every = mx.array(np.repeat(logits[None], len(table), axis=0).astype(np.float32))
    with using(CHECK):
        out = sample(every, draws(np.array(table), np.full(len(table), last)))
    assert out.tolist() == [*(1, 3, 4, 0, 2) * 2, 1, 3, 4, 0, 2, 4, 3, 1, 1]


def test_extremes() -> None:
    huge = [[3e38, -3e38, 3e38]] * 2
    table = np.array([[1.0, 0, 1, 0], [1.0, 0, 0.99, 0]])
    with using(CHECK):
        assert sample(mx.array(huge), draws(table, np.array([0.9, 0.4]))).tolist() == [2, 0]
        hot = np.array([[t, *cut] for t in (1e-38, 1e-6) for cut in ([0, 1, 0], [2, 0.9, 0])])
        cold = draws(hot, np.full(4, 0.99))
        assert sample(mx.array([[0, 5, 4.9]] * 4), cold).tolist() == [1] * 4
        endless = draws(np.array([[1e38, 0, 1, 0]] * 3), np.array([0.1, 0.5, 0.9]))
        assert sample(mx.array([[-1, 5, 4.9]] * 3), endless).tolist() == [0, 1, 2]
        infinite = draws(SETTINGS[[0, 1, 2]], np.full(3, 0.5))
        assert sample(mx.array([[1, mx.inf, mx.inf]] * 3), infinite).tolist() == [1] * 3
        quarters = np.arange(4) / 4
        for min_p in (0, 1):  # in order of id, in order of rank
            equal = draws(np.array([[1.0, 0, 1, min_p]] * 4), quarters)
            assert sample(mx.zeros((4, 4)), equal).tolist() == [0, 1, 2, 3]
        zeros = draws(np.array([[1.0, 1, 1, 0]]), np.array([0.5]))
        assert sample(mx.array([[-0.0, 0.0]]), zeros).tolist() == [0]


@pytest.mark.parametrize(
    ("size", "dtype"), [(3, mx.float32), (700, mx.bfloat16), (3000, mx.float16)]
)
def test_settings_that_leave_the_likeliest_alone(size: int, dtype: mx.Dtype) -> None:
    """Of equal ones the first, whatever their number and the temperature."""
    cuts = ([0, 0, 0], [0, 1e-30, 0], [1, 1, 0], [5, 0, 0], [0, 0, 1], [1, 1, 1])
    settings = np.array([[t, *cut] for t in (1e-6, 1.0, 100.0, 1e30) for cut in cuts])
    normal = np.random.RandomState(size).normal(size=size) * 3
    for row in (normal, np.round(normal), np.where(normal < 1, -np.inf, 1.5), np.zeros(size)):
        row[size // 2] = max(row.max(), 0.0)
        logits = mx.array(np.repeat(row[None], len(settings), axis=0)).astype(dtype)
        likeliest = int(mx.argmax(logits[0]))
        with using(CHECK):
            out = sample(logits, draws(settings, np.linspace(0, 1 - 1e-9, len(settings))))
        assert out.tolist() == [likeliest] * len(settings)


@pytest.mark.parametrize("size", [3, 600, 9000])
def test_nothing_to_draw_from(size: int) -> None:
    broken = np.zeros((6, size), np.float32)
    broken[0, 0] = broken[1, -1] = broken[2] = np.nan
    broken[3] = -np.inf
    broken[4, 1:] = -np.inf
    for setting in SETTINGS[:4]:
        with using(CHECK):
            out = sample(mx.array(broken), draws(np.repeat([setting], 6, axis=0), np.full(6, 0.99)))
        assert np.array(out).tolist()[:5] == [-1, -1, -1, -1, 0] and np.array(out)[5] >= 0


def test_greedy_takes_the_first_of_equals() -> None:
    for size in (1, 7, 256, 257, 4096, 9000):
        places = sorted({0, size // 2, size - 1})
        logits = np.full((len(places), size), -3.0, np.float32)
        for row, place in enumerate(places):
            logits[row, place:] = 2.0
        with using(CHECK):
            greedy = draws(np.repeat(SETTINGS[:1], len(places), axis=0), np.zeros(len(places)))
            assert sample(mx.array(logits), greedy).tolist() == places


def packed(allowed: np.ndarray) -> np.ndarray:
    wide = np.zeros((len(allowed), -(-allowed.shape[1] // 32) * 32), bool)
    wide[:, : allowed.shape[1]] = allowed
    return np.packbits(wide, axis=1, bitorder="little").view(np.uint32)


@pytest.mark.parametrize(
    ("size", "dtype"), [(5, mx.bfloat16), (33, mx.float16), (1500, mx.bfloat16)]
)
def test_only_what_is_allowed_is_drawn(size: int, dtype: mx.Dtype) -> None:
    logits, settings, uniform = rows(size, SETTINGS, 3)
    allowed = np.random.RandomState(5).uniform(size=logits.shape) < 0.3
    allowed[:, size // 2] = True
    rounded = mx.array(logits).astype(dtype)
    hidden = mx.where(mx.array(allowed.tolist()), rounded, -mx.inf)
    with using(CHECK):
        out = sample(rounded, draws(settings, uniform), packed(allowed))
        assert out.tolist() == sample(hidden, draws(settings, uniform)).tolist()
        none = np.zeros((2, -(-size // 32)), np.uint32)
        assert sample(rounded[:2], draws(settings[:2], uniform[:2]), none).tolist() == [-1, -1]


def random_edits(height: int, width: int, count: int) -> Edits:
    """Return edits at places in no order, some outside; every other row shares a table too."""
    state = np.random.RandomState(7)
    places = state.permutation((height + 1) * width)[:count]
    bias = np.where(state.uniform(size=count) < 0.1, -np.inf, state.normal(size=count) * 9)
    penalty, less = state.uniform(0.5, 2, size=count), state.normal(size=count)
    own = edits_of(places // width, places % width, bias, penalty, less).lasting
    return Edits(dict.fromkeys(range(0, height, 2), own[1]) | {1: own[0]}, own)


@pytest.mark.parametrize(
    ("size", "count", "masked"), [(9, 25, False), (700, 900, True), (5000, 3000, False)]
)
def test_edits_come_before_the_draw(size: int, count: int, masked: bool) -> None:
    logits, settings, uniform = rows(size, SETTINGS, 2)
    logits -= 40  # so that penalties multiply them, and half of them make a token likely
    edits, array = random_edits(len(logits), size, count), mx.array(logits.astype(np.float32))
    allowed = packed(np.random.RandomState(6).uniform(size=logits.shape) < 0.8) if masked else None
    with using(CHECK):
        out = sample_metal(array, draws(settings, uniform), allowed, edits)
        edited = edit_reference(array, edits)
        assert out.tolist() == sample(edited, draws(settings, uniform), allowed).tolist()
        nothing = Edits()
        assert (
            sample_metal(array, draws(settings, uniform), None, nothing).tolist()
            == sample(array, draws(settings, uniform)).tolist()
        )


def test_edited_drawn_and_scored_in_one_call() -> None:
    logits, settings, uniform = rows(1200, SETTINGS, 1)
    edits, array = random_edits(len(logits), 1200, 2000), mx.array(logits.astype(np.float32))
    allowed = packed(np.random.RandomState(6).uniform(size=logits.shape) < 0.8)
    scored: Sequence[int] = [5, 0, 3]
    with using(CHECK), watching() as launches:
        tokens, scores = draw(array, edits, draws(settings, uniform), allowed, scored, 20)
        alone, nothing = draw(array, None, draws(settings, uniform), allowed, [], 20)
    assert [launch.source.name for launch in launches] == ["sample", "logprobs", "sample"]
    assert nothing is None and alone.shape == tokens.shape
    picked = tokens[mx.array([5, 0, 3])]
    oracle = RowLogprobs(*map(np.array, logprobs_mlx(array, scored, picked, 20)))
    assert scores is not None
    scored_ones = RowLogprobs(*map(np.array, scores))
    assert scored_ones.chosen == pytest.approx(oracle.chosen, abs=2e-5)
    assert scored_ones.ids.tolist() == oracle.ids.tolist()
    hidden, same_scores = draw(array, edits, draws(settings, uniform), allowed, scored, 20)
    ranked = settings[:, 1:].tolist() != [0, 1, 0]
    assert np.array(hidden == tokens)[ranked].all() and same_scores is not None
    assert scored_ones.scores == pytest.approx(np.array(same_scores[2]), abs=2e-5)


def test_the_definition_agrees() -> None:
    """Plain draws are left out: the definition takes them in order of rank."""
    logits, settings, uniform = rows(300, SETTINGS[[0, 2, 3, 4, 5, 6]], 6)
    array = mx.array(logits.astype(np.float32))
    with using(CHECK):
        out = sample(array, draws(settings, uniform))
    assert out.tolist() == sample_reference(array, draws(settings, uniform)).tolist()


@pytest.mark.parametrize(
    "options", [SimulatorOptions("check", True), SimulatorOptions("check", False, "reverse")]
)
def test_contraction_and_order_change_no_draw(options: SimulatorOptions) -> None:
    for settings, size in ((SETTINGS, 3000), (FLAT, 5003)):
        assert (
            check(*rows(size, settings, 1), simulator=Simulator(options)).tolist()
            == check(*rows(size, settings, 1)).tolist()
        )


def test_the_logits_are_read_twice_at_most() -> None:
    """It holds where the cuts leave a few hundred tokens; FLAT's leave thousands."""
    logits, settings, uniform = rows(32768, np.concatenate([SETTINGS, FLAT]), 1)
    for row, times in ((0, 1), (1, 2.01), (2, 2), (3, 2), (5, 2), (7, 7), (8, 6), (9, 8)):
        one = slice(row, row + 1)
        row_logits = logits[one] * (2 if row < 7 else 1)
        assert times_read(row_logits, settings[one], uniform[one]) <= times
    assert times_read(logits[2:3] * 2, settings[2:3], np.zeros(1)) <= 2  # the likeliest is drawn
    assert times_read(logits[:1, :1024], settings[2:3], uniform[2:3]) <= 2  # all are listed


def times_read(logits: np.ndarray, settings: np.ndarray, uniform: np.ndarray) -> float:
    """Return how often float16 logits are read."""
    array = mx.array(logits).astype(mx.float16)
    with using(Simulator(SimulatorOptions(mode="count"))), watching() as launches:
        mx.eval(sample(array, draws(settings, uniform)))
    (report,) = [launch.report for launch in launches]
    assert report is not None
    return report.buffer("logits").loads.moved / array.nbytes


def _drawn(logits: np.ndarray, settings: np.ndarray, uniform: np.ndarray, dtype: mx.Dtype) -> None:
    check(logits, settings, uniform, dtype)


def cases() -> list[Case]:
    """Return a few cases that together notice a fault in sample.metal or rank.h."""
    short = rows(1300, SETTINGS, 1)
    logits, settings, uniform = rows(4500, FLAT, 1, seed=2)
    runs: dict[str, Callable[[], None]] = {
        "short": partial(_drawn, *short, mx.float32),
        "flat": partial(_drawn, np.round(logits), settings, uniform, mx.float32),
        "near": test_near_logits_far_from_zero,
        "edits": partial(test_edits_come_before_the_draw, 700, 900, True),
        "broken": partial(test_nothing_to_draw_from, 600),
        "bytes": test_the_logits_are_read_twice_at_most,
        "extremes": test_extremes,
        "greedy": test_greedy_takes_the_first_of_equals,
        "equal": test_equal_logits,
        "tail": partial(test_a_tail_of_little_weight, 20),
        "long tail": partial(test_a_tail_of_little_weight, 10),
        "spans": partial(_drawn, *rows(512, SETTINGS[:4], 1), mx.float32),
        "plateaus": test_cuts_at_the_end_of_a_bin,
        "between": test_a_goal_between_two_bins,
        "one more": test_one_more_than_are_listed,
        "full bin": test_a_bin_of_as_many_as_are_listed,
        "keys": test_a_bin_of_one_key_more_than_a_histogram_has,
        "last": test_the_last_tokens_of_a_part_of_a_span,
        "allowed": partial(test_only_what_is_allowed_is_drawn, 33, mx.float32),
    }
    return [Case(name, "sample.metal", run) for name, run in runs.items()]
