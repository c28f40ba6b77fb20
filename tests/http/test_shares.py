"""Each model's share of memory and cores."""

from pathlib import Path

import pytest

from bessemer.engine.settings import Settings
from bessemer.http import shares as module
from bessemer.http.shares import shares, with_threads


def test_weights_in_a_folder_of_their_own_count_too(tmp_path: Path) -> None:
    inner = tmp_path / "0_Transformer"
    inner.mkdir()
    (tmp_path / "modules.json").write_text('[{"path": "0_Transformer", "type": "Transformer"}]')
    (inner / "model.safetensors").write_bytes(b"x" * 50)
    (inner / "consolidated.safetensors").write_bytes(b"x" * 50)
    assert shares({"a": tmp_path}, 80) == {"a": 80} and shares({"a": tmp_path}, 10) == {"a": 50}


@pytest.mark.parametrize(("memory", "oracle"), [(1000, (400, 600)), (50, (50, 250))])
def test_no_byte_is_promised_twice(tmp_path: Path, memory: int, oracle: tuple[int, int]) -> None:
    models = {}
    for name, size in (("a", 50), ("b", 250)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"x" * size)
        models[name] = tmp_path / name
    assert tuple(shares(models, memory).values()) == oracle


def test_models_share_the_cores_unless_a_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cores", lambda: 7)
    assert [with_threads(Settings(), models).threads for models in (1, 2, 8)] == [7, 3, 1]
    explicit = Settings(threads=5, chunk=9)
    assert with_threads(explicit, 2) == explicit
