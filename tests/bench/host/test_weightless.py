"""A model without weights has the shapes of one with them, and takes no memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from bessemer.bench.host import weightless
from bessemer.bench.models.shapes import shape
from bessemer.bench.models.synthetic import Storage, write


def test_a_hollow_checkpoint_is_read_as_the_real_one_would_be(tmp_path: Path) -> None:
    headers = []
    for name in ("real", "hollow"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, shape("tiny"), Storage(), 0, hollow=name == "hollow")
        arrays: Any = mx.load(str(tmp_path / name / "model.safetensors"))
        headers.append({name: (each.shape, each.dtype) for name, each in arrays.items()})
    assert headers[0] == headers[1]
    sizes = [(tmp_path / name / "model.safetensors").stat() for name in ("real", "hollow")]
    assert sizes[0].st_size == sizes[1].st_size and sizes[1].st_blocks < sizes[0].st_blocks / 10


def test_nothing_is_read_or_computed_while_it_loads(tmp_path: Path) -> None:
    write(tmp_path, shape("tiny"), Storage(), 0, hollow=True)
    before = mx.get_active_memory()

    def build() -> mx.array:
        arrays: Any = mx.load(str(tmp_path / "model.safetensors"))
        joined = mx.concatenate([arrays["model.embed_tokens.weight"]] * 1000)
        mx.eval(joined)
        return joined

    real = mx.load, mx.eval
    joined = weightless.load(build)
    assert joined.shape == (2_560_000, 16) and (mx.load, mx.eval) == real
    assert mx.get_active_memory() - before < 1 << 16


@dataclass(frozen=True, slots=True)
class Part:
    large: mx.array
    small: mx.array


class Whole:
    def __init__(self) -> None:
        self.parts = [Part(mx.ones((100, 100)), mx.ones((3,)) * 2), None]
        self.by_name = {"a": (1, mx.ones((64, 64), mx.int8))}
        self.itself = self


def test_large_arrays_are_one_zero_however_deep_they_are() -> None:
    whole = Whole()
    weightless.hollow_out(whole, __name__.partition(".")[0])
    part = whole.parts[0]
    assert part is not None and part.large.shape == (100, 100) and part.small.tolist() == [2] * 3
    assert not part.large.any() and whole.by_name["a"][0] == 1
    assert whole.by_name["a"][1].dtype == mx.int8 and not whole.by_name["a"][1].any()
