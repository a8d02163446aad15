"""The pictures, from results: PNG and SVG, on a light ground of their own.

They are made to be read at half the width of a page, so letters are large and lines few.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from .report import Record
from .statistics import QUANTILES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLES: dict[str, dict[str, Any]] = {
    "paxoskv": {"color": "#0b62c4", "marker": "o", "zorder": 4},
    "paxoskv, in memory": {"color": "#0b62c4", "marker": "o", "linestyle": "--", "mfc": "white"},
    "etcd": {"color": "#c2410c", "marker": "s", "zorder": 3},
    "PySyncObj": {"color": "#15803d", "marker": "^"},
    "floor": {"color": "#6b7280", "marker": "x", "linestyle": ":"},
}
"""How each system looks, the same in all pictures; told apart without colours too."""

RC: Any = {
    "figure.facecolor": "#fbfbf9",
    "savefig.facecolor": "#fbfbf9",
    "axes.facecolor": "#fbfbf9",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dcdcd6",
    "font.size": 15,
    "axes.titlesize": 16,
    "lines.linewidth": 2.6,
    "lines.markersize": 9,
    "svg.hashsalt": "paxoskv",
    "figure.constrained_layout.use": True,
}

Curve = dict[str, list[tuple[float, float]]]
"""Of each system, the points."""


def curves(records: Sequence[Record], x: str, y: str) -> Curve:
    """The medians of the repetitions of one figure, by system."""
    found: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        found[record["system"]][record[x]].append(record[y])
    return {
        system: sorted((at, median(values)) for at, values in points.items())
        for system, points in found.items()
    }


LATENCY_TICKS = [digit * 10.0**power for power in range(-3, 4) for digit in (1, 2, 5)]
"""Where the axis of a latency has numbers, in ms."""


def plot(axes: Axes, curve: Curve, title: str, x: str, y: str, *, log: bool = True) -> None:
    """Draw curves in axes, with logarithmic scales where the numbers double."""
    for system, points in curve.items():
        axes.plot(*zip(*points, strict=True), label=system, **STYLES.get(system, {}))
    axes.set(title=title, xlabel=x, ylabel=y)
    ticks = sorted({at for points in curve.values() for at, _ in points})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:,g}")


def duel(records: Sequence[Record]) -> Any:
    """Versions decided, and how evenly, against the number of proposers."""
    figure, (rate, fairness) = _figure(2)
    proposers = "proposers, all writing one key"
    plot(rate, curves(records, "callers", "rate"), "Duel: decided", proposers, "versions/s")
    fair = curves(records, "callers", "fairness")
    plot(fairness, fair, "Duel: fairness", proposers, "Jain's index (1 is even)", log=False)
    fairness.set_ylim(0, 1.05)
    return _legend(figure, rate)


def throughput(records: Sequence[Record]) -> Any:
    """Durable puts per second, and how long each takes, against concurrency."""
    figure, (rate, times) = _figure(2)
    puts = [each for each in records if each["operation"] == "put" and each["processes"] == 1]
    callers = "concurrent callers"
    plot(rate, curves(puts, "callers", "rate"), "put, 100 bytes: rate", callers, "calls/s")
    plot(times, curves(puts, "callers", "median"), "put, 100 bytes: median", callers, "ms")
    return _legend(figure, rate)


def latency(records: Sequence[Record]) -> Any:
    """The distribution of how long one put and one get take."""
    figure, axes = _figure(2)
    shares = [step / QUANTILES * 100 for step in range(QUANTILES + 1)]
    for ax, operation in zip(axes, ("put", "get"), strict=True):
        by_system: dict[str, list[list[float]]] = defaultdict(list)
        for record in records:
            if record["operation"] == operation and record["calls"]:
                by_system[record["system"]].append(record["quantiles"])
        for system, found in by_system.items():
            style = {**STYLES.get(system, {}), "marker": ""}
            ax.plot(
                [median(each) for each in zip(*found, strict=True)], shares, label=system, **style
            )
        ax.set(title=f"One {operation} at a time", xlabel="ms", ylabel="% of the calls within")
        ax.set_xscale("log")
        low, high = ax.get_xlim()
        ticks = [tick for tick in LATENCY_TICKS if low <= tick <= high]
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
    return _legend(figure, axes[0])


def failover(records: Sequence[Record]) -> Any:
    """Completed writes through the kill and the stop of a member."""
    figure, axes = _figure(2)
    of_puts = [record for record in records if record["operation"] == "put"]
    for ax, event in zip(axes, ("kill", "stop"), strict=True):
        drawn = set()
        for record in of_puts:
            if record["event"] == event and record["system"] not in drawn:
                drawn.add(record["system"])
                style = {**STYLES.get(record["system"], {}), "marker": "", "linewidth": 2}
                ax.plot(*zip(*record["timeline"], strict=True), label=record["system"], **style)
        ax.axvline(0, color="#111111", linewidth=1)
        ax.set(title=f"Writes through a {event}", xlabel="s since then", ylabel="writes/s")
        ax.set_ylim(0)
    return _legend(figure, axes[0])


PICTURES: dict[str, Callable[[Sequence[Record]], Any]] = {
    "duel": duel,
    "throughput": throughput,
    "latency": latency,
    "failover": failover,
}
"""The picture of each workload that has one."""


def draw(records: Sequence[Record], directory: Path, only: Sequence[str] = ()) -> list[Path]:
    """Draw what these results have, as PNG and SVG; returns the files."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    files = []
    for name, picture in PICTURES.items():
        own = [record for record in records if record["workload"] == name]
        if not own or (only and name not in only):
            continue
        directory.mkdir(parents=True, exist_ok=True)
        with plt.rc_context(RC):
            figure = picture(own)
            for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
                files.append(directory / f"{name}.{suffix}")
                figure.savefig(files[-1], dpi=110, metadata=metadata)
            plt.close(figure)
    return files


def _figure(columns: int) -> Any:
    from matplotlib import pyplot as plt

    return plt.subplots(1, columns, figsize=(11, 5))


def _legend(figure: Any, axes: Axes) -> Any:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    return figure
