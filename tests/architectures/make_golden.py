"""Writes golden/FAMILY_CASE.npz, by hand with torch 2.13, transformers 5.23 and mlx-lm 0.32.2.

    python tests/architectures/make_golden.py [llama gemma2_odd ...]

Without names all that are missing or out of date. The tiny checkpoint of a case has the tensors
that transformers saves (or those of mlx_lm's model, quantized as the config says), drawn from their
names; logits are what it then computes with that checkpoint, in float32.
"""

# pyright: reportMissingImports=false

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from unittest.mock import patch

import numpy as np

# The package is found through a link that `make check` makes.
sys.path.insert(0, str(Path(__file__).parents[2] / ".venv" / "link"))
sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.architectures.tiny import (
    Case,
    Config,
    Floats,
    Shapes,
    Tiny,
    golden_rows,
    prompts,
    tensors,
)

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"
TYPES = {"float32": "F32", "uint32": "U32", "uint8": "U8"}


def by_transformers(case: Case, directory: Path) -> tuple[list[Floats], Shapes]:
    import torch
    import transformers
    from safetensors.torch import load_file
    from transformers import AutoConfig

    auto = getattr(transformers, case.auto)
    fields = json.loads(json.dumps(case.config))
    config = AutoConfig.for_model(**fields)
    model = auto.from_config(config, attn_implementation="eager").float()
    model.save_pretrained(directory / "saved")
    saved = load_file(directory / "saved" / "model.safetensors")
    shapes = {name: ("F32", tuple(array.shape)) for name, array in saved.items()}
    if case.config.get("quantization_config", {}).get("quant_method") == "mxfp4":
        shapes = in_blocks(shapes)
    path = Tiny(case.config, tensors(shapes, case.config)).write(directory / "drawn")
    config.save_pretrained(path)
    model = auto.from_pretrained(path, attn_implementation="eager", dtype=torch.float32).eval()
    logits = {}
    with torch.no_grad():
        # The shortest first: dynamic rotary positions remember the longest sequence they have seen.
        for prompt in sorted(prompts(), key=len):
            logits[tuple(prompt)] = model(torch.tensor([prompt])).logits[0].numpy()
    return [logits[tuple(prompt)] for prompt in prompts()], shapes


def in_blocks(shapes: Shapes) -> Shapes:
    """gpt-oss's experts, (experts, inputs, outputs) each, as OpenAI publishes them."""
    out: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, (dtype, shape) in shapes.items():
        if name.endswith((".experts.gate_up_proj", ".experts.down_proj")):
            experts, inputs, outputs = shape
            grouped = (experts, outputs, inputs // 32)
            out |= {f"{name}_blocks": ("U8", (*grouped, 16)), f"{name}_scales": ("U8", grouped)}
        else:
            out[name] = (dtype, shape)
    return out


def by_mlx_lm(case: Case, directory: Path) -> tuple[list[Floats], Shapes]:
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.utils import load_model

    mx.set_default_device(mx.cpu)
    empty = _empty(json.loads(json.dumps(case.config)))  # mlx_lm changes what it is given
    shapes = {
        name: (TYPES[str(array.dtype).removeprefix("mlx.core.")], tuple(array.shape))
        for name, array in dict(tree_flatten(empty.parameters())).items()
    }
    path = Tiny(case.config, tensors(shapes, case.config)).write(directory / "drawn")
    model, _ = load_model(path)
    with ExitStack() as stack:
        for name, other in case.instead.items():
            stack.enter_context(patch(name, resolve_name(other)))
        logits = [np.array(model(mx.array([p])).astype(mx.float32))[0] for p in prompts()]
    return logits, shapes


def _empty(config: Config) -> Any:
    """mlx_lm's model of a config, quantized as mlx_lm.convert would, of no particular values."""
    import mlx.nn as nn
    from mlx_lm.utils import _get_classes

    model_class, args_class = _get_classes(config)
    model = model_class(args_class.from_dict(config))
    quantization = config.get("quantization")
    if quantization is not None:

        def how(path: str, module: nn.Module) -> bool | dict[str, object]:
            if path in quantization:
                return quantization[path]
            return hasattr(module, "to_quantized")

        nn.quantize(
            model,
            quantization["group_size"],
            quantization["bits"],
            mode=quantization.get("mode", "affine"),
            class_predicate=how,
        )
    return model


def cases() -> Iterator[tuple[str, Case]]:
    for path in sorted(HERE.glob("test_*.py")):
        if "(Parity)" not in path.read_text():
            continue
        module = import_module(f"tests.architectures.{path.stem}")
        for test in vars(module).values():
            if isinstance(test, type) and vars(test).get("cases"):
                for name, case in test.cases.items():
                    yield f"{test.family}_{name}", case


def fresh(name: str, case: Case) -> bool:
    from tests.architectures.parity import Golden

    path = GOLDEN / f"{name}.npz"
    return path.exists() and Golden.read(name).config == case.config


def main(prefixes: list[str]) -> None:
    from tests.architectures.parity import Golden

    for name, case in cases():
        requested = any(name.startswith(each) for each in prefixes)
        if not requested and (prefixes or fresh(name, case)):
            continue
        with tempfile.TemporaryDirectory() as directory:
            source = by_transformers if case.source == "transformers" else by_mlx_lm
            logits, shapes = source(case, Path(directory))
        rows = golden_rows()
        sampled = np.stack([logits[prompt][position] for prompt, position in rows])
        assert sampled.std() >= 1, (
            f"{name}: logits have a standard deviation of {sampled.std():.2f}"
        )
        Golden(sampled.astype(np.float32), case.config, shapes).write(name)
        print(f"{name}: std {sampled.std():.2f}, largest {np.abs(sampled).max():.1f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
