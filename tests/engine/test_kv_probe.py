"""Whether a KV cache of few bits is one that a model bears: the guide does, SmolLM2 does not."""

from typing import Literal

import pytest

from bessemer.engine.kv_probe import SUFFERS, TEXT, TOKENS, kv_divergence
from bessemer.engine.model import load
from bessemer.engine.serving import load as load_to_serve
from bessemer.engine.settings import Settings
from bessemer.engine.text.loading import load_tokenizer
from bessemer.http.gguf_models import DEFAULT, packaged
from bessemer.http.hub import BUILT_IN
from bessemer.kernels.attention.pages import Format


def test_fewer_bits_move_more_and_the_same_ones_nothing() -> None:
    decoder, tokenizer = load(BUILT_IN).decoder, load_tokenizer(BUILT_IN)
    moved = [
        kv_divergence(decoder, tokenizer, format, Format.FLOAT32)
        for format in (Format.FLOAT32, Format.FLOAT16, Format.INT8, Format.INT4)
    ]
    assert moved[0] == 0 and moved == sorted(moved) and moved[3] > 2 * moved[2]


@pytest.mark.parametrize(("model", "bits", "warned"), [("guide", 4, 0), (DEFAULT, 4, 1)])
def test_who_suffers_is_warned_of(
    model: str, bits: Literal[4], warned: int, capfd: pytest.CaptureFixture[str]
) -> None:
    path = BUILT_IN if model == "guide" else packaged(model)
    assert path is not None
    load_to_serve(path, Settings(kv_bits=bits, kv_cache=40 * 10**6), 10**9)
    assert capfd.readouterr().err.count("warning: ") == warned


def test_the_text_is_long_enough() -> None:
    path = packaged(DEFAULT)
    assert path is not None and SUFFERS == 0.05
    assert len(load_tokenizer(path).encode(TEXT, special=False)) >= TOKENS
