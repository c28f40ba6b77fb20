"""Pooling and the modules after it, by the formulas of sentence-transformers' documentation."""

import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from bessemer.engine.checkpoint.weight_files import CheckpointError
from bessemer.engine.embedding.pooling import (
    FUNCTIONS,
    DenseModule,
    Floats,
    Normalize,
    Pipeline,
    Pooling,
    load_pipeline,
)
from bessemer.engine.embedding.sentence_transformers import DescriptionError, Mode, describe

from ..tiny_embedders import NORMALIZE, POOLED, POOLING, TinyModel, modules, with_dense

HIDDEN = np.array([[1, 8], [4, -2], [7, 3]], np.float32)
TANH = FUNCTIONS["torch.nn.modules.activation.Tanh"]


@pytest.mark.parametrize(
    ("mode", "vector", "without_prompt"),
    [
        ("cls", [1, 8], [4, -2]),
        ("max", [7, 8], [7, 3]),
        ("mean", [4, 3], [5.5, 0.5]),
        ("mean_sqrt_len_tokens", [12 / math.sqrt(3), 9 / math.sqrt(3)], [11 / 2**0.5, 1 / 2**0.5]),
        ("weightedmean", [(1 + 8 + 21) / 6, (8 - 4 + 9) / 6], [(8 + 21) / 5, (-4 + 9) / 5]),
        ("lasttoken", [7, 3], [7, 3]),
    ],
)
def test_modes(mode: Mode, vector: list[float], without_prompt: list[float]) -> None:
    assert Pooling((mode,), True)(HIDDEN, 1) == pytest.approx(vector)
    assert Pooling((mode,), False)(HIDDEN, 1) == pytest.approx(without_prompt)


def test_modes_follow_one_another() -> None:
    both = Pooling(("max", "cls"), True)
    assert both(HIDDEN, 0).tolist() == [7, 8, 1, 8] and both.width(2) == 4


def test_an_input_of_nothing_but_a_prompt_keeps_its_last_token() -> None:
    assert Pooling(("mean",), False)(HIDDEN, 9).tolist() == [7, 3]


def test_lengths_are_1_and_nothing_is_divided_by_0() -> None:
    out = Normalize()(np.array([[3, 4], [0, 0], [-5, 0]], np.float32))
    assert out == pytest.approx(np.array([[0.6, 0.8], [0, 0], [-1, 0]]))


def dense(bias: Floats | None = None) -> DenseModule:
    return DenseModule(np.array([[1, 2], [0, -1], [1, 1]], np.float32), bias, TANH)


def test_a_dense_module_is_its_formula() -> None:
    out = dense(np.array([0, 0.5, -2], np.float32))(np.array([[0.25, 0.5]], np.float32))
    assert out == pytest.approx(np.array([[math.tanh(1.25), math.tanh(0), math.tanh(-1.25)]]))
    assert dense()(np.array([[0.25, 0.5]], np.float32))[0, 1] == pytest.approx(math.tanh(-0.5))


def test_a_pipeline_goes_through_its_modules_in_order() -> None:
    pipeline = Pipeline(Pooling(("lasttoken",), True), (dense(), Normalize()), 2)
    assert (pipeline.dimension, pipeline.normalizes) == (3, True)
    hidden = [HIDDEN, HIDDEN[:2] / 10]
    vectors = pipeline(hidden, [0, 0])
    for vector, (x, y) in zip(vectors, ((7, 3), (0.4, -0.2)), strict=True):
        plain = np.tanh([x + 2 * y, -y, x + y])
        assert vector == pytest.approx(plain / math.hypot(*plain), abs=1e-6)


def test_widths_that_do_not_fit() -> None:
    with pytest.raises(DescriptionError, match="takes 2 numbers, and it is given 4"):
        _ = Pipeline(Pooling(("cls", "max"), True), (dense(),), 2).dimension


def load(path: Path) -> Pipeline:
    return load_pipeline(describe(path), 48)


def test_dense_weights_of_another_shape(tmp_path: Path) -> None:
    path = TinyModel("bert", with_dense()).write(tmp_path)
    result = load(path)
    assert result.dimension == 4
    save_file({"linear.weight": np.ones((4, 47), np.float32)}, path / "2_Dense/model.safetensors")
    with pytest.raises(CheckpointError, match=r"\(4, 47\).*where its config implies"):
        load(path)
    (path / "2_Dense/model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        load(path)
    (path / "2_Dense/config.json").unlink()
    with pytest.raises(DescriptionError, match="is missing"):
        load(path)


def test_dropout_is_nothing_here(tmp_path: Path) -> None:
    dropout = "sentence_transformers.models.Dropout"
    listed = modules(("1_Pooling", POOLING), ("2_Dropout", dropout), ("3_Normalize", NORMALIZE))
    files = POOLED | {"modules.json": listed, "1_Pooling/config.json": {"pooling_mode": "max"}}
    pipeline = load(TinyModel("bert", files).write(tmp_path))
    assert (pipeline.pooling, pipeline.after) == (Pooling(("max",), True), (Normalize(),))


def test_a_module_that_is_not_built(tmp_path: Path) -> None:
    listed = modules(("1_Pooling", POOLING), ("2", "x.LSTM"))
    files = POOLED | {"modules.json": listed, "1_Pooling/config.json": {"pooling_mode": "max"}}
    with pytest.raises(DescriptionError, match="LSTM is not built; Pooling, Dense, Normalize"):
        load(TinyModel("bert", files).write(tmp_path))
