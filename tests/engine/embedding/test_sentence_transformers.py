"""sentence-transformers' files: what a checkpoint is for, and what is refused."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bessemer.engine.checkpoint.weight_files import CheckpointError
from bessemer.engine.embedding.inputs import InputError
from bessemer.engine.embedding.sentence_transformers import (
    DescriptionError,
    PoolingFile,
    Purpose,
    describe,
    read_modules,
)
from tests.engine.loading import load_embedder

from ..tiny_decoders import LOGIT
from ..tiny_embedders import (
    EMBEDDERS,
    NORMALIZE,
    POOLED,
    POOLING,
    RERANKERS,
    TRANSFORMER,
    TinyModel,
    modules,
    with_dense,
)


def refusal(path: Path, files: dict[str, Any]) -> str:
    with pytest.raises((DescriptionError, CheckpointError)) as caught:
        load_embedder(TinyModel("bert", files).write(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"modules.json": {}}, "modules.json makes no sense"),
        ({"modules.json": []}, "does not begin with a Transformer"),
        ({"modules.json": [{"path": ""}]}, "missing required field `type`"),
        ({"modules.json": [{"path": "0_CLIP", "type": "a.CLIPModel"}]}, "does not begin with a"),
        ({"modules.json": [{"path": "..", "type": TRANSFORMER}]}, "a folder outside of its own"),
        ({"modules.json": modules(("1_Normalize", NORMALIZE))}, "there is no Pooling"),
        ({"modules.json": modules(("1", POOLING), ("2", "x.LSTM"))}, "LSTM is not built"),
        (POOLED | {"1_Pooling/config.json": {"pooling_mode": "median"}}, "Invalid enum value"),
        (POOLED | {"sentence_bert_config.json": {"max_seq_length": 0}}, "max_seq_length"),
        (POOLED | {"config_sentence_transformers.json": {"prompts": "no"}}, "prompts"),
        (
            POOLED | {"config_sentence_transformers.json": {"default_prompt_name": "query"}},
            "no prompt is named 'query'",
        ),
        (with_dense(activation_function="torch.nn.GELU"), "activation_function is 'torch.nn.GELU'"),
        (with_dense(use_residual=True), "use_residual"),
        (with_dense(module_input_name="token_embeddings"), "module_input_name"),
        (with_dense(in_features=32), "takes 32 numbers, and it is given 48"),
    ],
)
def test_files_that_are_refused(files: dict[str, Any], message: str, tmp_path: Path) -> None:
    assert message in refusal(tmp_path, files)


@pytest.mark.parametrize(
    ("file", "modes"),
    [
        (PoolingFile(), ("mean",)),
        (PoolingFile(pooling_mode="lasttoken"), ("lasttoken",)),
        (PoolingFile(pooling_mode=["max", "cls"]), ("max", "cls")),
        (PoolingFile(pooling_mode="max", pooling_mode_cls_token=True), ("max",)),
        (
            PoolingFile(pooling_mode_mean_tokens=True, pooling_mode_cls_token=True),
            ("cls", "mean"),
        ),
        (PoolingFile(pooling_mode_lasttoken=True), ("lasttoken",)),
        (PoolingFile(pooling_mode_weightedmean_tokens=True), ("weightedmean",)),
        (PoolingFile(pooling_mode_mean_sqrt_len_tokens=True), ("mean_sqrt_len_tokens",)),
        (PoolingFile(pooling_mode_max_tokens=True), ("max",)),
    ],
)
def test_modes(file: PoolingFile, modes: tuple[str, ...]) -> None:
    assert file.modes == modes


def test_the_shortest_limit_counts(tmp_path: Path) -> None:
    """The settings' own before the tokenizer's, and never more than there are positions."""
    settings = {"sentence_bert_config.json": {"max_seq_length": 12}}
    cases = [(settings, 20, 12), ({}, 20, 20), ({}, 10**30, 160)]
    cases.append(({"sentence_bert_config.json": {"max_seq_length": 999}}, 20, 160))
    for index, (files, limit, longest) in enumerate(cases):
        path = TinyModel("bert", files, limit=limit).write(tmp_path / str(index))
        assert load_embedder(path).reader.longest == longest
    roberta = load_embedder(TinyModel("roberta").write(tmp_path / "roberta"))
    assert roberta.reader.longest == 158
    with pytest.raises(InputError, match="159 tokens, and the model takes 158"):
        roberta.read([[5] * 159], truncate=False)
    assert np.isfinite(roberta.embed([[5] * 158])).all()


@pytest.mark.parametrize(
    ("config", "files", "result"),
    [
        ({"model_type": "bert", "architectures": ["BertModel"]}, {}, "embed"),
        ({"model_type": "bert"}, {}, "embed"),
        (
            {"model_type": "mpnet", "architectures": ["MPNetForSequenceClassification"]},
            {},
            "rerank",
        ),
        ({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}, {}, "generate"),
        ({"model_type": "qwen3"}, {"modules.json": modules(("1", POOLING))}, "embed"),
        (
            {"model_type": "qwen3"},
            {"modules.json": modules(("1", LOGIT))},
            "rerank",
        ),
        ({}, {}, "generate"),
        ({"model_type": ["bert"], "architectures": 3}, {}, "generate"),
    ],
)
def test_what_a_checkpoint_is_for(
    config: dict[str, Any], files: dict[str, Any], result: Purpose, tmp_path: Path
) -> None:
    for name, value in ({"config.json": config} | files).items():
        (tmp_path / name).write_text(json.dumps(value))
    assert describe(tmp_path).purpose == result


def test_a_module_beside_the_model_is_described_by_the_models_own_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"pooling_mode": "max"}')
    description = describe(tmp_path)
    (tmp_path / "config.json").unlink()  # it has been read
    file = description.module(description.modules.backbone, PoolingFile)
    assert file is not None and file.modes == ("max",)
    assert description.module(tmp_path / "1_Pooling", PoolingFile) is None


@pytest.mark.parametrize("name", [*EMBEDDERS, *RERANKERS])
def test_what_the_tiny_ones_are_for(name: str, tmp_path: Path) -> None:
    path = (EMBEDDERS | RERANKERS)[name].write(tmp_path)
    assert describe(path).purpose == ("embed" if name in EMBEDDERS else "rerank")
    assert (read_modules(path).backbone / "config.json").is_file()


def test_a_server_may_ask_without_mlx(tmp_path: Path) -> None:
    """A text's tokens and a checkpoint's purpose need no weights."""
    path = EMBEDDERS["mean_normalized_cut"].write(tmp_path)
    code = (
        "import sys; from pathlib import Path;"
        "from bessemer.engine.embedding.inputs import load_reader;"
        "from bessemer.engine.embedding.sentence_transformers import ModelOptions, describe;"
        "found = describe(Path(sys.argv[1]));"
        "read = load_reader(found, ModelOptions(), 160, 90).text('the cat');"
        "print(found.purpose, len(read.tokens), 'mlx' in sys.modules, 'numpy' in sys.modules)"
    )
    command = [sys.executable, "-P", "-c", code, str(path)]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["embed", "4", "False", "False"]
