"""What figures of trained arms are made of: intervals, bands, names at the margin."""

from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.figure import Figure

from bpfree_common.studies import statistics


def interval(values) -> tuple[float, float]:
    """The 95 % t-interval of the mean of `values`; NaN where there is none."""
    values = np.asarray(values, float)
    if not np.isfinite(values).all():
        return float("nan"), float("nan")
    found = statistics.estimate(values)
    low, high = found.low, found.high
    return (float("nan"),) * 2 if low is None else (low, high)


def spoken(values, unit: str = "", digits: int = 1) -> str:
    """A mean with its interval in words: "96.4 % (96.1 to 96.7)", or "diverged"."""
    if not np.isfinite(np.mean(values)):
        return "diverged"
    low, high = interval(values)
    text = f"{np.mean(values):.{digits}f}{' ' + unit if unit else ''}"
    return text if np.isnan(low) else f"{text} ({low:.{digits}f} to {high:.{digits}f})"


def suggest(figure: Figure, caption: str, alt: str) -> Figure:
    """The figure, carrying a caption and alt text as suggestions."""
    figure.caption, figure.alt = caption, alt
    return figure


def seeds_words(counts: Iterable[int]) -> str:
    """What the intervals of a figure are, for its caption. counts: seeds of each arm."""
    counts = set(counts)
    many = sorted(counts - {1})
    if not many:
        return "one seed, no interval"
    span = f"{many[0]}" if len(many) == 1 else f"{many[0]} to {many[-1]}"
    alone = ", none where an arm has one" if 1 in counts else ""
    return f"95 % intervals over {span} seeds{alone}"


def band(ax, x, runs, style: dict, text: str = "") -> None:
    """A mean line with its 95 % interval over seeds. runs: (seeds, points)."""
    runs = np.asarray(runs, float)
    options = dict(style) | ({"marker": ""} if len(x) > 25 else {})
    ax.plot(x, runs.mean(0), label=text, **options)
    if len(runs) > 1:
        low, high = np.transpose([interval(column) for column in runs.T])
        ax.fill_between(x, low, high, color=style["color"], alpha=0.15, lw=0)


def side_labels(ax, places: Mapping[str, tuple[float, float]], colours: Mapping) -> None:
    """Name points at the right margin, joined by thin lines, no two names overlapping.

    places: name -> (x, y) in data coordinates. Call it when the limits are final.
    """
    ax.figure.draw_without_rendering()
    step = 12 * ax.figure.dpi / 72 / ax.bbox.height  # one line of text, in axes heights
    to_axes = ax.transData + ax.transAxes.inverted()
    order = sorted(places, key=lambda name: places[name][1])
    at = [to_axes.transform(places[name]) for name in order]
    for name, start, height in zip(
        order, at, _spread([y for _, y in at], step), strict=True
    ):
        line = {"arrowstyle": "-", "color": colours[name], "lw": 0.7, "shrinkA": 0}
        ax.annotate(
            name,
            start,
            (1.04, height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=colours[name],
            fontsize=9,
            va="center",
            arrowprops=line | {"alpha": 0.7, "shrinkB": 1, "relpos": (0, 0.5)},
        )


def _spread(heights: list[float], step: float) -> list[float]:
    """Ascending heights moved as little as needed to be `step` apart.

    Names that would overlap form a block, centred on their mean height but within the
    axes, 0 to 1, as long as it fits there.
    """
    blocks: list[list[float]] = []

    def ends(block: list[float]) -> tuple[float, float]:
        half = step * (len(block) - 1) / 2
        middle = max(half, min(float(np.mean(block)), 1 - half))
        return middle - half, middle + half

    for height in heights:
        blocks.append([height])
        while len(blocks) > 1 and ends(blocks[-1])[0] < ends(blocks[-2])[1] + step:
            last = blocks.pop()
            blocks[-1] += last
    return [ends(block)[0] + step * n for block in blocks for n in range(len(block))]
