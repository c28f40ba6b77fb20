"""Writes golden/quantized.npz: what mlx_lm 0.32.2 makes of checkpoints that we quantized.

python tests/engine/make_golden_quantize.py
"""

# pyright: reportMissingImports=false

import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from unittest.mock import patch

import numpy as np

# The package is found through a link that `make check` makes.
sys.path.insert(0, str(Path(__file__).parents[2] / ".venv" / "link"))
sys.path.insert(0, str(Path(__file__).parents[2]))

from bessemer.engine.checkpoint.quantize import QuantRecipe, quantize
from tests.architectures.tiny import prompts
from tests.engine.quantized import CASES, GOLDEN, ROWS, Case


def logits(path: Path, case: Case) -> Any:
    import mlx.core as mx
    from mlx_lm.models.cache import make_prompt_cache
    from mlx_lm.utils import load_model

    model, _ = load_model(path)
    with ExitStack() as stack:
        for name, other in case.instead.items():
            stack.enter_context(patch(name, resolve_name(other)))
        out = model(mx.array([prompts()[0]]), cache=make_prompt_cache(model))[0]
        return np.array(out.astype(mx.float32))[ROWS]


def bits(path: Path, case: Case) -> dict[str, int]:
    """Return the bits that mlx_lm's own conversion would choose for each module."""
    from mlx_lm.convert import mixed_quant_predicate_builder
    from mlx_lm.utils import load_model

    model, _ = load_model(path)
    group, _, _, mixed = case.recipe
    choose = mixed_quant_predicate_builder(mixed, model, group)
    return {
        name: choose(name, module)["bits"]
        for name, module in model.named_modules()
        if hasattr(module, "to_quantized")
    }


def main() -> None:
    import mlx.core as mx

    mx.set_default_device(mx.cpu)
    out = {}
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as directory:
            source = case.tiny().write(Path(directory) / "source")
            into = Path(directory) / "into"
            quantize(source, into, QuantRecipe.of(*case.recipe))
            out[name] = logits(into, case)
            if case.recipe[-1]:
                out[f"{name} bits"] = np.array(json.dumps(bits(source, case)))
        print(name, out[name].std())
    np.savez_compressed(GOLDEN, **out)


if __name__ == "__main__":
    main()
