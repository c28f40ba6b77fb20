"""Writes tiny GGUF files of encoders by llama.cpp's own converter, of tests/architectures' models.

    python tests/engine/gguf/make_golden_encoders.py LLAMA_CPP

What transformers computes of them is in tests/architectures/golden.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.architectures.tiny_encoders import VOCABULARY, golden

FOLDER = Path(__file__).parent / "golden" / "encoders"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# What Nomic's own config.json says, and the converter asks for.
NOMIC = {
    "n_positions": 8192,
    "max_trained_positions": 2048,
    "activation_function": "swiglu",
    "causal": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "rotary_emb_base": 1000.0,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
}
MODELS: dict[str, dict[str, Any]] = {"bert": {}, "nomic_bert": NOMIC}
VOCAB = [*SPECIAL, *(f"w{i}" for i in range(40)), *(f"##{i}" for i in range(40)), *"abcde"]


def main() -> None:
    sources = sys.argv[1]
    sys.path[:0] = [sources, str(Path(sources) / "gguf-py")]
    FOLDER.mkdir(exist_ok=True)
    for name, more in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            write(name, more, Path(folder))


def write(name: str, more: dict[str, Any], folder: Path) -> None:
    import gguf
    import transformers
    from conversion import get_model_class

    golden(name).tiny().write(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCAB))
    assert len(VOCAB) == VOCABULARY
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text()) | more
    config["architectures"] = [config["architectures"][0]]
    kind, target = config["architectures"][0], FOLDER / f"{name}.gguf"
    converter = get_model_class(kind)
    converter.get_vocab_base_pre = lambda *_: "jina-v2-en"
    converter(folder, gguf.LlamaFileType.ALL_F32, target, eager=True, hparams=config).write()
    print(name, target.stat().st_size)


if __name__ == "__main__":
    main()
