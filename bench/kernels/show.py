"""A kernel's profile on the terminal, as JSON, and as an HTML page with annotated source."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from rich.console import Group, RenderableType
from rich.table import Table

from bessemer.bench.compare.plots import draw
from bessemer.bench.kernels.profiling import DISCLAIMER, KernelProfile, Profile, Spot
from bessemer.bench.models.hardware import Chip
from bessemer.engine.memory import size
from bessemer.kernels.metal.source import HERE, metal_files

TEMPLATE = Path(__file__).with_name("page.html")
LINES = 12  # of the source on the terminal: those that move most
NARROW, WIDE = 0.25, 1024.0  # operations a byte at the ends of a roofline


def table(profile: Profile, chips: Sequence[Chip]) -> RenderableType:
    head = (
        f"{profile.operation}, {profile.use}: {size(profile.moved)} moved, "
        f"{size(profile.minimum)} at least ({profile.ratio:.3f}); "
        f"{size(profile.reread)} re-read from small buffers"
    )
    parts = (kernels(profile), buffers(profile), spots(profile), rooflines(profile, chips))
    return Group(head, *parts, f"All {DISCLAIMER}.")


def kernels(profile: Profile) -> Table:
    shown = Table("kernel", "threads", "a threadgroup", "shared", "barriers", "simd", "flops")
    for each in profile.kernels:
        shown.add_row(
            each.name,
            " x ".join(map(str, each.grid)),
            " x ".join(map(str, each.threadgroup)),
            f"{each.threadgroup_bytes} B",
            str(each.barriers),
            operations(each.simd_operations),
            f"{each.flops / 1e6:.2f} M ({each.matrix_flops / 1e6:.2f} M by matrices)",
        )
    return shown


def operations(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items()) or "none"


def buffers(profile: Profile) -> Table:
    shown = Table("buffer", "size", "loaded", "stored", "distinct")
    for each in profile.buffers:
        cells = (each.size, each.loaded, each.stored, each.unique)
        shown.add_row(f"{each.kernel}: {each.name}", *map(size, cells))
    return shown


def spots(profile: Profile) -> Table:
    shown = Table("line", "device", "in lines", "shared", "bank cycles", "source")
    for each in profile.spots[:LINES]:
        shown.add_row(
            f"{each.file}:{each.line}",
            size(each.device),
            f"{each.efficiency:.0%}" if each.device else "",
            size(each.threadgroup) if each.threadgroup else "",
            str(each.bank_cycles or ""),
            each.text[:60],
        )
    return shown


def rooflines(profile: Profile, chips: Sequence[Chip]) -> Table:
    shown = Table("chip", "roofline", "by")
    for chip in chips:
        shown.add_row(chip.name, f"{profile.seconds(chip) * 1e6:.1f} us", bound(profile, chip))
    return shown


def bound(profile: Profile, chip: Chip) -> str:
    """Say what takes longest."""
    arithmetic = profile.flops > profile.moved * chip.ridge
    return "arithmetic" if arithmetic else "memory"


def as_dict(profile: Profile, chips: Sequence[Chip]) -> dict[str, Any]:
    rooflines = {chip.key: {"seconds": profile.seconds(chip)} for chip in chips}
    totals = {"moved": profile.moved, "reread": profile.reread, "ratio": profile.ratio}
    return {**asdict(profile), **totals, "chips": rooflines, "counted_by": DISCLAIMER}


def page(profiles: Sequence[Profile], chips: Sequence[Chip], command: str) -> str:
    """Return one HTML file that needs nothing else. Raises Unavailable without matplotlib."""
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters["size"] = size
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        profiles=profiles,
        chips=chips,
        command=command,
        counted=DISCLAIMER,
        sources={name: list(annotated(name, profiles)) for name in files(profiles)},
        plot=plot(profiles, chips),
        operations=operations,
        bound=bound,
    )


def files(profiles: Sequence[Profile]) -> list[str]:
    return sorted({spot.file for each in profiles for spot in each.spots})


def annotated(name: str, profiles: Sequence[Profile]) -> Iterator[tuple[int, str, int, int, float]]:
    """Yield number, text, device bytes, threadgroup bytes and heat (0 to 1) of a file's lines."""
    by_line: dict[int, list[Spot]] = {}
    for spot in (spot for each in profiles for spot in each.spots if spot.file == name):
        by_line.setdefault(spot.line, []).append(spot)
    hottest = max(sum(map(_weight, spots)) for spots in by_line.values())
    for number, text in enumerate(metal_files().get(name, HERE / name).read_text().splitlines(), 1):
        spots = by_line.get(number, [])
        device, shared = sum(s.device for s in spots), sum(s.threadgroup for s in spots)
        yield number, text, device, shared, sum(map(_weight, spots)) / hottest


def _weight(spot: Spot) -> int:
    return spot.device + spot.threadgroup


def plot(profiles: Sequence[Profile], chips: Sequence[Chip]) -> str:
    """Draw rooflines of the chips, and each launch where its operations a byte put it."""

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for chip in chips:
            reached = chip.bandwidth * chip.reached
            places = [NARROW, chip.ridge, max(WIDE, chip.ridge)]
            tops = [NARROW * reached, chip.tflops * 1e3, chip.tflops * 1e3]
            axes.plot(places, tops, lw=1, label=chip.name)
        for profile in profiles:
            for kernel in profile.kernels:
                spot = intensity(kernel)
                axes.axvline(spot, color="grey", lw=0.5, ls=":")
                label = f"{profile.use}: {kernel.name}"
                axes.annotate(label, (spot, NARROW * 50), rotation=90, fontsize=7)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("operations per byte of device memory")
        axes.set_ylabel("10^9 operations a second, at most")
        axes.legend(fontsize=7)

    return draw(paint)


def intensity(kernel: KernelProfile) -> float:
    return max(NARROW, kernel.flops / max(1, kernel.moved))
