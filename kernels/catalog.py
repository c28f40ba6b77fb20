"""The operations by name: what each backend runs them on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import Any

from .cpu.library import compiled
from .metal.device import Gpu, Simulator, device
from .metal.source import FOLDER, metal_files, sources
from .registry import Operation, registry
from .verdicts import Verdict


@dataclass(frozen=True, slots=True)
class Files:
    """An operation's C file and .metal files; where there is none, MLX's operations run.

    The registry tries its kernels under its own name and those of `more`.
    """

    c: str = ""
    metal: tuple[str, ...] = ()
    more: tuple[str, ...] = ()


OPERATIONS: Mapping[str, Files] = MappingProxyType(
    {
        "linear": Files(
            "linear.c",
            ("linear.metal", "linear_dense.metal", "linear_rows.metal"),
            ("gated_linear",),
        ),
        "head_linear": Files("head_linear.c", ("head_linear.metal",)),
        "rms_norm": Files("rms_norm.c", ("rms_norm.metal",)),
        "layer_norm": Files("layer_norm.c"),
        "gated_norm": Files("gated_norm.c"),
        "sigmoid_gate": Files("sigmoid_gate.c"),
        "attention": Files(
            "attention.c",
            (
                *("attention.metal", "attention_quantized.metal", "attention_merge.metal"),
                *("append_pages.metal", "gather_pages.metal"),
            ),
            ("decoding",),
        ),
        "latent_attention": Files(
            "attention.c", ("latent_attention.metal", "latent_merge.metal", "latent_append.metal")
        ),
        "prefill_attention": Files("attention.c", ("prefill_attention.metal",)),
        "encoder_attention": Files("encoder_attention.c"),
        "route": Files("route.c", ("route.metal",), ("choose",)),
        "moe": Files("moe.c", ("moe_decode.metal", "moe_sort.metal", "moe_prefill.metal")),
        "gated_delta": Files("gated_delta.c", ("gated_delta.metal",)),
        "delta_gates": Files("delta_gates.c"),
        "ssm_scan": Files("ssm_scan.c", ("ssm_scan.metal",)),
        "conv1d": Files("conv1d.c", ("conv1d.metal",)),
        "sample": Files("sample.c", ("sample.metal",)),
        "logprobs": Files("logprobs.c", ("logprobs.metal",)),
        "embedding": Files("embedding.c", ("embedding.metal",)),
        "rope": Files("", ("rope.metal",)),
        "rope_table": Files(),
        "activation": Files("activation.c", ("activation.metal",)),
        "edit": Files("edit.c"),
    }
)


@cache
def metal_operations() -> Mapping[str, Operation[..., Any]]:
    """Return the operations that have Metal kernels, by name: those of all rooms' modules."""
    modules = (
        import_module(f".{path.parent.name}.{path.stem}", __package__)
        for path in sorted(FOLDER.glob("*/*.py"))
        if path.parent.name not in ("cpu", "metal", "simulator")
    )
    found = (value for module in modules for value in vars(module).values())
    each = (value for value in found if isinstance(value, Operation) and value.metal is not None)
    return MappingProxyType({operation.name: operation for operation in each})


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """An operation in the catalog: `here` is what this process would use, `because` why."""

    operation: str
    c: str
    kernels: tuple[str, ...]
    here: str
    because: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def catalog() -> list[CatalogEntry]:
    """List all operations, in the order of the table."""
    return [_entry(name, files) for name, files in OPERATIONS.items()]


def _entry(name: str, files: Files) -> CatalogEntry:
    paths = metal_files()
    names = tuple(kernel for file in files.metal for kernel in sources(paths[file]))
    match device():
        case Simulator():
            here, because = ("simulator", "asked for") if names else ("MLX", "no kernel")
        case Gpu():
            here, because = _on_gpu(name, files)
        case _:
            quick = bool(files.c) and compiled()
            here = "C" if quick else "MLX"
            because = "no Metal device" if quick or not files.c else "no C compiler"
    return CatalogEntry(name, files.c, names, here, because)


def _on_gpu(name: str, files: Files) -> tuple[str, str]:
    if not files.metal:
        return "MLX", "no kernel"
    trials = (name, *files.more)
    verdicts = [v for key, v in registry().verdicts.items() if key.split()[0] in trials]
    if not verdicts:
        return "undecided", "not used yet: each kernel is tried at its first use"
    used = sum(verdict.custom for verdict in verdicts)
    return ("Metal" if used else "MLX"), f"{used} of {len(verdicts)} shapes; {_reason(verdicts)}"


def _reason(verdicts: list[Verdict]) -> str:
    reasons = sorted({verdict.reason for verdict in verdicts if verdict.reason})
    if reasons:
        return "; ".join(reasons)
    gains = sorted(verdict.mlx_time / max(verdict.custom_time, 1e-9) for verdict in verdicts)
    return f"{gains[len(gains) // 2]:.2f} times as fast in the middle"
