"""The steps of a report, each a row: what it runs, in how many parts, and for how long."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

from bessemer.bench.report.figures import COMMANDS
from bessemer.bench.report.finding import How, Work
from bessemer.kernels.catalog import metal_operations

# Whose kernels are tried at their own sizes: dense, experts, latents.
SHAPES = ("llama-3.2-1b", "qwen3-1.7b", "qwen3-30b-a3b", "deepseek-v2-lite")


def _alone(_: How) -> Sequence[str]:
    return ("",)


def _operations(_: How) -> Sequence[str]:
    return tuple(metal_operations())


def _shapes(how: How) -> Sequence[str]:
    return ("tiny",) if how.simulated else SHAPES


def _commands(_: How) -> Sequence[str]:
    return tuple(COMMANDS)


@dataclass(frozen=True, slots=True)
class Step:
    """`work` is a function by module and name, called in a process for each part.

    An item may take `seconds`; of a report's time the step may use its `share`, and what the steps
    before it left over.
    """

    name: str
    title: str
    work: str
    share: float
    seconds: float = 60.0
    parts: Callable[[How], Sequence[str]] = _alone

    def function(self) -> Work:
        module, _, name = self.work.partition(":")
        work: Work = getattr(import_module(module), name)
        return work


HERE = "bessemer.bench.report"
STEPS = (
    Step("machine", "the machine and its versions", f"{HERE}.figures:machine", 0.2),
    Step(
        "kernels",
        "every kernel in every form, compiled and compared with its reference",
        f"{HERE}.kernels:verify",
        4,
        parts=_operations,
    ),
    Step("kv", "keys and values that are written in place", f"{HERE}.models:patterns", 0.3),
    Step("golden", "small models beside transformers' logits", f"{HERE}.models:golden", 1),
    Step("answers", "the built-in model's answers beside the CPU's", f"{HERE}.models:answers", 1),
    Step(
        "trials",
        "kernels at the sizes of models: compared with MLX's operations, and timed",
        f"{HERE}.kernels:trials",
        2,
        parts=_shapes,
    ),
    Step(
        "repeats",
        "every kernel again and again: the same bits each time, else there is a race",
        f"{HERE}.kernels:repeat",
        3,
        parts=_operations,
    ),
    Step("bench", "tokens a second", f"{HERE}.figures:bench", 3.3, seconds=150.0, parts=_commands),
    Step("counters", "what the GPU's counters say", f"{HERE}.figures:counters", 0.2),
)
