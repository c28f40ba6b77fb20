"""KL divergences: a sum that anybody can check, a real model, and the file for llama.cpp."""

import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from bessemer.bench.compare.contest import CaseFailed
from bessemer.bench.compare.divergence import (
    COUNTED,
    WINDOW,
    Divergence,
    LlamaCppDivergence,
    compare,
    divergences,
    log_softmax,
    read_output,
)
from bessemer.bench.compare.real_text import sources, windows
from bessemer.engine.text.loading import load_tokenizer
from bessemer.http.hub import BUILT_IN

OUTPUT = """
Mean PPL(Q)                   :  14.104923 \u00b1   0.712309
Mean    KLD:   0.003072 \u00b1   0.000061
Maximum KLD:   0.474627
Same top p: 96.863 \u00b1 0.437 %
"""


def test_the_definition() -> None:
    first, second = np.array([[0.5, 0.25, 0.25]]), np.array([[0.25, 0.5, 0.25]])
    logs = [log_softmax((np.log(each) + 7).astype(np.float32)) for each in (first, second)]
    assert np.allclose(np.exp(logs[0]), first)
    wanted = 0.5 * np.log(2) + 0.25 * np.log(0.5)
    assert divergences(logs[0], logs[1]) == pytest.approx([wanted], abs=1e-6)
    assert divergences(logs[0], logs[0]) == pytest.approx([0], abs=1e-7)


def test_means_and_their_errors() -> None:
    numbers, found = np.random.default_rng(1).random(40).astype(np.float32), Divergence()
    for part, same in ((numbers[:10], 4), (numbers[10:], 30)):
        other = Divergence()
        other.add(part, same)
        found.join(other)
    assert found.mean == pytest.approx(numbers.mean(), rel=1e-5)
    assert found.error == pytest.approx(numbers.std() / np.sqrt(39), rel=1e-4)
    assert found.agreement == 34 / 40


def test_what_the_tool_prints() -> None:
    found = read_output(OUTPUT, 510)
    assert (found.mean, found.count) == (pytest.approx(0.003072), 510)
    assert found.error == pytest.approx(0.000061, rel=1e-3)
    assert found.agreement == pytest.approx(0.96863)
    with pytest.raises(CaseFailed):
        read_output("error: no model", 510)


def test_a_model_beside_itself_and_rounded(tmp_path: Path) -> None:
    """The tool is a stand-in that reads the file as llama.cpp does, and says what it found."""
    texts = windows(load_tokenizer(BUILT_IN), 2, WINDOW)
    tool = tmp_path / "llama-perplexity"
    tool.write_text(f"#!{sys.executable}\n{STAND_IN}")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    peer = LlamaCppDivergence(tool, tmp_path / "m.gguf", 1)
    variants = {"exact": {"cpu_precision": "exact"}, "fast": {"cpu_precision": "fast"}}
    found = compare(BUILT_IN, texts, {"tool": peer}, variants, memory=10**9)
    assert found["exact"].mean == 0 and found["exact"].agreement == 1
    assert 0 < found["fast"].mean < 0.01 and found["fast"].agreement > 0.9
    assert {each.count for each in found.values()} == {2 * COUNTED}
    # The stand-in tells the share of probability that the file holds, and its windows' first ids.
    assert found["tool"].mean == pytest.approx(1, abs=1e-3)
    assert found["tool"].agreement == pytest.approx(sum(text[0] for text in texts) % 100 / 100)


STAND_IN = f"""
import struct, sys
path = sys.argv[sys.argv.index("--kl-divergence-base") + 1]
with open(path, "rb") as file:
    assert file.read(8) == b"_logits_"
    context, vocabulary, chunks = struct.unpack("<3i", file.read(12))
    assert context == {WINDOW}
    tokens = struct.unpack(f"<{{context * chunks}}i", file.read(4 * context * chunks))
    import math
    shares = []
    width = 2 * ((vocabulary + 1) // 2) + 4
    for _ in range(chunks * {COUNTED}):
        row = file.read(2 * width)
        step, lowest = struct.unpack_from("<2f", row)
        steps = struct.unpack_from(f"<{{vocabulary}}H", row, 8)
        shares.append(sum(math.exp(lowest + step * each) for each in steps))
    assert not file.read(1)
first = sum(tokens[::context]) % 100
print(f"Mean    KLD: {{sum(shares) / len(shares)}} \\u00b1 0.0")
print(f"Same top p: {{first}} \\u00b1 0.0 %")
"""


def test_a_tool_that_fails(tmp_path: Path) -> None:
    oracle = [log_softmax(np.zeros((COUNTED, 8), np.float32))]
    peer = LlamaCppDivergence(Path(os.devnull), tmp_path, 1)
    with pytest.raises(CaseFailed, match="cannot be started"):
        peer([tuple(range(WINDOW))], oracle)


def test_texts_take_turns_and_are_enough_for_20000_tokens() -> None:
    tokenizer = load_tokenizer(BUILT_IN)
    found = windows(tokenizer, 80, WINDOW)
    assert len(found) == len(set(found)) == 80 and {len(each) for each in found} == {WINDOW}
    starts = [next(texts)[:40].strip() for texts in sources().values()]
    for window, start in zip(found, starts, strict=False):
        assert tokenizer.decode(list(window)).strip().startswith(start[:20])
