"""A model whose keys are beyond binary16, as Qwen2's biases make them, with a 16-bit KV cache."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from bessemer.engine import serving
from bessemer.engine.request import Request, Sampling, Started, Token, TokenLogprobs
from bessemer.engine.runner import Runner
from bessemer.engine.settings import Settings
from bessemer.kernels.attention.pages import Format, Pages
from bessemer.kernels.metal.device import Nowhere, using
from tests.architectures.parity import tiny
from tests.architectures.tiny import VOCABULARY, Tiny, prompts
from tests.kernels.tiers import NATIVE, use

NAME = "qwen2_mha_yarn"
LARGE = 3.0e5
PROMPTS = prompts()[:3]
COUNT = 8


def large(seen: bool) -> Tiny:
    """Make each key's last pair of dimensions large; queries look at it only if it is `seen`."""
    out = tiny(NAME)
    heads, width = out.config["num_attention_heads"], out.config["hidden_size"]
    dim = width // heads
    arrays = {name: array.copy() for name, array in out.tensors.items()}
    for name, array in arrays.items():
        if name.endswith("k_proj.bias"):
            array.reshape(-1, dim)[:, [dim // 2 - 1, dim - 1]] = LARGE
        if "q_proj" in name and not seen:
            array.reshape(heads, dim, -1)[:, [dim // 2 - 1, dim - 1]] = 0
    return Tiny(out.config, arrays)


def write(model: Tiny, directory: Path) -> Path:
    """Write it in bfloat16, with a tokenizer of whole words."""
    model.write(directory)
    file = str(directory / "model.safetensors")
    arrays = mx.load(file)
    assert isinstance(arrays, dict)
    arrays = {name: array.astype(mx.bfloat16) for name, array in arrays.items()}
    mx.eval(list(arrays.values()))
    mx.save_safetensors(file, arrays)
    Tokenizer(WordLevel({f"w{n}": n for n in range(VOCABULARY)}, "w0")).save(
        str(directory / "tokenizer.json")
    )
    return directory


def served(directory: Path, format: Format) -> list[list[TokenLogprobs]]:
    """Return the scores of each prompt's answer, all of them in one engine with such a cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving, "_format", lambda *_: format)
        model = serving.load(directory, Settings(max_batch=4, queue=8, chunk=64), memory=10**9)
    greedy, top = Sampling(temperature=0), VOCABULARY - 1
    for id, tokens in enumerate(PROMPTS):
        model.engine.submit(
            Request(
                id=id,
                tokens=tokens,
                max_tokens=COUNT,
                sampling=greedy,
                logprobs=top,
                ignore_eos=True,
            )
        )
    scores: list[list[TokenLogprobs]] = [[] for _ in PROMPTS]
    for event in model.engine.run():
        assert isinstance(event, Token | Started), event  # none is refused
        if isinstance(event, Token):
            scores[event.request] += event.logprobs
    return scores


def by_token(entry: TokenLogprobs) -> dict[int, float]:
    return dict([(entry.token, entry.logprob), *entry.top])


@pytest.mark.parametrize("tier", [None, *NATIVE[:1]])
@pytest.mark.parametrize("format", [Format.FLOAT16, Format.INT8, Format.INT4])
def test_answers_are_those_of_a_wide_cache(
    tier: str | None, format: Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where queries do not look at what is held at binary16's end, it changes nothing.

    An infinity there, times their zero, would be no number; scales of codes would be, too.
    """
    use(monkeypatch, tier)
    directory = write(large(seen=False), tmp_path)
    with using(Nowhere()):
        narrow, wide = (served(directory, each) for each in (format, Format.FLOAT32))
    for a, b in zip(narrow, wide, strict=True):
        assert len(a) == COUNT
        first, same = by_token(a[0]), by_token(b[0])
        assert all(np.isfinite(value) for entry in a for value in by_token(entry).values())
        if format is Format.FLOAT16:
            assert max(abs(first[token] - same[token]) for token in same) < 0.01


@pytest.mark.parametrize("tier", [None, *NATIVE[:1]])
def test_answers_are_finite_where_queries_look_at_them(
    tier: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, tier)
    directory = write(large(seen=True), tmp_path)
    with using(Nowhere()):
        for scores in served(directory, Format.FLOAT16):
            assert len(scores) == COUNT
            assert all(np.isfinite(value) for each in scores for value in by_token(each).values())


@pytest.mark.skipif(not NATIVE, reason="there are no C kernels")
def test_such_a_models_cache_is_binary16_by_default(tmp_path: Path) -> None:
    directory = write(large(seen=False), tmp_path)
    model = serving.load(directory, Settings(max_batch=4, queue=8, chunk=64), memory=10**9)
    runner = model.engine.forward
    assert isinstance(runner, Runner)
    assert {cache.format for cache in runner._take() if isinstance(cache, Pages)} == {
        Format.FLOAT16
    }
