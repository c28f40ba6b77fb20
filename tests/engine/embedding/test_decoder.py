"""Vectors and scores of decoders against sentence-transformers, however inputs are fed."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bessemer.architectures import qwen3
from bessemer.architectures.config import ConfigError
from bessemer.engine.checkpoint.weight_files import CheckpointError
from bessemer.engine.embedding.inputs import InputError
from bessemer.engine.embedding.model import Embedder, Reranker
from bessemer.engine.embedding.sentence_transformers import DescriptionError, describe
from bessemer.engine.model import load
from tests.engine.loading import load_embedder, load_reranker

from ..tiny_decoders import (
    DOCUMENTS,
    EMBEDDERS,
    EMBEDDING_GEMMA,
    NO,
    QWEN_EMBEDDING,
    RECIPE,
    RERANKERS,
    YES,
    Decoder,
    logits,
    oracle,
)
from ..tiny_embedders import QUERY, TEXTS

CLOSE = 1e-4
JUDGED, PLAIN = "next_token_in_a_template_cut", "one_token_of_a_plain_pair"
BOTH_WAYS = (EMBEDDING_GEMMA, "both_ways_with_a_head")


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Embedder]:
    loaded = {
        name: load_embedder(decoder.write(tmp_path_factory.mktemp("embedder")))
        for name, decoder in EMBEDDERS.items()
    }
    return loaded.__getitem__


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Reranker]:
    loaded = {
        name: load_reranker(decoder.write(tmp_path_factory.mktemp("reranker")))
        for name, decoder in RERANKERS.items()
    }
    return loaded.__getitem__


@pytest.mark.parametrize("name", list(EMBEDDERS))
def test_vectors_are_those_of_sentence_transformers(
    name: str, embedder: Callable[[str], Embedder]
) -> None:
    out = embedder(name).embed(TEXTS, prompt=EMBEDDERS[name].prompt)
    assert out.dtype == np.float32 and out.shape == (len(TEXTS), embedder(name).dimension)
    assert np.abs(out - oracle(name)).max() < CLOSE


@pytest.mark.parametrize("name", list(RERANKERS))
def test_scores_are_those_of_sentence_transformers(
    name: str, reranker: Callable[[str], Reranker], tmp_path: Path
) -> None:
    """A document that spells a control token is text, but for whoever wants it as it is there."""
    expected = oracle(name)
    out = np.array(reranker(name).score(QUERY, DOCUMENTS))
    assert list(np.abs(out - expected) < CLOSE) == ["<think>" not in each for each in DOCUMENTS]
    parsing = load_reranker(RERANKERS[name].write(tmp_path), parse_special=True)
    assert np.abs(np.array(parsing.score(QUERY, DOCUMENTS)) - expected).max() < CLOSE


@pytest.mark.parametrize("name", list(EMBEDDERS))
def test_a_text_has_one_vector_whatever_is_beside_it(
    name: str, embedder: Callable[[str], Embedder]
) -> None:
    together = embedder(name).embed(TEXTS)
    alone = np.concatenate([embedder(name).embed([text]) for text in TEXTS])
    assert np.abs(together - alone).max() < 1e-5
    in_parts = replace(embedder(name), batch_tokens=60).embed(TEXTS[::-1])[::-1]
    assert np.abs(in_parts - alone).max() < 1e-5


def test_a_pair_has_one_score_whatever_is_beside_it(reranker: Callable[[str], Reranker]) -> None:
    for name in RERANKERS:
        together = reranker(name).score(QUERY, DOCUMENTS)
        alone = [reranker(name).score(QUERY, [text])[0] for text in DOCUMENTS]
        assert together == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_who_sees_both_ways_does_not_write(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="it embeds texts, and writes none"):
        load(EMBEDDERS[name].write(tmp_path))


def test_layers_that_cannot_see_both_ways(tmp_path: Path) -> None:
    for model in ("mistral_window_wide_head", "lfm2_adjusted_tied", "gemma2_alternating"):
        changed = Decoder(model, EMBEDDERS["hybrid"].files, config={"is_causal": False})
        with pytest.raises(ConfigError, match="is_causal is False, expected true"):
            load_embedder(changed.write(tmp_path / model))


def test_a_head_costs_nothing(tmp_path: Path) -> None:
    decoder = EMBEDDERS["both_ways_with_a_head"]
    arrays = decoder.tiny().tensors
    loaded = load_embedder(decoder.write(tmp_path))
    assert "lm_head.weight" in arrays
    sizes = {name: array.nbytes for name, array in arrays.items() if name != "lm_head.weight"}
    assert loaded.weight_bytes == sum(sizes.values())


def test_what_a_decoder_lacks_is_named(tmp_path: Path) -> None:
    decoder = EMBEDDERS[QWEN_EMBEDDING]
    path = decoder.write(tmp_path)
    loaded = decoder.tiny()
    del loaded.tensors["layers.1.mlp.up_proj.weight"]
    loaded.write(path)
    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.up_proj\.weight"):
        load_embedder(path)


@pytest.mark.parametrize(
    ("name", "pooling"), [("hybrid", "mean"), ("both_ways_with_a_head", "last")]
)
def test_a_pooling_that_is_asked_for(name: str, pooling: Any, tmp_path: Path) -> None:
    bare = replace(EMBEDDERS[name], files={})
    path = bare.write(tmp_path)
    with pytest.raises(DescriptionError, match="if pooling is given as mean or last"):
        load_embedder(path)
    assert np.abs(load_embedder(path, pooling=pooling).embed(TEXTS) - oracle(name)).max() < CLOSE


def test_a_pooling_goes_before_the_files(tmp_path: Path) -> None:
    path = EMBEDDERS[QWEN_EMBEDDING].write(tmp_path)
    mean = load_embedder(path, pooling="mean")
    assert np.abs(mean.embed(TEXTS) - load_embedder(path).embed(TEXTS)).max() > 0.1
    assert mean.dimension == 64
    assert np.linalg.norm(mean.embed(TEXTS), axis=1) == pytest.approx(1)


def test_fewer_dimensions(embedder: Callable[[str], Embedder]) -> None:
    out = embedder(QWEN_EMBEDDING).embed(TEXTS, dimensions=16, prompt="query")
    cut = oracle(QWEN_EMBEDDING)[:, :16]
    assert out == pytest.approx(cut / np.linalg.norm(cut, axis=1, keepdims=True), abs=1e-5)


def test_prompts_of_a_reranker(reranker: Callable[[str], Reranker]) -> None:
    model = reranker(JUDGED)
    with pytest.raises(InputError, match="no prompt named 'other'; its prompts: query"):
        model.read(QUERY, DOCUMENTS, prompt="other")
    default = model.read(QUERY, DOCUMENTS)
    assert default == model.read(QUERY, DOCUMENTS, prompt="query")
    assert default != model.read(QUERY, DOCUMENTS, prompt="")
    text = model.reader.tokenizer.decode(model.read("a", ["b"], prompt="")[0].tokens)
    assert "Given a web search query, retrieve relevant passages that answer the query" in text
    plain = reranker(PLAIN)
    without, with_it = (plain.read("a", ["b"], prompt=name)[0] for name in ("", "query"))
    assert plain.reader.tokenizer.decode(without.tokens) == "ab"
    assert plain.reader.tokenizer.decode(with_it.tokens) == "seek:ab"


def test_the_recipe_is_the_template_of_later_checkpoints(
    reranker: Callable[[str], Reranker],
) -> None:
    loaded, later = reranker(RECIPE), reranker(JUDGED)
    for text in DOCUMENTS[:3]:
        pairs = [each.read(QUERY, [text], prompt="") for each in (loaded, later)]
        assert pairs[0] == pairs[1]


def test_a_recipe_takes_another_instruction() -> None:
    said = (("query", "{a}"), ("document", "b"))
    usual, other = (qwen3.RECIPE(turns) for turns in (said, (("system", "seek"), *said)))
    assert "<Instruct>: seek\n<Query>: {a}\n<Document>: b<|im_end|>" in other
    assert usual.replace(qwen3.RECIPE.instruction, "seek") == other != usual


def test_what_is_too_long_keeps_its_ending(reranker: Callable[[str], Reranker]) -> None:
    model = reranker(JUDGED)
    with pytest.raises(InputError, match="an input has 463 tokens, and the model takes 400"):
        model.read(QUERY, [TEXTS[4]], truncate=False)
    (read,) = model.read(QUERY, [TEXTS[4]])
    text = model.reader.tokenizer.decode(read.tokens, skip_special_tokens=False)
    assert len(read.tokens) == 400
    assert text.endswith("<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n")
    tiny = replace(model, reader=replace(model.reader, longest=3))
    (ending,) = tiny.read(QUERY, [TEXTS[4]])
    assert list(ending.tokens) == list(read.tokens)[-3:]


def test_a_template_may_refuse_a_text(reranker: Callable[[str], Reranker]) -> None:
    def template(turns: Sequence[tuple[str, str]]) -> str:
        raise RuntimeError("not this one")

    model = reranker(JUDGED)
    with pytest.raises(InputError, match="chat template refuses this: not this one"):
        replace(model, reader=replace(model.reader, template=template)).read("a", ["b"])


SCORES = {"true_token_id": YES, "false_token_id": NO}
REFUSED: list[tuple[Decoder, str]] = [
    (Decoder("qwen3_layer_types_tied", logits(SCORES, "flat")), "has no chat template"),
    (
        Decoder(
            "qwen3_layer_types_tied", logits(SCORES, "flat"), template="{{ messages[0].role }}"
        ),
        "leaves out a query or a document",
    ),
    (
        Decoder(
            "qwen3_layer_types_tied", logits(SCORES, "flat"), template="{{ messages[0].content }}"
        ),
        "leaves out a query or a document",
    ),
    (
        Decoder(
            "qwen3_layer_types_tied",
            logits(SCORES, "flat"),
            template="{{ raise_exception('only users speak') }}",
        ),
        "the chat template fails for a pair: only users speak",
    ),
    (
        Decoder("qwen3_layer_types_tied", logits(SCORES, "flat"), template="{{ 'a' * 2**40 }}"),
        "the chat template fails for a pair: a result of",
    ),
    (
        Decoder("qwen3_layer_types_tied", logits(SCORES, "flat"), template="{% if %}"),
        "the chat template is broken",
    ),
    (
        Decoder("qwen3_layer_types_tied", logits({"true_token_id": 272}, None)),
        "scores by the tokens 272 and None, and the model has 272",
    ),
    (
        Decoder(
            "qwen3_layer_types_tied", logits({"true_token_id": 1, "false_token_id": 272}, None)
        ),
        "scores by the tokens 1 and 272, and the model has 272",
    ),
    (Decoder("qwen3_layer_types_tied", logits({"true_token_id": -1}, None)), "true_token_id"),
    (Decoder("qwen3_layer_types_tied", logits({}, None)), "true_token_id"),
    (EMBEDDERS[QWEN_EMBEDDING], "says nothing of how it scores a document for a query"),
    (Decoder("llama_llama3"), "says nothing of how it scores a document for a query"),
    (
        Decoder(
            "qwen2_mha_yarn",
            config={"architectures": ["Qwen2ForSequenceClassification"]},
            labels=3,
        ),
        "scores 3 labels, and a reranker has one",
    ),
]


@pytest.mark.parametrize(("decoder", "message"), REFUSED, ids=[m[:40] for _, m in REFUSED])
def test_rerankers_that_are_refused(decoder: Decoder, message: str, tmp_path: Path) -> None:
    with pytest.raises((DescriptionError, ConfigError)) as caught:
        load_reranker(decoder.write(tmp_path))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_recipe_needs_its_answers(tmp_path: Path) -> None:
    path = RERANKERS[RECIPE].write(tmp_path)
    words = json.loads((path / "tokenizer.json").read_text())
    del words["model"]["vocab"]["no"]
    words["model"]["merges"] = [m for m in words["model"]["merges"] if "".join(m) != "no"]
    (path / "tokenizer.json").write_text(json.dumps(words))
    with pytest.raises(DescriptionError, match="has no tokens 'yes' and 'no' to score by"):
        load_reranker(path)


def test_a_score_needs_its_file(tmp_path: Path) -> None:
    path = RERANKERS[PLAIN].write(tmp_path)
    (path / "1_LogitScore/config.json").unlink()
    with pytest.raises(DescriptionError, match=r"1_LogitScore/config\.json is missing"):
        load_reranker(path)


@pytest.mark.parametrize("name", [*EMBEDDERS, *RERANKERS])
def test_what_they_are_for(name: str, tmp_path: Path) -> None:
    out = describe((EMBEDDERS | RERANKERS)[name].write(tmp_path)).purpose
    assert out == ("embed" if name in EMBEDDERS else "generate" if name == RECIPE else "rerank")
