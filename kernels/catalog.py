"""The operations by name: what each backend runs them on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from .cpu.library import compiled
from .metal.device import Gpu, Simulator, device
from .metal.source import metal_files, sources
from .registry import Verdict, registry


@dataclass(frozen=True, slots=True)
class Row:
    """An operation's C file and .metal files; where there is none, MLX's operations run.

    The registry tries its kernels under its own name and those of `more`.
    """

    c: str = ""
    metal: tuple[str, ...] = ()
    more: tuple[str, ...] = ()


OPERATIONS: Mapping[str, Row] = MappingProxyType(
    {
        "linear": Row(
            "linear.c",
            ("linear.metal", "linear_dense.metal", "linear_rows.metal"),
            ("gated_linear",),
        ),
        "head_linear": Row("head_linear.c", ("head_linear.metal",)),
        "rms_norm": Row("rms_norm.c", ("rms_norm.metal",)),
        "layer_norm": Row("layer_norm.c"),
        "gated_norm": Row("gated_norm.c"),
        "sigmoid_gate": Row("sigmoid_gate.c"),
        "attention": Row(
            "attention.c",
            (
                *("attention.metal", "attention_quantized.metal", "attention_merge.metal"),
                *("append_pages.metal", "gather_pages.metal"),
            ),
        ),
        "latent_attention": Row(
            "attention.c",
            ("latent_attention.metal", "latent_merge.metal", "latent_append.metal"),
        ),
        "prefill_attention": Row("attention.c", ("prefill_attention.metal",)),
        "encoder_attention": Row("encoder_attention.c"),
        "route": Row("route.c", ("route.metal",), ("choose",)),
        "moe": Row("moe.c", ("moe_decode.metal", "moe_sort.metal", "moe_prefill.metal")),
        "gated_delta": Row("gated_delta.c", ("gated_delta.metal",)),
        "delta_gates": Row("delta_gates.c"),
        "ssm_scan": Row("ssm_scan.c", ("ssm_scan.metal",)),
        "conv1d": Row("conv1d.c", ("conv1d.metal",)),
        "sample": Row("sample.c", ("sample.metal",)),
        "logprobs": Row("logprobs.c", ("logprobs.metal",)),
        "embedding": Row("embedding.c"),
        "rope": Row(),
        "activation": Row("activation.c"),
        "edit": Row("edit.c"),
    }
)


@dataclass(frozen=True, slots=True)
class Entry:
    """`here` is what this process would use, `because` why."""

    operation: str
    c: str
    kernels: tuple[str, ...]
    here: str
    because: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def catalog() -> list[Entry]:
    """All operations, in the order of the table."""
    return [_entry(name, row) for name, row in OPERATIONS.items()]


def _entry(name: str, row: Row) -> Entry:
    files = metal_files()
    names = tuple(kernel for file in row.metal for kernel in sources(files[file]))
    match device():
        case Simulator():
            here, because = ("simulator", "asked for") if names else ("MLX", "no kernel")
        case Gpu():
            here, because = _on_gpu(name, row)
        case _:
            quick = bool(row.c) and compiled()
            here = "C" if quick else "MLX"
            because = "no Metal device" if quick or not row.c else "no C compiler"
    return Entry(name, row.c, names, here, because)


def _on_gpu(name: str, row: Row) -> tuple[str, str]:
    if not row.metal:
        return "MLX", "no kernel"
    trials = (name, *row.more)
    found = [v for key, v in registry().verdicts.items() if key.split()[0] in trials]
    if not found:
        return "undecided", "not used yet: each kernel is tried at its first use"
    used = sum(verdict.custom for verdict in found)
    return ("Metal" if used else "MLX"), f"{used} of {len(found)} shapes; {_reason(found)}"


def _reason(found: list[Verdict]) -> str:
    reasons = sorted({verdict.reason for verdict in found if verdict.reason})
    if reasons:
        return "; ".join(reasons)
    gains = sorted(verdict.composed_time / max(verdict.custom_time, 1e-9) for verdict in found)
    return f"{gains[len(gains) // 2]:.2f} times as fast in the middle"
