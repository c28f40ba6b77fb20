"""Writes what mlx_lm 0.32.2 computes of directories that were converted, and checks that it loads.

python tests/engine/gguf/make_golden_convert.py
"""

# pyright: reportMissingImports=false

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.engine.gguf.typed import EXACT, HALVES, PROMPT, typed

ROOT = Path(__file__).parents[3]
CONVERT = [str(ROOT / ".venv" / "bin" / "python"), "-P", "-m", "bessemer.engine.gguf.convert"]
GOLDEN = Path(__file__).parent / "golden" / "converted.npz"
TEXT = "abc a 12, ab!\nx"


def logits(path: Path) -> tuple[Any, list[int], list[int]]:
    import mlx.core as mx
    from mlx_lm import load

    model, tokenizer = load(str(path))
    assert mx.isfinite(model(mx.array([PROMPT]))).all()
    model.set_dtype(mx.float32)  # the same numbers, and activations as exact as ours
    out = np.array(model(mx.array([PROMPT]))[0].astype(mx.float32))
    chat = tokenizer.apply_chat_template([{"role": "user", "content": TEXT}], tokenize=True)
    return out, tokenizer.encode(TEXT), chat if isinstance(chat, list) else chat["input_ids"]


def main() -> None:
    import mlx.core as mx

    mx.set_default_device(mx.cpu)
    out = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, types, flags in (("exact", EXACT, []), ("rounded", HALVES, ["--lossy"])):
            file, into = typed(Path(folder) / f"{name}.gguf", types), Path(folder) / name
            subprocess.run([*CONVERT, str(file), str(into), *flags], check=True)
            out[name], ids, chat = logits(into)
            out["ids"], out["chat"] = np.array(ids), np.array(chat)
            print(name, out[name].std(), ids, chat)
    np.savez_compressed(GOLDEN, **out)


if __name__ == "__main__":
    main()
