"""One look for all figures, and the plots that every notebook shares.

The same method has the same colour everywhere; lines also differ by dash and marker, so
that a figure survives a greyscale printer.
"""

import io
import os
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from bpfree_common.papers import catalogue

BASELINES = {
    "backprop": {"color": "#1a1a1a", "linestyle": "-", "marker": "o"},
    "backprop, checkpointing": {"color": "#6e6e6e", "linestyle": "--", "marker": "s"},
    "frozen": {"color": "#9a9a9a", "linestyle": ":", "marker": "v"},
}
METHOD_COLOUR = "#c2410c"  #: the paper's own method, in its own notebook
#: In the order of the catalogue's families.
_FAMILY_COLOURS = [
    "#0369a1",
    "#c2410c",
    "#0f8a5f",
    "#be185d",
    "#8b5cf6",
    "#14808a",
    "#65a30d",
    "#92400e",
    "#b8860b",
    "#475569",
]
_VARIANTS = ["#0369a1", "#0f8a5f", "#8b5cf6", "#b8860b", "#be185d", "#14808a"]
_DASHES = ["--", "-.", (0, (1, 1)), (0, (5, 1)), (0, (3, 1, 1, 1)), ":"]
_MARKERS = ["^", "D", "P", "X", "<", ">"]


def use_style() -> None:
    """Set the collection's look and make written files repeat byte for byte."""
    sns.set_theme(context="notebook", style="ticks", palette="colorblind")
    mpl.rcParams.update(
        {
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": "medium",
            "axes.titlelocation": "left",
            "axes.labelsize": "medium",
            "legend.frameon": False,
            "lines.markersize": 4,
            "svg.hashsalt": "bpfree",
            "svg.fonttype": "none",
        }
    )


class Palette:
    """Line styles by arm: fixed for the baselines and the method, in order for others."""

    def __init__(self, method: str):
        self._styles = dict(BASELINES)
        self._styles[method] = {"color": METHOD_COLOUR, "linestyle": "-", "marker": "o"}
        self._variants = 0

    def __call__(self, arm: str) -> dict:
        """Keyword arguments for `plot`: color, linestyle, marker."""
        if arm not in self._styles:
            n = self._variants % len(_VARIANTS)
            self._variants += 1
            self._styles[arm] = {
                "color": _VARIANTS[n],
                "linestyle": _DASHES[n],
                "marker": _MARKERS[n],
            }
        return dict(self._styles[arm])


def label(arm: str) -> str:
    """How an arm is called in a figure: the short name of a paper, else its own name."""
    known = catalogue.load()
    return known[arm].short if arm in known else arm


def family_colour(family: str) -> str:
    """The colour of a family of papers, where many papers share a figure."""
    return _FAMILY_COLOURS[list(catalogue.FAMILIES).index(family)]


def render(figure: Figure, kind: str) -> bytes:
    """The figure as `png` or `svg`, without facts of the machine or the moment."""
    buffer = io.BytesIO()
    metadata = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}[kind]
    figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()


def save(figure: Figure, folder: Path, name: str) -> bytes:
    """Write `name.png`, and with `BPFREE_SVG` `name.svg`, into `folder`; return the PNG.

    The layout is solved for the first and kept for the second.
    """
    folder.mkdir(parents=True, exist_ok=True)
    png = render(figure, "png")
    figure.set_layout_engine("none")
    (folder / f"{name}.png").write_bytes(png)
    if os.environ.get("BPFREE_SVG"):
        (folder / f"{name}.svg").write_bytes(render(figure, "svg"))
    return png


def band(ax, x, runs: np.ndarray, style: dict, text: str) -> None:
    """A mean line with the range over seeds. runs: (seeds, points)."""
    mean = runs.mean(0)
    options = dict(style) | ({"marker": ""} if len(x) > 25 else {})
    ax.plot(x, mean, label=text, **options)
    if len(runs) > 1:
        ax.fill_between(
            x, runs.min(0), runs.max(0), color=style["color"], alpha=0.15, lw=0
        )


