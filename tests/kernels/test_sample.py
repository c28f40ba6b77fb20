"""Draws against the distributions of transformers' warpers, and their independence."""

from pathlib import Path

import mlx.core as mx
import numpy as np

from bessemer.kernels.sample import SHORT, Draws, sample, sample_reference

GOLDEN = np.load(Path(__file__).parent / "golden" / "sample.npz")
GRID = 4000


def draws(settings: np.ndarray, uniform: np.ndarray) -> Draws:
    temperature, top_k, top_p, min_p = settings.T
    return Draws(temperature, top_k.astype(np.int32), top_p, min_p, uniform)


def test_a_sweep_of_the_uniform_gives_transformers_distribution() -> None:
    sweep = (np.arange(GRID) + 0.5) / GRID
    for logits, settings, expected in zip(
        GOLDEN["logits"], GOLDEN["settings"], GOLDEN["chances"], strict=True
    ):
        rows = mx.array(np.repeat(logits[None], GRID, axis=0))
        found = np.array(sample(rows, draws(np.repeat(settings[None], GRID, axis=0), sweep)))
        share = np.bincount(found, minlength=logits.size) / GRID
        assert np.abs(share - expected).max() <= 1.5 / GRID
        assert not share[expected == 0].any()


def test_fast_paths_agree_with_the_reference() -> None:
    state = np.random.RandomState(1)
    settings = np.repeat(GOLDEN["settings"], 40, axis=0)
    settings[::7, 0] = 0
    logits = mx.array(state.normal(size=(len(settings), 500)).astype(np.float32) * 2)
    wanted = draws(settings, state.uniform(size=len(settings)))
    plain = (settings[:, 1] == 0) & (settings[:, 2] == 1) & (settings[:, 3] == 0)
    ranked = ~plain | (settings[:, 0] == 0)  # a plain draw walks the vocabulary in its own order
    found, expected = np.array(sample(logits, wanted)), np.array(sample_reference(logits, wanted))
    assert (found[ranked] == expected[ranked]).all()


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
            least = 0 if not top_k else max(0, SHORT + 20 - top_k)
            assert least <= token < SHORT + 20


def test_a_vocabulary_of_one_and_infinite_bans() -> None:
    one = sample(mx.zeros((1, 1)), draws(np.array([[1.0, 0, 0.5, 0.0]]), np.array([0.9])))
    assert one.tolist() == [0]
    banned = mx.array([[-np.inf, 1.0, -np.inf, 0.5]])
    for settings in ([1.0, 0, 1.0, 0.0], [1.0, 0, 0.9, 0.0], [1.0, 2, 1.0, 0.0]):
        for uniform in (0.0, 0.3, 0.999999999):
            token = int(sample(banned, draws(np.array([settings]), np.array([uniform])))[0])
            assert token in (1, 3)
