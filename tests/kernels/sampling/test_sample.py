"""Draws against the distributions of transformers' warpers, and their independence; every path."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.sampling.edit import edits_of
from bessemer.kernels.sampling.sample import SHORT, Draws, sample, sample_reference

from ..tiers import NATIVE, PATHS, use

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "sample.npz")
GRID = 4000


@pytest.fixture(params=PATHS, autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, request.param)


def draws(settings: np.ndarray, uniform: np.ndarray) -> Draws:
    temperature, top_k, top_p, min_p = settings.T
    return Draws(temperature, top_k.astype(np.int32), top_p, min_p, uniform)


def test_a_sweep_of_the_uniform_gives_transformers_distribution() -> None:
    sweep = (np.arange(GRID) + 0.5) / GRID
    for logits, settings, oracle in zip(
        GOLDEN["logits"], GOLDEN["settings"], GOLDEN["chances"], strict=True
    ):
        rows = mx.array(np.repeat(logits[None], GRID, axis=0))
        out = np.array(sample(rows, draws(np.repeat(settings[None], GRID, axis=0), sweep)))
        share = np.bincount(out, minlength=logits.size) / GRID
        assert np.abs(share - oracle).max() <= 1.5 / GRID
        assert not share[oracle == 0].any()


def test_fast_paths_agree_with_the_reference() -> None:
    state = np.random.RandomState(1)
    settings = np.repeat(GOLDEN["settings"], 40, axis=0)
    settings[::7, 0] = 0
    logits = mx.array(state.normal(size=(len(settings), 500)).astype(np.float32) * 2)
    params = draws(settings, state.uniform(size=len(settings)))
    plain = (settings[:, 1] == 0) & (settings[:, 2] == 1) & (settings[:, 3] == 0)
    ranked = ~plain | (settings[:, 0] == 0)  # a plain draw walks the vocabulary in its own order
    out, oracle = np.array(sample(logits, params)), np.array(sample_reference(logits, params))
    assert (out[ranked] == oracle[ranked]).all()


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    state = np.random.RandomState(2)
    settings = GOLDEN["settings"]
    logits = mx.array(state.normal(size=(len(settings), 300)).astype(np.float32))
    uniform = state.uniform(size=len(settings))
    together = np.array(sample(logits, draws(settings, uniform)))
    for row in range(len(settings)):
        alone = sample(
            logits[row : row + 1], draws(settings[row : row + 1], uniform[row : row + 1])
        )
        assert int(alone[0]) == together[row]


def test_the_edges_of_the_uniform_and_of_top_k() -> None:
    logits = mx.array(np.linspace(0, 5, SHORT + 20, dtype=np.float32)[None])
    almost_one = np.nextafter(1.0, 0.0)
    for top_k in (0, 1, SHORT, SHORT + 1, 10_000):
        for uniform in (0.0, almost_one):
            settings = np.array([[1.0, top_k, 1.0, 0.0]])
            token = int(sample(logits, draws(settings, np.array([uniform])))[0])
            lowest = 0 if not top_k else max(0, SHORT + 20 - top_k)
            assert lowest <= token < SHORT + 20


def test_a_vocabulary_of_one_and_infinite_bans() -> None:
    one = sample(mx.zeros((1, 1)), draws(np.array([[1.0, 0, 0.5, 0.0]]), np.array([0.9])))
    assert one.tolist() == [0]
    banned = mx.array([[-np.inf, 1.0, -np.inf, 0.5]])
    for settings in ([1.0, 0, 1.0, 0.0], [1.0, 0, 0.9, 0.0], [1.0, 2, 1.0, 0.0]):
        for uniform in (0.0, 0.3, 0.999999999):
            token = int(sample(banned, draws(np.array([settings]), np.array([uniform])))[0])
            assert token in (1, 3)


def one(logits: list[float] | np.ndarray, uniform: float = 0.5, **settings: float) -> int:
    """One row's token; temperature 1 and no cuts unless said."""
    params = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0} | settings
    row = mx.array(np.array(logits, np.float32)[None])
    return int(sample(row, draws(np.array([list(params.values())]), np.array([uniform])))[0])


