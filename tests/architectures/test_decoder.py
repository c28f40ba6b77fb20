"""Every family against its reference's logits, however the tokens are fed."""

from functools import cache
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from bessemer.engine.kv_cache import allocate
from bessemer.engine.model import Model, load
from bessemer.kernels.pages import PAGE, Format, Layout, Prefill

from .steps import Session, crowd, prefill, token_by_token
from .tiny import CONFIGS, QUANTIZED, Floats, Tiny, golden_rows, prompts, quantize, tensors

GOLDEN = Path(__file__).parent / "golden"
TOLERANCE = 2e-4
NAMES = [*CONFIGS, *QUANTIZED]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    root = tmp_path_factory.mktemp("models")
    out = {}
    for name, config in CONFIGS.items():
        out[name] = load(Tiny(config, tensors(config)).write(root / name))
    for name, config in QUANTIZED.items():
        out[name] = load(
            Tiny(config, quantize(config, tensors(config))).write(root / name), exact=True
        )
    return out


@cache
def golden(name: str) -> Floats:
    with np.load(GOLDEN / f"{name}.npz") as file:
        return file["logits"]


def difference(name: str, logits: list[Floats]) -> float:
    rows = golden_rows()
    pairs = [
        (golden(name)[row], logits[prompt][position])
        for row, (prompt, position) in enumerate(rows)
        if prompt < len(logits)
    ]
    return max(float(np.abs(a - b).max()) for a, b in pairs)


@pytest.mark.parametrize("name", NAMES)
def test_logits_equal_the_reference(name: str, models: dict[str, Model]) -> None:
    """And are the same bits however a prompt is fed, so that one comparison stands for all."""
    model, texts = models[name], prompts()
    assert golden(name).std() >= 1
    alone = [prefill(model, prompt) for prompt in texts]
    assert difference(name, alone) <= TOLERANCE
    for chunk in (7, 33, 64):
        assert (prefill(model, texts[0], chunk) == alone[0]).all()
    assert (token_by_token(model, texts[0]) == alone[0]).all()
    together = crowd(model, texts, chunk=19)
    assert all((a == b).all() for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("name", ["mistral_window_wide_head", "quantized_llama"])
def test_a_row_among_64_is_the_row_alone(name: str, models: dict[str, Model]) -> None:
    session, text = Session(models[name], pages=256), prompts()[0]
    expected = prefill(models[name], text)
    for i in range(64):
        session.step({}, {i: text[: i + 5]})
    found = session.step({i: text[i + 5] for i in range(64)}, {})
    assert all((found[i][0] == expected[i + 5]).all() for i in range(64))


def step_of(model: Model, tokens: list[int]) -> tuple[mx.array, Layout]:
    """A prompt of its own on pages 1 and on."""
    count = len(tokens)
    table = mx.array([list(range(1, 2 + (count - 1) // PAGE))], mx.int32)
    positions, slots = (mx.array(np.arange(count, dtype=np.int32) + n) for n in (0, PAGE))
    owners = mx.array(np.zeros(count, np.int32))
    layout = Layout(positions, slots, owners, table, 0, (Prefill(0, count, count),))
    return mx.array(tokens, mx.int32), layout


@pytest.mark.parametrize("name", ["llama_gqa_llama3", "quantized_llama"])
def test_only_the_wanted_rows_have_logits(name: str, models: dict[str, Model]) -> None:
    model, text = models[name], prompts()[0]
    tokens, layout = step_of(model, text)
    cache = Session(model).cache
    expected = prefill(model, text)
    for rows in ([74], [3, 40], []):
        wanted = mx.array(rows, mx.int32)
        logits, written = model.decoder(tokens, layout, cache, wanted)
        mx.eval(logits, [pages.keys for pages in written])
        assert logits.shape == (len(rows), 80)
        assert logits.dtype == mx.float32
        assert (np.array(logits) == expected[rows]).all()


def test_a_step_copies_no_pool(models: dict[str, Model]) -> None:
    model = models["llama_gqa_llama3"]
    config = model.config
    cache = allocate(
        config.layers, 8000, config.kv_heads, config.head_dim, config.head_dim, Format.FLOAT32
    )
    tokens, layout = step_of(model, prompts()[0])
    for _ in range(3):
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        logits, cache = model.decoder(tokens, layout, cache, mx.array([0]))
        mx.eval(logits, [array for pages in cache for array in pages.arrays])
        assert mx.get_peak_memory() - before < cache[0].keys.nbytes / 8
