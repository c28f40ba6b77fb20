"""Which families there are, asked without mlx."""

import subprocess
import sys
from pathlib import Path

import pytest

from bessemer.architectures.config import ConfigError
from bessemer.architectures.registry import ENCODERS, FAMILIES, configure, supported


def test_supported_families_are_sorted_and_have_modules() -> None:
    assert supported() == sorted([*FAMILIES, *ENCODERS])
    assert list(FAMILIES) == sorted(FAMILIES) and list(ENCODERS) == sorted(ENCODERS)
    folder = Path(__file__).parents[2] / "architectures"
    modules = [*FAMILIES.values(), *ENCODERS.values()]
    assert all((folder / f"{module}.py").exists() for module in modules)


@pytest.mark.parametrize("model_type", sorted(ENCODERS))
def test_an_encoder_is_told_from_what_writes_text(model_type: str) -> None:
    with pytest.raises(ConfigError, match=f"{model_type}', an encoder, which embeds or ranks"):
        configure({"model_type": model_type})


@pytest.mark.parametrize("model_type", [None, "unheard_of", 3, ["llama"]])
def test_an_unsupported_model_is_told_what_is_supported(model_type: object) -> None:
    with pytest.raises(ConfigError) as caught:
        configure({"model_type": model_type})
    assert repr(model_type) in str(caught.value)
    assert f"supported are {', '.join(supported())}" in str(caught.value)


def test_configs_are_read_without_mlx() -> None:
    code = (
        "import sys; sys.modules['mlx'] = None; "
        "from importlib import import_module; "
        "from bessemer.architectures.registry import FAMILIES; "
        "[import_module(f'bessemer.architectures.{name}') for name in FAMILIES.values()]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
