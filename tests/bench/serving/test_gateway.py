"""What the bench of a gateway counts, on its own provider, directly and through its bare proxy."""

from functools import partial

import pytest
import uvloop

from bessemer.bench.serving import gateway
from bessemer.bench.serving.gateway import BareProxy, Provider, Way, child, crowd, delays, latencies


def test_requests_events_and_crowds_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "PAUSE", 0.001)
    with child(Provider) as (port, _), child(partial(BareProxy, port)) as (bare, process):
        for way in (Way("direct", port), Way("bare proxy", bare, process=process)):
            times, cpu = latencies(way, 3)
            assert len(times) == 3 and min(times) > 0 and (cpu > 0) == (way.process is not None)
            times, _ = delays(way, 5, 0.001)
            assert len(times) == 5 and 0 < min(times) < max(times) < 30
            assert uvloop.run(crowd(way, 3)) == [gateway.EVENTS] * 3
