"""The facts about its machine in a report."""

import msgspec
import pytest

from bessemer.bench.compare.contest import Unavailable
from bessemer.bench.compare.machine import Machine, cpu_tier, describe
from bessemer.kernels.cpu.library import tier


def test_a_figure_names_the_tier_it_was_taken_on() -> None:
    machine = describe()
    assert machine.tier == cpu_tier() == tier()
    epyc = msgspec.structs.replace(machine, cpu="AMD EPYC", tier="avx2")
    assert f"{machine.cores} cores of AMD EPYC, CPU tier avx2, " in str(epyc)
    older = msgspec.convert(
        {key: value for key, value in msgspec.structs.asdict(machine).items() if key != "tier"},
        Machine,
    )
    assert "tier" not in str(older)


def test_a_tier_that_the_machine_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BESSEMER_CPU_TIER", "fast")
    with pytest.raises(Unavailable, match="the CPU tier fast does not run on this machine"):
        cpu_tier()