def side_labels(ax, places: dict[str, tuple[float, float]], colours: dict) -> None:
    """Name points at the right margin, joined by thin lines, no two names overlapping.

    places: name -> (x, y) in data coordinates. Call it when the limits are final.
    """
    figure = ax.figure
    figure.draw_without_rendering()
    step = 11 * figure.dpi / 72 / ax.bbox.height  # one line of text, in axes heights
    order = sorted(places, key=lambda name: places[name][1])
    to_axes = ax.transData + ax.transAxes.inverted()
    at = {name: to_axes.transform(places[name]) for name in order}
    height = -np.inf
    for name in order:
        room = 1 - step * (len(order) - 1 - order.index(name))
        height = max(height + step, min(at[name][1], room))
        line = {"color": colours[name], "lw": 0.6, "alpha": 0.6, "shrinkA": 0}
        ax.annotate(
            name,
            at[name],
            (1.03, height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=colours[name],
            fontsize=8,
            va="center",
            arrowprops={"arrowstyle": "-", **line},
        )


def learning_curves(
    comparison, palette: Palette, key: str = "validation", ax=None
) -> Figure:
    """A column of the history against the epoch, one line per arm, range over seeds."""
    figure, ax = (ax.figure, ax) if ax is not None else plt.subplots(figsize=(6.4, 3.6))
    for arm, runs in comparison.runs.items():
        rows = [[row for row in run.history if key in row] for run in runs]
        if all(rows):
            epochs = [row["epoch"] for row in rows[0]]
            values = np.array([[row[key] for row in run] for run in rows])
            band(ax, epochs, values, palette(arm), label(arm))
    ax.set(
        xlabel="epoch",
        ylabel=f"{key} {'accuracy' if key == 'validation' else ''}".strip(),
    )
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend()
    return figure


def audit_matrices(audits: dict, palette: Palette) -> Figure:
    """Dependence and weight transport of each rule; row l: whose weights unit l used."""
    rows = {"dependence": "depends on", "transport": "uses weights of"}
    size = (1.9 * len(audits) + 0.7, 4.6)
    figure, axes = plt.subplots(2, len(audits), figsize=size, squeeze=False)
    for column, (arm, found) in enumerate(audits.items()):
        for line, (name, words) in enumerate(rows.items()):
            ax = axes[line, column]
            values = np.array(getattr(found, name), dtype=float)
            _matrix(ax, values)
            ax.set_title(label(arm).replace(", ", ",\n") if line == 0 else "", fontsize=9)
            ax.set_xlabel("unit m" if line == 1 else "")
            ax.set_ylabel(f"{name}\nunit l {words} m" if column == 0 else "", fontsize=9)
    return figure


def _matrix(ax, values: np.ndarray) -> None:
    """Filled square: the credit changes; dot: it does not; cross: not defined."""
    size = len(values)
    for l in range(size):
        for m in range(size):
            value = values[l, m]
            if value != value:
                ax.plot(m, l, "x", color="#9a9a9a", markersize=5)
            elif value == 0:
                ax.plot(m, l, ".", color="#9a9a9a", markersize=3)
            else:
                shade = METHOD_COLOUR if m > l else "#94a3b8"
                ax.add_patch(plt.Rectangle((m - 0.42, l - 0.42), 0.84, 0.84, color=shade))
    ticks = range(0, size, max(1, size // 8))
    ax.set(xlim=(-0.6, size - 0.4), ylim=(size - 0.4, -0.6), aspect="equal")
    ax.set_xticks(ticks, [t + 1 for t in ticks], fontsize=8)
    ax.set_yticks(ticks, [t + 1 for t in ticks], fontsize=8)
    sns.despine(ax=ax, left=True, bottom=True)
    ax.tick_params(length=0)


def memory_growth(audits: dict, palette: Palette) -> Figure:
    """Saved and live bytes against depth, one line per rule."""
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.4), sharey=True)
    names = {
        "saved_bytes": "saved for a backward pass",
        "live_bytes": "all the step's tensors",
    }
    for ax, (name, title) in zip(axes, names.items(), strict=True):
        for arm, found in audits.items():
            grown = getattr(found, name)
            depths = list(grown)
            sizes = np.array(list(grown.values())) / 1024
            ax.plot(depths, sizes, label=label(arm), **palette(arm))
        ax.set(title=title, xlabel="depth (units)", xticks=depths)
    axes[0].set_ylabel("peak KiB on the probe network")
    axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