def test_greedy_takes_the_first_of_equals() -> None:
    for size in (1, 7, 16, 17, 1023, 1024, 1025, 5000):
        for place in {0, size // 2, size - 1}:
            logits = np.full(size, -3.0)
            logits[place:] = 2.0
            assert one(logits, temperature=0) == place


def test_equal_logits_rank_by_id() -> None:
    for size in (3, 40):
        flat = np.zeros(size)
        assert one(flat, 0.999, top_k=2) == 1
        assert one(flat, 0.0, top_k=2) == 0
        assert one(flat, (size // 2 + 0.5) / size, top_k=size) == size // 2
        assert one(flat, 1 - 1e-9, top_p=1.5 / size) == 1
        assert one(flat, 1 - 1e-5, min_p=1.0) == size - 1
        assert one(flat, 1 - 1e-9, top_p=0.0) == 0


def test_cuts_that_leave_no_doubt() -> None:
    logits = np.log(np.array([0.1, 0.4, 0.05, 0.25, 0.2]))  # ranks: 1, 3, 4, 0, 2
    last = 1 - 1e-9
    assert [one(logits, last, top_p=p) for p in (0.3, 0.6, 0.7, 0.9, 0.99)] == [1, 3, 4, 0, 2]
    assert [one(logits, last, min_p=p) for p in (1, 0.6, 0.45, 0.2, 0.1)] == [1, 3, 4, 0, 2]
    assert [one(logits, last, top_k=k) for k in (1, 2, 3, 4, 5)] == [1, 3, 4, 0, 2]
    assert [one(logits, u, top_k=5) for u in (0.39, 0.41, 0.64, 0.66, 0.86, 0.96)] == [
        *(1, 3, 3, 4, 0, 2)
    ]
    assert one(logits, last, top_k=4, top_p=0.7) == 4  # of what top-k leaves
    assert one(logits, last, temperature=0.1, top_p=0.999) == 3  # of what the temperature makes


def test_extremes_of_the_temperature() -> None:
    logits = [0.0, 5.0, 4.9]
    for cut in ({}, {"top_p": 0.9}, {"top_k": 2}):
        assert one(logits, 0.99, temperature=1e-38, **cut) == 1
        assert one(logits, 0.99, temperature=1e-6, **cut) == 1
    assert [one(logits, u, temperature=1e30) for u in (0.1, 0.5, 0.9)] == [0, 1, 2]


def test_huge_logits() -> None:
    assert one([3e38, -3e38, 3e38], 0.9) == 2
    assert one([3e38, -3e38, 3e38], 0.4, top_p=0.99) == 0
    for temperature in (1.0, 1e-6, 1e-38):
        for cut in ({}, {"top_p": 0.9}, {"top_k": 2}, {"min_p": 0.1}):
            for peak in (2e38, np.inf):
                row = [1.0, 1e38, peak, -1e38, -np.inf]
                assert one(row, 0.99, temperature=temperature, **cut) == 2
            assert one([1.0, np.inf, np.inf], 0.99, temperature=temperature, **cut) == 1


LIKELIEST = ({"top_p": 0}, {"top_p": 1e-30}, {"top_k": 1}, {"top_k": 1, "min_p": 1})
LIKELIEST += ({"top_p": 0, "top_k": 5}, {"top_p": 0, "min_p": 0.5}, {"top_p": 0, "min_p": 1})


@pytest.mark.parametrize("size", [1, 3, 40, 700, 5000])
def test_settings_that_leave_the_likeliest_alone(size: int) -> None:
    """Of equal ones the first, at any temperature; min_p 1 on its own leaves all of them."""
    state = np.random.RandomState(size)
    normal = state.normal(size=size) * 3
    for row in (normal, np.round(normal), np.zeros(size), np.where(normal < 1, -np.inf, 1.5)):
        row[size // 2] = max(row.max(), 0.0)
        for cut in LIKELIEST:
            for temperature, uniform in ((1.0, 0.0), (100.0, 1 - 1e-9), (1e-6, 0.5), (1e30, 0.9)):
                drawn = one(row, uniform, temperature=temperature, **cut)
                assert drawn == int(np.argmax(row)), (cut, temperature)
        assert row[one(row, 0.999, min_p=1)] == row.max()


def test_extremes_of_the_penalty() -> None:
    """What is divided by next to nothing is certain, what is divided by very much is even."""
    logits = mx.array([[1.0, 2.0, 3.0, -1.0]])
    for penalty, oracle in ((1e-37, 0), (1e37, 2)):
        edits = edits_of(*np.array([[0, 0, 0.0, penalty, 0.0], [0, 1, -np.inf, penalty, 0.0]]).T)
        for top_p in (1.0, 0.9):
            params = draws(np.array([[0.01, 0, top_p, 0.0]]), np.array([0.5]))
            assert sample(logits, params, None, edits).tolist() == [oracle]


@pytest.mark.parametrize("settings", [{"temperature": 0}, {}, {"top_p": 0.9}, {"top_k": 2}])
def test_nothing_to_draw_from(settings: dict[str, float]) -> None:
    for broken in ([np.nan] * 3, [1.0, 2.0, np.nan], [np.nan, 1.0, 2.0], [-np.inf] * 3):
        assert one(broken, **settings) == -1
    rows = np.zeros((3, 100), np.float32)
    rows[1, 99] = np.nan
    params = draws(np.array([[1.0, 0, 0.9, 0.0]] * 3), np.array([0.2, 0.2, 0.2]))
    assert (np.array(sample(mx.array(rows), params)) >= 0).tolist() == [True, False, True]


def test_only_what_is_allowed_is_drawn() -> None:
    state = np.random.RandomState(3)
    for size in (5, 32, 33, 500):
        logits = state.normal(size=(60, size)).astype(np.float32)
        allowed = state.uniform(size=logits.shape) < 0.3
        allowed[:, size // 2] = True
        padded = np.zeros((60, (size + 31) // 32 * 32), bool)
        padded[:, :size] = allowed
        bits = np.packbits(padded, axis=1, bitorder="little").view(np.uint32)
        settings = np.repeat(GOLDEN["settings"], 7, axis=0)[:60]
        settings[::5, 0] = 0
        params = draws(settings, state.uniform(size=60))
        out = sample(mx.array(logits), params, bits)
        hidden = mx.array(np.where(allowed, logits, -np.inf).astype(np.float32))
        assert out.tolist() == sample(hidden, params).tolist()
    none = np.zeros((1, 1), np.uint32)
    greedy = draws(np.array([[0, 0, 1, 0.0]]), np.array([0.5]))
    assert sample(mx.zeros((1, 9)), greedy, none).tolist() == [-1]


@pytest.mark.parametrize("scale", [0.0, 0.01, 2.0, 30.0])
@pytest.mark.parametrize("size", [70, 3000])
def test_large_rows_agree_with_the_reference(size: int, scale: float) -> None:
    """Tokens are equal; draws within the rounding of a boundary may fall a few ranks off."""
    state = np.random.RandomState(7)
    settings = np.array(
        [[1.0, 0, 0.9, 0], [0.6, 0, 0.5, 0.01], [1.3, 50, 0.95, 0], [1.0, 2000, 1, 0.05]]
    )
    settings = np.repeat(settings, 15, axis=0)
    logits = (state.normal(size=(len(settings), size)) * scale).round(2).astype(np.float32)
    params = draws(settings, state.uniform(size=len(settings)))
    out = np.array(sample(mx.array(logits), params))
    oracle = np.array(sample_reference(mx.array(logits), params))
    ranks = np.argsort(np.argsort(-logits, axis=1, kind="stable"), axis=1, kind="stable")
    rows = np.arange(len(settings))
    distance = np.abs(ranks[rows, out] - ranks[rows, oracle])
    assert distance.max() <= 3
    assert (distance > 0).sum() <= (1 if size == 70 or scale >= 2 else 15)


def test_frequencies_are_the_chances() -> None:
    """Pearson's statistic over 200 cells stays within 6 deviations of its mean."""
    state = np.random.RandomState(11)
    logits = state.normal(size=200).astype(np.float32)
    rows, uniform = mx.array(np.repeat(logits[None], 20000, axis=0)), state.uniform(size=20000)
    for temperature, top_k, top_p in ((1.0, 0, 1.0), (0.8, 150, 0.95)):
        settings = np.repeat([[temperature, top_k, top_p, 0.0]], 20000, axis=0)
        counts = np.bincount(np.array(sample(rows, draws(settings, uniform))), minlength=200)
        chances = np.exp(logits.astype(np.float64) / temperature)
        order = np.argsort(-chances, kind="stable")
        chances[order[top_k or 200 :]] = 0
        before = np.cumsum(chances[order] / chances.sum()) - chances[order] / chances.sum()
        chances[order[before >= top_p]] = 0
        oracle = chances / chances.sum() * 20000
        cells = oracle > 0
        assert not counts[~cells].any()
        statistic = ((counts[cells] - oracle[cells]) ** 2 / oracle[cells]).sum()
        freedom = cells.sum() - 1
        assert abs(statistic - freedom) < 6 * (2 * freedom) ** 0.5


def test_tiers_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    state = np.random.RandomState(1)
    settings = np.repeat(GOLDEN["settings"], 10, axis=0)
    logits = mx.array(state.normal(size=(len(settings), 2000)).astype(np.float32))
    params = draws(settings, state.uniform(size=len(settings)))
    out = []
    for tier in NATIVE:
        use(monkeypatch, tier)
        out.append(np.array(sample(logits, params)))
    assert all((other != out[0]).sum() <= 1 for other in out)
