"""Which families there are, asked without mlx."""

import subprocess
import sys

import pytest

from bessemer.architectures.config import ConfigError
from bessemer.architectures.registry import configure, supported


def test_supported_families() -> None:
    assert supported() == ["llama", "mistral", "qwen2", "qwen3", "qwen3_moe"]


@pytest.mark.parametrize("model_type", [None, "mamba", 3, ["llama"]])
def test_an_unsupported_model_is_told_what_is_supported(model_type: object) -> None:
    with pytest.raises(ConfigError) as caught:
        configure({"model_type": model_type})
    assert repr(model_type) in str(caught.value)
    assert "llama, mistral, qwen2, qwen3" in str(caught.value)


def test_configs_are_read_without_mlx() -> None:
    code = (
        "import sys; sys.modules['mlx'] = None; "
        "from bessemer.architectures.registry import configure, supported; "
        "sizes = dict(hidden_size=8, vocab_size=8, intermediate_size=8); "
        "counts = dict(num_attention_heads=1, num_hidden_layers=1); "
        "[configure(dict(model_type=name, **sizes, **counts)) for name in supported()]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
