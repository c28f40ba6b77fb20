"""Tests of which families there are, asked without mlx."""

import ast
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

from bessemer.architectures.config import ConfigError
from bessemer.architectures.registry import ENCODERS, FAMILIES, configure, supported

FOLDER = Path(__file__).parents[2] / "architectures"
MODULES = sorted({*FAMILIES.values(), *ENCODERS.values()})
# A family says what differs: so many lines of code are enough for it.
MOST = dict.fromkeys(MODULES, 120) | {"llama": 40, "qwen3_moe": 50, "gpt_oss": 90}


def test_supported_families_are_sorted_and_have_modules() -> None:
    assert supported() == sorted([*FAMILIES, *ENCODERS])
    assert list(FAMILIES) == sorted(FAMILIES) and list(ENCODERS) == sorted(ENCODERS)
    assert all((FOLDER / f"{module}.py").exists() for module in MODULES)


def code_lines(path: Path) -> int:
    """Count lines without blank ones, comments and docstrings."""
    documented = set[int]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            first = node.body[0]
            documented |= {*range(first.lineno, (first.end_lineno or 0) + 1)}
    held = set[int]()
    with tokenize.open(path) as text:
        for token in tokenize.generate_tokens(text.readline):
            if token.type != tokenize.COMMENT and token.string.strip():
                held |= {*range(token.start[0], token.end[0] + 1)}
    return len(held - documented)


def test_blanks_comments_and_docstrings_are_no_code(tmp_path: Path) -> None:
    path = tmp_path / "some.py"
    path.write_text('''"""A
docstring."""

# a comment

TEXT = """
of four

"""


class One:
    """Of one line."""

    def two(self) -> None:
        """Of

        three.
        """
        pass  # said next to it
''')
    assert code_lines(path) == 7


@pytest.mark.parametrize("module", MODULES)
def test_a_family_is_no_longer_than_what_differs(module: str) -> None:
    assert code_lines(FOLDER / f"{module}.py") <= MOST[module]


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
