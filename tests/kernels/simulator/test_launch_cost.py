"""What the model of time says that our kernels move, against what the simulator counts."""

import pytest

from bessemer.bench.kernels.profiling import profile
from bessemer.bench.kernels.workload import Demand, Dimensions, Workload
from bessemer.bench.kernels.workloads import workloads
from bessemer.kernels.metal.device import Gpu, using
from bessemer.kernels.metal.library import built_on_gpu
from bessemer.kernels.simulator.clock import Launch, Speed
from bessemer.kernels.simulator.launch_cost import launch_of
from bessemer.kernels.simulator.pending import read
from bessemer.kernels.simulator.timing import TimedRun, timed

DENSE = Dimensions(256, 1024, 512, 8, 4, 64)
MIXTURE = Dimensions(256, 1024, 512, 8, 4, 64, experts=16, per_token=4, expert_width=128)
LATENT = Dimensions(256, 1024, 512, 4, 4, 64, 16, 2, 128, 1, 128, 32, 64)


def modelled(workload: Workload, context: int) -> list[Launch]:
    built_on_gpu.cache_clear()
    run = TimedRun(Speed(1e9, 1e12, 10))
    run.sizes.context = context
    with timed(run), using(Gpu(trusted=True)), run.clock.paused():
        outputs = list(workload.call())
        launches = [launch_of(each, run.hollow.kinds, run.sizes) for each in read(outputs).launches]
    built_on_gpu.cache_clear()
    return [launch for launch in launches if launch.name[0].islower()]


CASES: list[tuple[str, Demand]] = [
    ("linear", Demand(DENSE, context=64)),
    ("linear", Demand(DENSE, rows=4, context=64)),
    ("linear", Demand(DENSE, context=64, bits=8, group=32)),
    ("linear", Demand(DENSE, context=64, superblocks="q4_k")),
    ("linear", Demand(DENSE, rows=4, context=64, superblocks="q6_k")),
    ("attention", Demand(DENSE, context=256)),
    ("attention", Demand(DENSE, rows=3, context=256)),
    ("moe", Demand(MIXTURE, context=64)),
    ("moe", Demand(MIXTURE, rows=3, context=64)),
    ("moe", Demand(MIXTURE, rows=48, context=64, prompt=True)),
    ("latent_attention", Demand(LATENT, context=256)),
    ("latent_attention", Demand(DENSE, rows=32, context=64, prompt=True)),
    ("sample", Demand(DENSE, rows=2, context=64)),
    ("embedding", Demand(DENSE, rows=3, context=64)),
    ("embedding", Demand(DENSE, rows=3, context=64, superblocks="q5_k")),
]
# Pairs are taken to be as many an expert as on average, and to read each row anew; a context's
# splits are merged from what caches hold; prompts read keys for every tile of rows.
PRODUCTS = ("linear", "attention", "attention_tail", "moe_inner", "moe_outer", "latent_attention")
NEAR = {"moe_inner_tiles": 0.25, "moe_outer_tiles": 0.25, "moe_sort": 0.06, "attention_merge": 0.2}


@pytest.mark.parametrize(("name", "demand"), CASES)
def test_a_launch_moves_what_the_simulator_counts(name: str, demand: Demand) -> None:
    for workload in workloads(name, demand):
        counted = {each.name: each for each in profile(workload, demand.rows).kernels}
        launches = {launch.name: launch for launch in modelled(workload, demand.context)}
        assert counted.keys() <= launches.keys()
        for kernel, real in counted.items():
            launch = launches[kernel]
            assert launch.moved == pytest.approx(real.moved, rel=NEAR.get(kernel, 0.03))
            assert kernel not in PRODUCTS or real.flops / 3 < launch.flops < real.flops
