"""Backends of whatever model is meant."""

import asyncio
from typing import get_args

import pytest

from bessemer.engine.request import Refusal
from bessemer.http.gateway.provider import Provider
from bessemer.http.gateway.remotes import Remotes
from bessemer.http.gateway.routing import Meant, Target
from bessemer.http.local import Patience
from bessemer.translate.upstream.upstream import Format

FORMATS: tuple[Format, ...] = get_args(Format)
PROVIDERS = {name: Provider(name=name, url=f"http://{name}", format=name) for name in FORMATS}


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_has_an_upstream(name: str) -> None:
    remotes = Remotes(PROVIDERS, Patience(heartbeat=3))
    backend = remotes.backend(Meant(Target(name, "a/b"), lossy=True))
    assert (backend.name, backend.model, backend.lossy) == ("a/b", "a/b", True)
    assert backend.remote.upstream.format == backend.remote.provider.format == name
    assert backend.patience.heartbeat == 3
    asyncio.run(remotes.aclose())


def test_before_another_target_nothing_is_sent_that_is_no_answer() -> None:
    remotes = Remotes(PROVIDERS, Patience(heartbeat=3))
    backend = remotes.backend(Meant(Target("openai", "m"), last=False))
    assert backend.patience.heartbeat > 3600
    both = [remotes.backend(Meant(Target("openai", name))) for name in "ab"]
    assert both[0].activity is both[1].activity and both[0].remote is both[1].remote
    remotes.interrupt(Refusal(503, "x", "x"))
