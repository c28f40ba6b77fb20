"""mlx_lm under the clock: a package that stands for it, in a process of its own."""

import json
import sys
from pathlib import Path

import pytest

from bessemer.bench.compare import cli

UTILS = """
import mlx.core as mx

class Model:
    def __init__(self, weights):
        self.weights = weights

    def parameters(self):
        return self.weights

    def update(self, weights):
        self.weights = weights

def load_model(path, lazy):
    assert lazy
    return Model(dict(mx.load(str(path / "model.safetensors")))), {}
"""
GENERATE = """
import mlx.core as mx

stream = mx.new_stream(mx.default_device())  # of this CPU
square = mx.compile(lambda x: x * x + x)

def step(model, ids):
    weight = model.weights["model.layers.0.mlp.down_proj.weight"]
    assert weight.shape == (128, 32)
    x = mx.fast.rms_norm(square(ids.astype(mx.float32)), None, 1e-5)
    return mx.argmax(x[:, None] + mx.zeros((1, 4)), axis=-1)

def generate_step(prompt, model, max_tokens):
    ids = step(model, prompt[-1:])
    mx.async_eval(ids)
    while True:
        later = step(model, ids)
        mx.async_eval(later)
        yield ids.item(), None
        ids = later

class Answer:
    def __init__(self, uid):
        self.uid = uid

class BatchGenerator:
    def __init__(self, model, completion_batch_size, prefill_batch_size):
        self.model = model

    def insert(self, prompts, most):
        self.ids = mx.array([prompt[-1] for prompt in prompts])
        return list(range(len(prompts)))

    def next_generated(self):
        self.ids = step(self.model, self.ids)
        return [Answer(uid) for uid, _ in enumerate(self.ids.tolist())]
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlx_lm").mkdir()
    (tmp_path / "mlx_lm" / "utils.py").write_text(UTILS)
    (tmp_path / "mlx_lm" / "generate.py").write_text(GENERATE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_its_loops_run_beside_ours(capsys: pytest.CaptureFixture[str]) -> None:
    amounts = ["--shape", "tiny", "--context", "20", "--steps", "4", "--streams", "1,3"]
    assert cli.main(["host", *amounts, "--json", "--mlx-lm-python", sys.executable]) == 0
    figures = json.loads(capsys.readouterr().out)["figures"]
    assert [(each["who"], each["streams"]) for each in figures] == [
        ("bessemer", 1),
        ("mlx_lm", 1),
        ("bessemer", 3),
        ("mlx_lm", 3),
    ]
    for figure in figures[1::2]:
        counts = {name: count for name, count, _ in figure["kernels"]}
        assert counts["<lambda>"] == counts["rms_norm"] == counts["ArgReduce"] == 1
        assert figure["tokens_per_second"] == pytest.approx(
            figure["streams"] / figure["step"] * 1e3
        )
