"""Tests of kernels/instances.py: what is listed is what is launched, and MLX's own text."""

from dataclasses import replace

import mlx.core as mx

from bessemer.kernels.instances import instances, listing
from bessemer.kernels.metal.device import Nowhere, device, using
from bessemer.kernels.metal.library import kernel, scalar
from bessemer.kernels.norm.rms_norm import rms_norm

from .forms import Launches, unlisted


def test_a_launch_is_listed_and_not_run() -> None:
    x = mx.full((2, 32), float("nan"), mx.float16)
    with using(Nowhere()):
        with listing() as found:
            y = rms_norm(x, mx.ones((32,), mx.float16), 1e-5)
        assert device() is None
    assert y.shape == x.shape and y.dtype == x.dtype and not mx.any(y).item()
    (instance,) = found
    assert (instance.kernel, instance.threads, instance.in_place) == ("rms_norm", 32, ())
    assert instance.template[:3] == (("T", "float16"), ("G", "float16"), ("COUNT", 4))
    assert instance.inputs[0] == ("float16", False, False)
    assert ("float32", True, True) in instance.inputs and instance.outputs == ("float16",)
    assert instance.function in instance.text and "[[kernel]] void" in instance.text
    assert instance.file.startswith("rms_norm-") and instance.file.endswith(".metal")


def test_the_list_is_the_same_each_time_and_has_each_once() -> None:
    listed = instances(["rms_norm", "sample"])
    assert listed == instances(["rms_norm", "sample"]) and len(set(listed)) == len(listed)
    assert {each.kernel for each in listed} == {"rms_norm", "sample"}


def test_different_texts_have_different_files() -> None:
    texts = {each.text: each.file for each in instances()}
    assert len(set(texts.values())) == len(texts) > 267


def test_a_form_that_is_not_listed_is_noticed() -> None:
    """The test that conftest.py makes after each test that launches."""
    instance = instances(["rms_norm"])[0]
    assert unlisted(instance) == []
    other = replace(instance, template=(*instance.template[:2], ("COUNT", 3)))
    assert [("COUNT", 3), ("T", dict(instance.template)["T"])] in unlisted(other)
    launches = Launches()
    template = {"T": mx.float32, "FORMAT": 4, "GROUP": 64, "TILES": 3}
    names = ("COLUMNS", "ACTIVATION", "BIAS", "RESIDUAL", "NORM")
    bound = kernel("linear_rows").bound(
        [((2, 6), mx.float32)], (256, 1, 1), (256, 1, 1), **template, **dict.fromkeys(names, 0)
    )
    inputs = [mx.zeros((8,))] * 7 + [scalar(0.0)] * 5
    launches.note(bound, inputs)
    (said,) = launches.wrong()
    assert "('TILES', 3)" in said and not launches.wrong()
