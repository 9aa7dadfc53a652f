"""The figures of `benchmarks.speed.scan` as a page of Markdown and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.speed.workload import TYPICAL
from benchmarks.tables import table
from bladescan.base.figures import GREY, as_png, make_plain, new_figure

TYPER = 'python -c "import typer"'
_COLOURS = ("#4C78A8", "#72B7B2", "#EECA3B", "#F58518", "#9D9D9D")
_OURS, _OTHERS = "#4C78A8", "#BBBBBB"


def bound(found: Mapping[str, Any], runtime: str) -> float:
    """Images a second that the sum of the stages allows on all cores, with that runtime."""
    ms = found["stages_ms"][TYPICAL]
    others = sum(value for name, value in ms.items() if name != "encoder and heads")
    return float(1000 * found["machine"]["cores"] / (others + found["encoder_ms"][runtime]))


def runtime_of(way: str) -> str | None:
    """The runtime of one of our scans, None for others."""
    kind, _, rest = way.partition(", ")
    return rest.removesuffix(", 2 workers") if kind == "bladescan scan" else None


def page(found: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    parts = [_machine(found["machine"]), *_stages(found), *_backends(found), *_scans(found), *_start(found)]
    return "\n\n".join(parts) + "\n"


def _machine(about: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{name} {number}" for name, number in about["packages"].items())
    return f"{about['cpu']}, {about['cores']} cores, Python {about['python']}; {packages}."


def _stages(found: Mapping[str, Any]) -> list[str]:
    names = list(found["stages_ms"][TYPICAL])
    rows = [
        [kind, *(f"{ms[name]:.2f}" for name in names), f"{sum(ms.values()):.1f}"]
        for kind, ms in found["stages_ms"].items()
    ]
    return ["## Stages\n\nMilliseconds an image, one thread.", table(["picture", *names, "sum"], rows)]


def _backends(found: Mapping[str, Any]) -> list[str]:
    parts = ["## Runtimes\n\nMilliseconds a crop and speed over PyTorch eager float32, all cores."]
    for title, batches in (
        ("the detector that ships, with heads", found["backends_ms"]),
        ("ResNet-50", found["resnet50_ms"]),
    ):
        if not batches:
            continue
        rows = [
            [name, *(f"{ms[name]:.2f} ({ms['pytorch'] / ms[name]:.1f} x)" for ms in batches.values())]
            for name in next(iter(batches.values()))
        ]
        parts.append(table([title, *batches], rows))
    return parts


def _scans(found: Mapping[str, Any]) -> list[str]:
    rates = found["images_per_second"]
    ours = max(rate for way, rate in rates.items() if runtime_of(way))
    rows = []
    for way, rate in rates.items():
        runtime = runtime_of(way)
        share = f"{rate / bound(found, runtime):.2f}" if runtime else ""
        rows.append([way, f"{rate:.1f}", share, f"{ours / rate:.1f} x"])
    header = ["way", "images/s", "of what cores over the sum of its stages allow", "the best of ours over it"]
    return [f"## Whole scans\n\n{TYPICAL}, JPEG.", table(header, rows)]


def _start(found: Mapping[str, Any]) -> list[str]:
    start = found["start_s"]
    starts = [[name, f"{s:.2f}", f"{s / start[TYPER]:.1f} x"] for name, s in start.items()]
    memory = [[name, f"{mb:.0f}"] for name, mb in found["memory_mb"].items()]
    return [
        "## Start, memory, size",
        table(["command", "seconds", "over `import typer`"], starts),
        table(["a scan and its processes, at their peak", "MB"], memory),
        f"The wheel, detector included, has {found['wheel_mb']:.1f} MB.",
    ]


def plot(found: Mapping[str, Any]) -> bytes:
    """Stages as stacked bars, whole scans as bars, as PNG."""
    figure = new_figure(9.0, 6.4)
    top, bottom = figure.subplots(2, 1, height_ratios=[5, 7])
    kinds = list(found["stages_ms"])
    left = [0.0] * len(kinds)
    for name, colour in zip(found["stages_ms"][TYPICAL], _COLOURS, strict=False):
        widths = [found["stages_ms"][kind][name] for kind in kinds]
        top.barh(kinds, widths, left=left, label=name, color=colour, height=0.6)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    top.set_xlabel("milliseconds an image, one thread")
    top.legend(frameon=False, fontsize=8, ncols=5, loc="lower center", bbox_to_anchor=(0.4, 1.0))
    rates = found["images_per_second"]
    ways = sorted(rates, key=lambda way: rates[way])
    colours = [_OURS if runtime_of(way) else _OTHERS for way in ways]
    bars = bottom.barh(ways, [rates[way] for way in ways], color=colours, height=0.7)
    bottom.bar_label(bars, [f"{rates[way]:.0f}" for way in ways], padding=3, fontsize=8, color=GREY)
    bottom.set_xlabel(f"images a second, {TYPICAL}, {found['machine']['cores']} cores")
    for panel in (top, bottom):
        make_plain(panel)
        panel.grid(axis="y", visible=False)
        panel.grid(axis="x", color="#E5E5E5", linewidth=0.6)
        panel.tick_params(labelsize=8)
    top.invert_yaxis()
    return as_png(figure)
