"""Vectors and scores against sentence-transformers, of tiny models and of a real one."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.architectures.config import ConfigError
from bessemer.engine.embedding.inputs import Input, InputError
from bessemer.engine.embedding.model import Embedder, Reranker, batches
from bessemer.engine.embedding.pooling import Floats, Normalize, Pipeline, Pooling
from bessemer.engine.embedding.sentence_transformers import DescriptionError
from tests.architectures.tiny_encoders import golden
from tests.engine.loading import load_embedder, load_reranker

from ..minilm import ALIKE, PACKAGE, SENTENCES, directory
from ..tiny_embedders import EMBEDDERS, GOLDEN, QUERY, RERANKERS, TEXTS, TinyModel, oracle

CLOSE = 1e-4
CUT = "mean_normalized_cut"
DENSE = "two_dense_behind_two_modes_prompt_left_out"
Embedders = Callable[[str], Embedder]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedders:
    loaded = {
        name: load_embedder(source.write(tmp_path_factory.mktemp("embedder")))
        for name, source in EMBEDDERS.items()
    }
    return loaded.__getitem__


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Reranker]:
    loaded = {
        name: load_reranker(source.write(tmp_path_factory.mktemp("reranker")))
        for name, source in RERANKERS.items()
    }
    return loaded.__getitem__


@pytest.mark.parametrize("name", list(EMBEDDERS))
def test_vectors_are_those_of_sentence_transformers(name: str, embedder: Embedders) -> None:
    out = embedder(name).embed(TEXTS, prompt=EMBEDDERS[name].prompt)
    assert out.dtype == np.float32 and out.shape == (len(TEXTS), embedder(name).dimension)
    assert np.abs(out - oracle(name)).max() < CLOSE


@pytest.mark.parametrize("name", list(RERANKERS))
def test_scores_are_those_of_sentence_transformers(
    name: str, reranker: Callable[[str], Reranker]
) -> None:
    out = reranker(name).score(QUERY, TEXTS)
    assert np.abs(np.array(out) - oracle(name)).max() < CLOSE
    assert reranker(name).activation == ("sigmoid" if name.startswith("sigmoid") else "raw")


def test_a_sigmoid_of_any_logit(reranker: Callable[[str], Reranker]) -> None:
    logits = [-1e4, -3.0, 0.0, 2.0, 1e4]
    loaded = replace(reranker("sigmoid_by_default"), scorer=lambda batch: logits)
    out = loaded.scores([Input([5], [0])] * len(logits))
    assert out == pytest.approx([0, 1 / (1 + np.exp(3)), 0.5, 1 / (1 + np.exp(-2)), 1])


@pytest.mark.parametrize("name", list(EMBEDDERS))
def test_a_text_has_one_vector_whatever_is_beside_it(name: str, embedder: Embedders) -> None:
    together = embedder(name).embed(TEXTS)
    alone = np.concatenate([embedder(name).embed([text]) for text in TEXTS])
    assert np.abs(together - alone).max() < 1e-5
    in_parts = replace(embedder(name), batch_tokens=20).embed(TEXTS[::-1])[::-1]
    assert np.abs(in_parts - alone).max() < 1e-5


def test_no_inputs(embedder: Embedders, reranker: Callable[[str], Reranker]) -> None:
    assert embedder(CUT).embed([]).shape == (0, 48)
    assert reranker("raw").score(QUERY, []) == []


@pytest.mark.parametrize("dimensions", [1, 10, 24])
def test_fewer_dimensions_of_unit_length(dimensions: int, embedder: Embedders) -> None:
    full = embedder(DENSE).embed(TEXTS)
    out = embedder(DENSE).embed(TEXTS, dimensions=dimensions)
    assert np.linalg.norm(out, axis=1) == pytest.approx(1)
    cut = full[:, :dimensions]
    assert out == pytest.approx(cut / np.linalg.norm(cut, axis=1, keepdims=True), abs=1e-6)


def test_fewer_dimensions_of_vectors_of_any_length(embedder: Embedders) -> None:
    out = embedder("no_modules").embed(TEXTS, dimensions=5)
    assert (out == embedder("no_modules").embed(TEXTS)[:, :5]).all()


@pytest.mark.parametrize("dimensions", [0, -1, 49])
def test_dimensions_that_are_refused(dimensions: int, embedder: Embedders) -> None:
    with pytest.raises(InputError, match=f"dimensions is {dimensions}; the model has 1 to 48"):
        embedder(CUT).embed(TEXTS, dimensions=dimensions)


def test_tokens_are_taken_as_they_are(embedder: Embedders) -> None:
    loaded = embedder("no_modules")
    tokens = [read.tokens for read in loaded.read(TEXTS)]
    assert (loaded.embed(tokens) == loaded.embed(TEXTS)).all()
    assert np.abs(loaded.embed([[0, 9, 2]]) - loaded.embed([[9]])).max() > 0.1
    cut = loaded.embed([[7] * 30])
    assert (cut == loaded.embed([[7] * 20])).all()


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([], "an input is empty"),
        ([3, 90], "token 90 is not one of the model's 90"),
        ([-1], "token -1 is not"),
    ],
)
def test_tokens_that_are_refused(tokens: list[int], message: str, embedder: Embedders) -> None:
    with pytest.raises(InputError, match=message):
        embedder("no_modules").embed([[5], tokens])


def test_what_is_too_long_is_cut_or_refused(
    embedder: Embedders, reranker: Callable[[str], Reranker]
) -> None:
    loaded, long = embedder(CUT), TEXTS[4]
    (read,) = loaded.read([long])
    assert len(read.tokens) == 12 and read.tokens[-1] == 2  # [SEP] stays
    with pytest.raises(InputError, match="an input has 53 tokens, and the model takes 12"):
        loaded.read([long], truncate=False)
    with pytest.raises(InputError, match="an input has 13 tokens, and the model takes 12"):
        loaded.read([[7] * 13], truncate=False)
    assert loaded.embed(["fish"], truncate=False).shape == (1, 48)
    with pytest.raises(InputError, match="tokens, and the model takes 16"):
        reranker("raw").score(QUERY, ["fish", long], truncate=False)


def test_prompts_by_name(embedder: Embedders) -> None:
    loaded = embedder(CUT)
    before = loaded.embed(["find : the cat"])
    assert (loaded.embed([" cat"], prompt="query") == before).all()
    assert np.abs(loaded.embed(["cat"]) - before).max() > 0.01
    plain = replace(loaded, reader=replace(loaded.reader, default_prompt="find : the"))
    assert (plain.embed([" cat"]) == before).all()
    assert (plain.embed(["cat"], prompt="") == loaded.embed(["cat"])).all()
    with pytest.raises(InputError, match="no prompt named 'passage'; its prompts: query"):
        loaded.embed(["cat"], prompt="passage")


def test_a_prompt_longer_than_the_model_leaves_the_last_token(embedder: Embedders) -> None:
    reader = replace(embedder(DENSE).reader, prompts={"long": TEXTS[4] * 4})
    (read,) = replace(embedder(DENSE), reader=reader).read(["cat"], prompt="long")
    assert read.prompted >= len(read.tokens) - 1
    hidden = np.arange(8, dtype=np.float32).reshape(4, 2)
    assert (Pooling(("mean",), False)(hidden, 99) == hidden[-1]).all()


def test_a_backbone_of_any_kind(embedder: Embedders) -> None:
    """Any hidden states of tokens do, of which pooling takes the last."""

    class Numbers:
        width = 3

        def __call__(self, batch: Sequence[Input]) -> list[Floats]:
            return [np.array([[t, 1, 2] for t in p.tokens], np.float32) for p in batch]

    pipeline = Pipeline(Pooling(("lasttoken",), True), (Normalize(),), 3)
    loaded = Embedder(Numbers(), embedder("no_modules").reader, pipeline, 0)
    out = loaded.embed([[7, 2], [4], [9, 9, 5]])
    assert out == pytest.approx(
        np.array([[2, 1, 2], [4, 1, 2], [5, 1, 2]]) / np.sqrt([[9], [21], [30]])
    )


@given(st.lists(st.integers(1, 50)), st.integers(1, 100))
def test_batches_hold_everything_once_and_not_too_much(
    lengths: list[int], batch_tokens: int
) -> None:
    out = batches(lengths, batch_tokens)
    assert sorted(index for batch in out for index in batch) == list(range(len(lengths)))
    ordered = [lengths[index] for batch in out for index in batch]
    assert ordered == sorted(lengths)
    totals = [sum(lengths[index] for index in batch) for batch in out]
    assert all(t <= batch_tokens or len(b) == 1 for t, b in zip(totals, out, strict=True))
    following = zip(totals, out[1:], strict=False)
    assert all(total + lengths[batch[0]] > batch_tokens for total, batch in following)


def test_a_classifier_of_three_is_no_reranker(tmp_path: Path) -> None:
    path = TinyModel("xlm_roberta_classifier").write(tmp_path)
    with pytest.raises(ConfigError, match="scores 3 labels, and a reranker has one"):
        load_reranker(path)


def test_an_encoder_alone_is_no_reranker(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="scores 0 labels"):
        load_reranker(TinyModel("bert").write(tmp_path))


def test_an_unknown_activation(tmp_path: Path) -> None:
    config = {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.GELU"}}
    path = TinyModel("bert_reranker", config=config).write(tmp_path)
    with pytest.raises(
        DescriptionError, match=r"activation is 'torch\.nn\.modules\.activation\.GELU'"
    ):
        load_reranker(path)


def test_weight_bytes(tmp_path: Path) -> None:
    arrays = golden("bert_reranker").tensors().values()
    loaded = load_reranker(TinyModel("bert_reranker").write(tmp_path))
    assert loaded.weight_bytes == sum(array.nbytes for array in arrays)


@pytest.fixture(scope="module")
def minilm() -> Embedder:
    path = directory()
    assert path is not None, f"{PACKAGE} is not installed; `make test` does it"
    return load_embedder(path)


def test_minilm_vectors_are_those_of_sentence_transformers(minilm: Embedder) -> None:
    with np.load(GOLDEN / "minilm.npz") as file:
        vectors = file["vectors"]
    assert np.abs(minilm.embed(SENTENCES) - vectors).max() < CLOSE
    assert minilm.dimension == 384 and minilm.reader.longest == 256


def test_minilm_knows_what_is_alike(minilm: Embedder) -> None:
    out = minilm.embed(SENTENCES[:6])
    similar = out @ out.T
    assert np.diag(similar) == pytest.approx(1, abs=1e-5)
    pairs = {pair: similar[pair] for pair in ALIKE}
    others = [similar[i, j] for i in range(6) for j in range(i) if (j, i) not in pairs]
    assert min(pairs.values()) > 0.4 > 0.2 > max(others)
