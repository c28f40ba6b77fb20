"""Hidden states of inputs through a decoder: the same ones, however they are batched."""

from collections.abc import Callable

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.architectures.config import ModelConfig
from bessemer.architectures.step import Cache
from bessemer.engine.cache_sizes import CacheSizes
from bessemer.engine.embedding.decoder import DecoderBackbone
from bessemer.engine.embedding.hidden_states import SEQUENCES, Causal, forwards
from bessemer.engine.embedding.model import Embedder
from bessemer.engine.kv_cache import allocate
from bessemer.kernels.attention.pages import PAGE, Format
from tests.engine.loading import load_embedder

from ..tiny_decoders import EMBEDDERS, EMBEDDING_GEMMA

BOTH_WAYS = (EMBEDDING_GEMMA, "both_ways_with_a_head")


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Embedder]:
    loaded = {
        name: load_embedder(decoder.write(tmp_path_factory.mktemp("embedder")))
        for name, decoder in EMBEDDERS.items()
    }
    return loaded.__getitem__


def test_caches_are_made_anew_for_a_longer_input_alone(
    embedder: Callable[[str], Embedder], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[int, ...]] = []

    def counted(config: ModelConfig, sizes: CacheSizes, format: Format) -> list[Cache]:
        made.append(sizes.pages)
        return allocate(config, sizes, format)

    monkeypatch.setattr("bessemer.engine.embedding.hidden_states.allocate", counted)
    loaded = embedder("hybrid").backbone
    assert isinstance(loaded, DecoderBackbone)
    states = Causal(loaded.decoder, 2 * PAGE)
    for pages in (1, 2, 3, 3, 1):
        states([[5] * PAGE * pages])
    assert made == [(2,), (3,)]


@pytest.mark.parametrize("batch_tokens", [32, 40, 200])
@pytest.mark.parametrize(
    "name", [name for name in EMBEDDERS if name not in (*BOTH_WAYS, "in_a_chat_template")]
)
def test_a_long_input_goes_in_parts(
    name: str, batch_tokens: int, embedder: Callable[[str], Embedder]
) -> None:
    loaded = embedder(name).backbone
    assert isinstance(loaded, DecoderBackbone)
    random = np.random.RandomState(5)
    inputs = [random.randint(0, 272, length).tolist() for length in (7, 250, 33, 1, 201, 32)]
    full, parts = Causal(loaded.decoder, 4096), Causal(loaded.decoder, batch_tokens)
    for _ in range(2):  # the second time over what the first has left in the caches
        pairs = list(zip(parts(inputs), full(inputs), strict=True))
        assert [a.shape for a, _ in pairs] == [(len(each), loaded.width) for each in inputs]
        assert all(mx.allclose(a, b, atol=1e-4) for a, b in pairs)
        inputs = inputs[::-1]
    grown = Causal(loaded.decoder, batch_tokens)
    for each in ([5], inputs[1], [5, 6, 7]):  # caches grow, and are used again
        assert mx.allclose(grown([each])[0], full([each])[0], atol=1e-4)


def test_more_sequences_than_states(embedder: Callable[[str], Embedder]) -> None:
    loaded = embedder("hybrid")
    many = [[5 + i] * (1 + i % 3) for i in range(SEQUENCES + 5)]
    alone = np.concatenate([loaded.embed([each]) for each in many])
    assert np.abs(loaded.embed(many) - alone).max() < 1e-5


@pytest.mark.parametrize("name", list(EMBEDDERS))
def test_inputs_in_any_order(name: str, embedder: Callable[[str], Embedder]) -> None:
    loaded = embedder(name).backbone
    assert isinstance(loaded, DecoderBackbone)
    inputs = [list(range(9, 9 + length)) for length in (40, 3, 70, 1, 3)]
    alone = [loaded.states([each])[0] for each in inputs]
    pairs = zip(loaded.states(inputs), alone, strict=True)
    assert all(mx.allclose(a, b, atol=1e-4) for a, b in pairs)


@given(st.lists(st.integers(1, 200)), st.integers(1, 100), st.integers(1, 5))
def test_forwards_hold_everything_once_and_not_too_much(
    lengths: list[int], batch_tokens: int, sequences: int
) -> None:
    out = forwards(lengths, batch_tokens, sequences)
    parts: list[list[tuple[int, int]]] = [[] for _ in lengths]
    for pieces in out:
        assert 1 <= len(pieces) <= sequences
        if len(pieces) > 1:
            pages = sum(-(-(piece.stop - piece.start) // PAGE) for piece in pieces)
            assert pages <= -(-batch_tokens // PAGE)
        for piece in pieces:
            assert piece.stop - piece.start <= -(-batch_tokens // PAGE) * PAGE
            parts[piece.input].append((piece.start, piece.stop))
    for length, each in zip(lengths, parts, strict=True):
        starts, stops = zip(*each, strict=True)
        assert starts == (0, *stops[:-1]) and stops[-1] == length
        assert (len(each) == 1) == (length <= -(-batch_tokens // PAGE) * PAGE)


@pytest.mark.parametrize("name", list(EMBEDDERS))
def test_who_sees_what_comes_later(name: str, embedder: Callable[[str], Embedder]) -> None:
    loaded = embedder(name).backbone
    assert isinstance(loaded, DecoderBackbone)
    before, after = (loaded.states([[5, 6, 7, last]])[0][0] for last in (8, 9))
    assert (before == after).all().item() == (name not in BOTH_WAYS)
