"""Tests of every family: its logits are the reference's, however the tokens are fed."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bessemer.engine.checkpoint.weights import Reading
from bessemer.engine.model import Model, load

from .steps import crowd, prefill, token_by_token
from .tiny import Case, Floats, Shapes, Tiny, golden_rows, prompts, tensors

GOLDEN = Path(__file__).parent / "golden"
TOLERANCE = 2e-4
MOVED = 1e-2


@dataclass(frozen=True)
class Golden:
    """The logits that the reference computed, with the config and the tensors it had."""

    logits: Floats
    config: dict[str, Any]
    shapes: Shapes

    @classmethod
    @cache
    def read(cls, name: str) -> "Golden":
        with np.load(GOLDEN / f"{name}.npz") as file:
            about = json.loads(str(file["about"]))
            shapes = {tensor: (dtype, tuple(shape)) for tensor, dtype, shape in about["tensors"]}
            return cls(file["logits"], about["config"], shapes)

    def write(self, name: str) -> None:
        about = {
            "config": self.config,
            "tensors": [(tensor, *rest) for tensor, rest in self.shapes.items()],
        }
        GOLDEN.mkdir(exist_ok=True)
        np.savez_compressed(
            GOLDEN / f"{name}.npz", logits=self.logits, about=np.array(json.dumps(about))
        )


def differences(name: str, logits: Mapping[int, Floats]) -> list[float]:
    """The largest of each row of the golden file that was computed; logits by prompt."""
    golden = Golden.read(name).logits
    return [
        float(np.abs(reference - logits[prompt][position]).max())
        for reference, (prompt, position) in zip(golden, golden_rows(), strict=True)
        if prompt in logits and position < len(logits[prompt])
    ]


def difference(name: str, logits: list[Floats]) -> float:
    """The largest of all rows of the golden file that are of these prompts, the first ones."""
    errors = differences(name, dict(enumerate(logits)))
    assert len(errors) == sum(prompt < len(logits) for prompt, _ in golden_rows())
    return max(errors)


def tiny(name: str, changes: Mapping[str, Any] | None = None) -> Tiny:
    """The model of a golden file; `changes` are of its config."""
    golden = Golden.read(name)
    config = golden.config
    for field, value in (changes or {}).items():
        config = changed(config, field, value)
    return Tiny(config, tensors(golden.shapes, golden.config))


def changed(config: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    name, _, inner = field.partition(".")
    return config | {name: changed(config[name], inner, value) if inner else value}


def loaded(name: str, changes: Mapping[str, Any] | None = None) -> Model:
    with tempfile.TemporaryDirectory() as directory:
        return load(tiny(name, changes).write(Path(directory)), Reading(exact=True))


@cache
def model(name: str) -> Model:
    return loaded(name)


@cache
def alone(name: str) -> tuple[Floats, ...]:
    """Logits of all prompts, each by itself in one piece."""
    return tuple(prefill(model(name), prompt) for prompt in prompts())


class Parity:
    """`family` is the file's name, `cases` its tiny models; conftest.py spreads the tests."""

    family: ClassVar[str]
    cases: ClassVar[Mapping[str, Case]]

    def test_the_golden_file_is_of_this_config(self, case: str) -> None:
        golden = Golden.read(f"{self.family}_{case}")
        assert golden.config == self.cases[case].config
        assert golden.logits.std() >= 1

    def test_logits_equal_the_reference(self, case: str) -> None:
        name = f"{self.family}_{case}"
        assert difference(name, list(alone(name))) <= TOLERANCE

    def test_chunks_and_single_tokens_give_the_same_bits(self, case: str) -> None:
        name = f"{self.family}_{case}"
        text, reference = prompts()[0], alone(name)[0]
        for chunk in (7, 33, 64):
            assert (prefill(model(name), text, chunk) == reference).all()
        assert (token_by_token(model(name), text) == reference).all()

    def test_a_crowd_gives_the_same_bits(self, case: str) -> None:
        name = f"{self.family}_{case}"
        together = crowd(model(name), prompts(), chunk=19)
        assert all((a == b).all() for a, b in zip(alone(name), together, strict=True))

    def test_a_field_of_the_config_matters(self, case: str, field: str) -> None:
        name = f"{self.family}_{case}"
        other = loaded(name, {field: self.cases[case].matters[field]})
        moved = np.abs(prefill(other, prompts()[0]) - alone(name)[0]).max()
        assert moved > MOVED
