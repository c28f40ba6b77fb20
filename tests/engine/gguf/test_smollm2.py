"""Real weights in a GGUF file: SmolLM2 answers as transformers does, in float32."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from msgspec import structs

from bessemer.engine import serving
from bessemer.engine.checkpoint import weights
from bessemer.engine.gguf.tokenizer import gguf_tokenizer
from bessemer.engine.request import Request, Sampling, Token
from bessemer.engine.serving import LoadedModel, load
from bessemer.engine.settings import Settings
from bessemer.engine.text.loading import load_tokenizer
from bessemer.http.gguf_models import packaged
from bessemer.kernels.metal.device import Simulator, using

GOLDEN = Path(__file__).parent / "golden" / "smollm2.json"
CASES: list[dict[str, Any]] = json.loads(GOLDEN.read_text("utf-8"))
MEMORY = 2 << 30


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


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        pytest.param(mx.float32, 1e-4, marks=pytest.mark.long),
        pytest.param(mx.float16, 2e-2, marks=pytest.mark.long),
        pytest.param(mx.bfloat16, 0.3, marks=pytest.mark.long),  # what it has on a Mac by default
    ],
)
def test_simulated_metal_has_the_same_log_probabilities(
    dtype: mx.Dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (weights, serving):
        monkeypatch.setattr(module, "activation_dtype", lambda _: dtype)
    path, case = packaged("smollm2-135m-instruct"), CASES[0]
    assert path is not None
    settings = Settings(cpu_precision="exact", chunk=64, max_batch=1, kv_cache=80 * 10**6)
    with using(Simulator()):
        engine = load(path, settings, MEMORY).engine
        engine.submit(structs.replace(request(0, case), max_tokens=2))
        tokens = [event for event in engine.run() if isinstance(event, Token)]
    assert [each for token in tokens for each in token.tokens] == case["answer"][:2]
    scores = [entry.logprob for token in tokens for entry in token.logprobs]
    assert np.abs(np.subtract(scores, case["logprobs"][:2])).max() < tolerance


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
