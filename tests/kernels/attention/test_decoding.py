"""Tests of the trial of kernels that append: steps in a row, with faults that only those show."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import mlx.core as mx
import pytest

from bessemer.kernels import registry as registry_module
from bessemer.kernels.attention import attention_metal, decoding, latent_attention_metal
from bessemer.kernels.attention.decoding import LONG, SHORT, case, is_fused
from bessemer.kernels.attention.pages import Append, Format, Heads, Pages
from bessemer.kernels.metal.device import Gpu, Nowhere, Simulator, using
from bessemer.kernels.metal.occupancy import busy
from bessemer.kernels.registry import Registry, _disagreement
from bessemer.kernels.verdicts import VerdictFile

PLAIN, LATENT = Heads(2, 1, 32, 0.2, 32), Heads(4, 1, 96, 0.1, 64, rope_offset=64)
WAYS = (Append.TAIL, Append.IN_PLACE)


def disagreement(latent: bool, append: Append, before: Sequence[int] = SHORT) -> str:
    arguments = case(
        LATENT if latent else PLAIN, latent, Format.FLOAT32, mx.float32, append, before
    )
    operation = replace(decoding.decoding, metal=replace(METAL, edges=lambda _: ()))
    with using(Simulator()):
        return _disagreement(operation, arguments)


assert decoding.decoding.metal is not None
METAL = decoding.decoding.metal


@pytest.mark.parametrize("append", WAYS)
@pytest.mark.parametrize("latent", [False, True])
def test_steps_agree_with_the_definition(append: Append, latent: bool) -> None:
    assert disagreement(latent, append) == ""


def test_a_long_context_is_split_between_threadgroups() -> None:
    """The kernel that joins the parts is tried too."""
    arguments = case(PLAIN, False, Format.FLOAT32, mx.float32, Append.TAIL, LONG)
    step = arguments[-1][-1].layout
    width, enough = step.tables.shape[1], busy("attention")
    plan = attention_metal._plan(
        attention_metal.TAIL, PLAIN, Format.FLOAT32, mx.float32, 2, width, 16, enough
    )
    assert plan.merge is not None and disagreement(False, Append.TAIL, LONG) == ""


def launches(latent: bool) -> Any:
    return latent_attention_metal if latent else attention_metal


@pytest.mark.parametrize("latent", [False, True])
@pytest.mark.parametrize("append", WAYS)
def test_a_kernel_that_stores_nothing_is_noticed(
    latent: bool, append: Append, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own step is right: only the next one shows it."""
    module = launches(latent)
    launch = module._launch

    def forgetful(mode: int, *arguments: Any) -> Any:
        out = launch(mode, *arguments)
        pages = next(each for each in arguments if isinstance(each, Pages))
        if mode == module.TAIL and latent:
            return out[0], out[1], [mx.zeros_like(part) for part in out[2]]
        if mode == module.TAIL:
            return [out[0], *(mx.zeros_like(part) for part in out[1:])]
        for part in (part for part in pages.parts if part is not None):
            memoryview(part).cast("B")[:] = bytes(part.nbytes)  # type: ignore[arg-type]
        return out

    monkeypatch.setattr(module, "_launch", forgetful)
    assert "it is off by" in disagreement(latent, append)


@pytest.mark.parametrize("latent", [False, True])
def test_a_tail_that_does_not_go_on_is_noticed(
    latent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the first page has been flushed, a kernel that still counts from it reads another."""
    module = launches(latent)
    launch = module._launch

    def stuck(mode: int, *arguments: Any) -> Any:
        *rest, layout = arguments
        if layout.tails is not None:
            layout = replace(layout, tails=mx.minimum(layout.tails, layout.tails[1:] * 0))
        return launch(mode, *rest, layout)

    monkeypatch.setattr(module, "_launch", stuck)
    assert "it is off by" in disagreement(latent, Append.TAIL)


def test_on_a_gpu_only_kernels_that_pass_append(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no kernel runs none is chosen, and each way to append has a trial of its own."""
    said: list[str] = []
    tried = Registry(VerdictFile(None), warn=said.append)
    monkeypatch.setattr(registry_module, "registry", lambda: tried)
    dtype, format = mx.float16, Format.FLOAT16
    monkeypatch.setattr(
        attention_metal, "kernel", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("no GPU"))
    )
    with using(Gpu()):
        assert not any(is_fused(PLAIN, False, format, dtype, append) for append in WAYS)
    ours = [key for key in tried.verdicts if key.startswith("decoding ")]
    assert len(ours) == 2 and sum("decoding" in each for each in said) == 1
    with using(Gpu(trusted=True)):
        assert is_fused(PLAIN, False, format, dtype, Append.TAIL)
    with using(Nowhere()):
        assert not is_fused(PLAIN, False, format, dtype, Append.TAIL)
