"""Each model's share of memory and cores."""

from pathlib import Path

import pytest

from bessemer.engine.settings import Settings
from bessemer.http.hub import BUILT_IN
from bessemer.http.shares import settings_of, shares


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


def test_models_share_the_cores_unless_a_number_is_named(tmp_path: Path) -> None:
    def threads(models: int, settings: Settings) -> set[int]:
        shared = settings_of({f"{n}": tmp_path for n in range(models)}, settings, 7)
        return {each.threads for each in shared.values()}

    assert [threads(models, Settings()) for models in (1, 2, 8)] == [{7}, {3}, {1}]
    assert threads(2, Settings(threads=5)) == {5}


def test_the_guide_beside_others_leaves_them_the_machine(tmp_path: Path) -> None:
    large, settings = Settings(kv_cache=10**9), {}
    for models in ({"guide": BUILT_IN}, {"guide": BUILT_IN, "again": BUILT_IN}):
        settings = settings_of(models, large, 8)
        assert {(each.threads, each.kv_cache) for each in settings.values()} == {
            (8 // len(models), 10**9)
        }
        assert len({*shares(models, 10**10).values()}) == 1
    models = {"a": tmp_path, "guide": BUILT_IN, "b": tmp_path}
    settings = settings_of(models, large, 8)
    assert [each.threads for each in settings.values()] == [4, 1, 4]
    assert [each.kv_cache for each in settings.values()] == [10**9, 0, 10**9]
    memory = shares(models, 10**10)
    assert memory["guide"] < 300 * 2**20 and memory["a"] == memory["b"]
    assert 10**10 - len(models) <= sum(memory.values()) <= 10**10
    assert len({*shares(models, 3 * 10**8).values()}) <= 2  # nobody has more than the others
