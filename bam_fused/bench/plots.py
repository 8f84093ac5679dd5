"""Plots of results as PNG: achieved bytes per second, latency against batch, memory.

Dark text on an opaque white page, so that they read in print and as a card in a dark browser; colours that the colour-blind
and a grey printer tell apart, the fused one darkest; every bar carries its number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bam_fused.bench import table
from bam_fused.bench.cases import FIRST
from bam_fused.bench.extras import need
from bam_fused.bench.results import CaseResult, MemoryKey, Results, figures, row

COLORS = {
    "original": "#c3c3c3",
    "replaced": "#08519c",
    "eager": "#c3c3c3",
    "eager (mean)": "#8f8f8f",
    "compile": "#f0a202",
    "onnxruntime": "#7cc0ee",
    "fused": "#08519c",
}
HATCHES = {"eager (mean)": "///", "compile": "...", "onnxruntime": "\\\\\\"}
MARKERS = {"eager": "o", "eager (mean)": "v", "compile": "s", "onnxruntime": "^", "fused": "D"}
OURS = ("fused", "replaced")
INK = "#1b1b1b"
CONTEXT: dict[str, Any] = {
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#777777",
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "hatch.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def figure(width: float, height: float, rows: int, columns: int, title: str, draw: Callable[[Any], None]) -> Any:
    """A figure of panels in the house style with one legend, without touching matplotlib's global state.

    `draw` gets the axes, an array of rows and columns.
    """
    matplotlib = need("matplotlib", "bench")
    figures = need("matplotlib.figure", "bench")
    with matplotlib.rc_context(CONTEXT):
        result = figures.Figure(figsize=(width, height), layout="constrained")
        axes = result.subplots(rows, columns, squeeze=False)
        result.suptitle(title, fontsize=11, fontweight="bold")
        draw(axes)
        _legend(result)
    return result


def save(result: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    result.savefig(path, dpi=150, facecolor="white")
    return path


def horizontal_bars(
    axis: Any, labels: Sequence[str], series: dict[str, list[float | None]], text: Callable[[float], str]
) -> None:
    """Groups of bars, the first label and the first series on top, each bar with its number at its end."""
    height = 0.82 / len(series)
    largest = max((value for values in series.values() for value in values if value is not None), default=1.0)
    page = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}  # behind a number, where a line crosses it
    for j in range(len(labels)):
        present = {name: value for name, values in series.items() if (value := values[j]) is not None}
        for i, (name, value) in enumerate(present.items()):
            y = j + (i - (len(present) - 1) / 2) * height
            style = {"color": COLORS[name], "hatch": HATCHES.get(name), "edgecolor": INK, "linewidth": 0.4}
            axis.barh(y, value, height * 0.92, label=name, **style)
            weight = "bold" if name in OURS else "normal"
            at = value + 0.012 * largest
            axis.text(at, y, text(value), va="center", fontsize=7, fontweight=weight, bbox=page, zorder=5)
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.set_xlim(0, largest * 1.12)


def _shown(cases: Sequence[CaseResult]) -> list[str]:
    present = table.competitors_of(cases)
    return [name for name in COLORS if name in present]


def _legend(result: Any) -> None:
    """One legend below the whole figure, with every name of its panels once."""
    unique: dict[str, Any] = {}
    for panel in result.axes:
        handles, labels = panel.get_legend_handles_labels()
        unique |= dict(zip(labels, handles, strict=True))
    order = [*COLORS, *unique]
    unique = {name: unique[name] for name in sorted(unique, key=order.index)}
    result.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=len(unique), frameon=False)


def _shape(case: CaseResult) -> str:
    return f"{'x'.join(map(str, case['shape']))}\n{case['memory_format']}"


def _dtype(results: Results) -> str:
    """The one dtype that the plots of speed show; the tables have all."""
    return "bfloat16" if results["machine"]["type"] == "cuda" else "float32"


def roofline(results: Results) -> Any | None:
    """Useful bytes per second of each competitor beside what a copy reaches; None where no case has a floor."""
    dtype = _dtype(results)
    panels: dict[tuple[str, str], list[CaseResult]] = {}
    for key, cases in table.groups(results).items():
        for case in cases:
            known = tuple(case["shape"]) in FIRST and "floor_passes" in figures(case, "fused")
            if known and case["dtype"] == dtype and key[1] != "forward":
                panels.setdefault(key, []).append(case)
    if not panels:
        return None
    tallest = max(len(cases) for cases in panels.values())

    def draw(axes: Any) -> None:
        for axis, ((operation, mode), cases) in zip(axes[0], panels.items(), strict=True):
            rates = {name: [_rate(case, name) for case in cases] for name in _shown(cases)}
            horizontal_bars(axis, list(map(_shape, cases)), rates, lambda rate: f"{rate:.1f}")
            axis.set_ylim(tallest - 0.5, -0.5)  # bars of one thickness in all panels
            for ceiling, style in (("copy", "-"), ("clone", ":")):
                for j, case in enumerate(cases):
                    if (rate := _rate(case, ceiling)) is not None:
                        line = {"color": "#b00020", "linewidth": 1.6, "label": f"{ceiling} (ceiling)"}
                        axis.plot([rate, rate], [j - 0.45, j + 0.45], style, **line)
                        axis.set_xlim(0, max(axis.get_xlim()[1], rate * 1.05))
            axis.set_title(f"{operation}, {mode}, {dtype}", fontsize=10)
            axis.set_xlabel("useful GB/s: bytes that must move / time (longer is better)")

    size = (6.2 * len(panels), 1.6 + 0.72 * tallest)
    return figure(*size, 1, len(panels), f"How near to a copy: {results['machine']['device']}", draw)


def _rate(case: CaseResult, name: str) -> float | None:
    """Useful GB per second."""
    found = row(case, name)
    return found["bytes_per_second"] / 1e9 if found and "bytes_per_second" in found else None


def latency_against_batch(results: Results) -> Any | None:
    """Latency over batch size for every feature map that was measured at three batches or more; None where none was."""
    panels: dict[tuple[Any, ...], list[CaseResult]] = {}
    for (operation, mode), cases in table.groups(results).items():
        for case in cases:
            if mode != "forward" and case["dtype"] == _dtype(results):
                panels.setdefault((operation, mode, *case["shape"][1:], case["memory_format"]), []).append(case)
    panels = {key: cases for key, cases in panels.items() if len(cases) >= 3}
    if not panels:
        return None
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)

    def draw(axes: Any) -> None:
        for axis in axes.flat[len(panels) :]:
            axis.set_axis_off()
        for axis, (key, cases) in zip(axes.flat, panels.items(), strict=False):
            cases = sorted(cases, key=lambda case: case["shape"][0])
            for name in _shown(cases):
                found = [(case["shape"][0], one["seconds"]) for case in cases if (one := row(case, name))]
                batches, times = zip(*found, strict=True)
                style = {"marker": MARKERS[name], "markersize": 5, "color": COLORS[name], "markeredgecolor": INK}
                median = [time["median"] * 1e3 for time in times]
                axis.plot(batches, median, label=name, linewidth=2.4 if name == "fused" else 1.4, **style)
                low, high = ([time[end] * 1e3 for time in times] for end in ("low", "high"))
                axis.fill_between(batches, low, high, color=COLORS[name], alpha=0.25, linewidth=0)
            operation, mode, c, h, w, memory_format = key
            axis.set(xscale="log", yscale="log", xlabel="batch", ylabel="ms (median, 20-80 %)")
            axis.set_xticks(
                [case["shape"][0] for case in cases], [str(case["shape"][0]) for case in cases], minor=False
            )
            axis.minorticks_off()
            axis.grid(color="#dddddd", linewidth=0.6)
            axis.set_title(f"{operation}, {mode}\n{c}x{h}x{w}, {_dtype(results)}, {memory_format}", fontsize=9)

    return figure(
        3.6 * columns, 0.9 + 3.2 * rows, rows, columns, f"Latency against batch: {results['machine']['device']}", draw
    )


def memory(results: Results) -> Any | None:
    """Peak and saved memory in training, in sizes of x; None where no training was measured."""
    cases: list[CaseResult] = []
    for (_, mode), found in table.groups(results).items():
        if mode == "forward+backward":  # one group of bars per operation
            known = [case for case in found if tuple(case["shape"]) in FIRST]
            cases += [case for case in known if "saved_bytes" in figures(case, "fused")][:1]
    if not cases:
        return None

    def passes(case: CaseResult, name: str, key: MemoryKey) -> float | None:
        found = figures(case, name)
        n, c, h, w = case["shape"]
        itemsize = {"float64": 8, "float32": 4}.get(case["dtype"], 2)
        return found[key] / (n * c * h * w * itemsize) if key in found else None

    def draw(axes: Any) -> None:
        titles: dict[MemoryKey, str] = {
            "saved_bytes": "kept from forward to backward",
            "peak_bytes": "peak of forward and backward",
        }
        for axis, (key, title) in zip(axes[0], titles.items(), strict=True):
            series = {name: [passes(case, name, key) for case in cases] for name in _shown(cases)}
            labels = [f"{case['operation']}\n{_shape(case)}, {case['dtype']}" for case in cases]
            horizontal_bars(axis, labels, series, lambda value: f"{value:.2g}")
            axis.set_title(title, fontsize=10)
            axis.set_xlabel("in sizes of the input x (shorter is better)")

    return figure(11, 1.4 + 0.95 * len(cases), 1, 2, "Memory of a training step", draw)


PLOTS = {"roofline": roofline, "latency": latency_against_batch, "memory": memory}


def save_all(results: Results, folder: Path) -> list[Path]:
    """Draw every plot that the results have figures for, as <folder>/<set>-<plot>.png.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    drawn = {name: draw(results) for name, draw in PLOTS.items()}
    return [save(result, folder / f"{results['set']}-{name}.png") for name, result in drawn.items() if result]
