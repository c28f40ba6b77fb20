"""Real weights in a GGUF file: SmolLM2 answers as transformers does, in float32."""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from bessemer.engine import serving
from bessemer.engine.checkpoint import weights
from bessemer.engine.gguf.tokenizer import gguf_tokenizer
from bessemer.engine.request import Embedded, Request, Sampling, Token
from bessemer.engine.serving import LoadedModel, load
from bessemer.engine.settings import Settings
from bessemer.engine.text.loading import load_tokenizer
from bessemer.http.gguf_models import packaged
from bessemer.kernels.metal.device import Simulator, using
from tests.engine import golden_vectors

GOLDEN = Path(__file__).parent / "golden" / "smollm2.json"
CASES: list[dict[str, Any]] = json.loads(GOLDEN.read_text("utf-8"))
MEMORY = 2 << 30
DRAWN = 2  # tokens of an answer by simulated Metal, which takes minutes


@cache
def model() -> LoadedModel:
    path = packaged("smollm2-135m-instruct")
    assert path is not None
    return load(path, Settings(cpu_precision="exact", chunk=48), MEMORY)


def request(number: int, case: dict[str, Any]) -> Request:
    return Request(
        id=number,
        tokens=case["ids"],
        max_tokens=len(case["answer"]),
        sampling=Sampling(temperature=0.0),
        logprobs=0,
    )


def answers(cases: list[dict[str, Any]]) -> list[tuple[list[int], list[float]]]:
    """Tokens and their log probabilities, of all at once."""
    engine = model().engine
    for number, case in enumerate(cases):
        engine.submit(request(number, case))
    tokens: list[list[int]] = [[] for _ in cases]
    scores: list[list[float]] = [[] for _ in cases]
    for event in engine.run():
        if isinstance(event, Token):
            tokens[event.request] += event.tokens
            scores[event.request] += [each.logprob for each in event.logprobs]
    return list(zip(tokens, scores, strict=True))


@pytest.mark.parametrize("which", ["together", "again, from shared pages", "alone"])
def test_answers_are_those_of_transformers(which: str) -> None:
    cases = CASES[:1] if which == "alone" else CASES
    for case, (tokens, scores) in zip(cases, answers(cases), strict=True):
        assert tokens == case["answer"], case["prompt"]
        assert np.abs(np.subtract(scores, case["logprobs"])).max() < 2e-3


def test_vectors_of_texts_are_those_of_transformers() -> None:
    """Beside an answer, which stays as it is; one text goes through the model in parts."""
    engine, first, golden = model().engine, len(CASES), np.load(golden_vectors.GOLDEN)["smollm2"]
    engine.submit(request(0, CASES[0]))
    for number, text in enumerate(golden_vectors.TEXTS, first):
        tokens = model().tokenizer.encode(text)
        engine.submit(Request(id=number, tokens=tokens, max_tokens=0, embeds=True))
    events = list(engine.run())
    vectors = {
        event.request: np.frombuffer(event.vectors, "<f4")
        for event in events
        if isinstance(event, Embedded)
    }
    for number, oracle in enumerate(golden, first):
        assert np.abs(vectors[number] - oracle).max() < 2e-5
    answer = [token for e in events if isinstance(e, Token) for token in e.tokens]
    assert len(vectors) == len(golden) and answer == CASES[0]["answer"]


def margin(logprob: float) -> float:
    """The least by which a token leads: all others together have what it leaves."""
    return logprob - math.log(-math.expm1(min(logprob, -5e-6)))  # which is stored as 0


def clear(tolerance: float) -> dict[str, Any]:
    """The earliest part of an answer that such an error cannot change, as a case of its own.

    The best two of a place may both move by it.
    """
    begin, case = next(
        (begin, case)
        for begin in range(len(CASES[0]["answer"]))
        for case in CASES
        if min(map(margin, case["logprobs"][begin : begin + DRAWN])) > 2 * tolerance
    )
    part = {name: case[name][begin : begin + DRAWN] for name in ("answer", "logprobs")}
    return {**case, **part, "ids": case["ids"] + case["answer"][:begin]}


def test_a_case_is_clear_where_transformers_has_no_doubt() -> None:
    assert margin(math.log(0.75)) == pytest.approx(math.log(3))
    for tolerance, least in ((1e-4, 0.5), (5e-2, 0.52), (0.3, 0.64)):
        case = clear(tolerance)
        assert all(math.exp(each) > least for each in case["logprobs"])
        assert len(case["answer"]) == DRAWN and len(case["ids"]) < 64


@pytest.mark.parametrize(
    ("dtype", "tolerance"),  # of log probabilities: some 100 times the type's rounding
    [
        pytest.param(mx.float32, 1e-4, marks=pytest.mark.long),
        pytest.param(mx.float16, 5e-2, marks=pytest.mark.long),
        pytest.param(mx.bfloat16, 0.3, marks=pytest.mark.long),  # what it has on a Mac by default
    ],
)
def test_simulated_metal_has_the_same_log_probabilities(
    dtype: mx.Dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (weights, serving):
        monkeypatch.setattr(module, "activation_dtype", lambda _: dtype)
    path, case = packaged("smollm2-135m-instruct"), clear(tolerance)
    assert path is not None
    settings = Settings(cpu_precision="exact", chunk=64, max_batch=1, kv_cache=80 * 10**6)
    with using(Simulator()):
        engine = load(path, settings, MEMORY).engine
        engine.submit(request(0, case))
        tokens = [event for event in engine.run() if isinstance(event, Token)]
    assert [each for token in tokens for each in token.tokens] == case["answer"]
    scores = [entry.logprob for token in tokens for entry in token.logprobs]
    off = np.abs(np.subtract(scores, case["logprobs"])).max()
    print(f"{dtype}: off by {off:.2g}, of {tolerance:g}; {case['prompt']}")
    assert off < tolerance


def test_texts_become_the_same_tokens() -> None:
    path = packaged("smollm2-135m-instruct")
    assert path is not None
    tokenizer = load_tokenizer(path)
    assert tokenizer.eos == 2 and tokenizer.chat_template is not None
    spelled = gguf_tokenizer(path)
    for case in CASES:
        text = spelled.decode(case["ids"], skip_special_tokens=False)
        assert case["prompt"] in text
        assert tokenizer.encode(text, special=False) == case["ids"]
