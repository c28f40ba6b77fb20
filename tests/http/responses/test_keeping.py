"""What a server keeps of responses, as its settings say."""

import asyncio
import io
from pathlib import Path

import pytest

from bessemer.http.config import Config, UsageError
from bessemer.http.log import Log
from bessemer.http.responses.keeping import DAY, keeping
from bessemer.http.responses.store import StoredResponse, StoreLimits


def kept(config: Config, *ids: str) -> list[str] | None:
    """Keep responses with these ids, and return those that are kept; None: nothing ever is."""

    async def main() -> list[str] | None:
        with Log("info", io.BytesIO()) as log:
            async with keeping(config, log) as responses:
                if responses is None:
                    return None
                for id in ids:
                    await responses.store.put(StoredResponse(id, "", b"{}" * 99))
                found = [id for id in "123" if await responses.store.get("", id)]
                assert responses.background.find("", "1") is None
                return found

    return asyncio.run(main())


def test_responses_are_kept_in_memory_in_a_file_or_not_at_all(tmp_path: Path) -> None:
    assert kept(Config(), "1", "2") == ["1", "2"] and kept(Config()) == []
    file = Config(responses_store=str(tmp_path / "responses.db"))
    assert kept(file, "1") == ["1"] and kept(file, "2") == ["1", "2"]
    assert kept(Config(responses_store="off"), "1") is None


def test_limits(tmp_path: Path) -> None:
    assert kept(Config(responses_size=500), "1", "2", "3") == ["2", "3"]
    assert kept(Config(responses_age=1), "1") == ["1"]
    usual = Config()
    assert StoreLimits() == StoreLimits(usual.responses_size, usual.responses_age * DAY)


def test_a_file_that_cannot_be_used_is_a_mistake_at_start(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--responses-store /.*: cannot be opened"):
        kept(Config(responses_store=str(tmp_path)))
