"""A worker's load reads each file of a model's directory once, whatever the model is for."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.architectures.parity import tiny

from .. import tiny_decoders, tiny_embedders
from ..test_serving import worded

# Python says of each file that it opens. What libraries in other languages open is counted where we
# call them: the header by safetensors and the tensors by MLX are one reading each.
COUNTED = """
import json, os, sys
from collections import Counter

import mlx.core as mx
from bessemer.engine import serving, worker
from bessemer.engine.text import loading as tokenizer
from bessemer.engine.checkpoint import checkpoint
import bessemer.engine.embedding.model
from bessemer.engine.settings import Settings
from bessemer.engine.wire import VERSION, Configure

directory = os.path.abspath(sys.argv[1])
counts = Counter()


def count(how, path):
    if not isinstance(path, (str, os.PathLike)):  # memory of our own, by MLX's loader
        return
    path = os.path.abspath(path)
    if path.startswith(directory):
        counts[f"{how} {os.path.relpath(path, directory)}"] += 1


def counted(how, function, path=lambda first: first):
    def call(first, *rest, **keywords):
        count(how, path(first))
        return function(first, *rest, **keywords)
    return call


def heard(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, os.PathLike)):
        if os.path.exists(arguments[0]):
            count("open", arguments[0])


class Tokenizer:
    from_file = staticmethod(counted("tokenizer", tokenizer.tokenizers.Tokenizer.from_file))


class Library:
    Tokenizer = Tokenizer


class Channel:
    def first(self):
        return Configure(VERSION, directory, 10**9, Settings(max_batch=4, threads=1))

    def stage(self, what):
        pass

    def doing(self, what):
        pass

    def send(self, message):
        assert type(message).__name__ == "Ready", message

    def wake(self):
        pass


checkpoint.safe_open = counted("header", checkpoint.safe_open)
mx.load = counted("tensors", mx.load)
tokenizer.tokenizers = Library
for module in (bessemer.engine.embedding.model, serving):
    module.rename_tensors = counted("renamed", module.rename_tensors, lambda each: each.path)
sys.addaudithook(heard)
assert worker.start(Channel()) is not None
print(json.dumps(counts))
sys.stdout.flush()
os._exit(0)
"""


def sharded(path: Path) -> Path:
    worded(path, "llama_llama3")
    (path / "model.safetensors").unlink()
    return tiny("llama_llama3").write_shards(path, 3)


def guide(path: Path) -> Path:
    source = Path(__file__).parents[3] / "engine" / "guide"
    return Path(shutil.copytree(source, path, dirs_exist_ok=True))


EMBEDDERS = tiny_embedders.EMBEDDERS | tiny_decoders.EMBEDDERS
RERANKERS = tiny_embedders.RERANKERS | tiny_decoders.RERANKERS
# With some of the files that have to be read.
CASES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a decoder": (guide, "config.json generation_config.json tokenizer_config.json"),
    "a decoder in shards": (sharded, "config.json model.safetensors.index.json"),
    "an encoder by itself": (EMBEDDERS["no_modules"].write, "config.json tokenizer_config.json"),
    "an encoder in a folder of its own": (
        EMBEDDERS["three_modes_lower_case_own_folder"].write,
        "modules.json 0_Transformer/config.json 0_Transformer/sentence_roberta_config.json "
        "1_Pooling/config.json config_sentence_transformers.json",
    ),
    "an encoder before dense layers": (
        EMBEDDERS["two_dense_behind_two_modes_prompt_left_out"].write,
        "modules.json config.json 2_Dense/config.json 3_Dense/config.json",
    ),
    "a decoder that embeds": (
        EMBEDDERS["in_a_chat_template"].write,
        "modules.json config.json 1_Pooling/config.json chat_template.jinja",
    ),
    "a cross-encoder": (RERANKERS["raw"].write, "config.json tokenizer_config.json"),
    "a decoder that scores by tokens": (
        RERANKERS["next_token_in_a_template_cut"].write,
        "modules.json config.json 1_LogitScore/config.json chat_template.jinja",
    ),
    "a decoder that scores by a label": (RERANKERS["label"].write, "config.json"),
}


@pytest.mark.parametrize("case", list(CASES))
def test_each_file_is_read_once(case: str, tmp_path: Path) -> None:
    write, read = CASES[case]
    path = write(tmp_path / "model")
    ran = subprocess.run(
        [sys.executable, "-P", "-c", COUNTED, str(path)], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    counts: dict[str, int] = json.loads(ran.stdout)
    assert set(counts.values()) == {1}, counts
    files = sorted(str(file.relative_to(path)) for file in path.rglob("*.safetensors"))
    backbone = next(name for name in counts if name.startswith("renamed"))
    library = {f"{how} {file}" for how in ("header", "tensors") for file in files}
    folder = backbone.removeprefix("renamed ")
    tokens = "tokenizer.json" if folder == "." else f"{folder}/tokenizer.json"
    events = {f"open {file}" for file in read.split()}
    assert counts.keys() >= events | library | {f"tokenizer {tokens}"}
