"""The plots of trained arms that every notebook shares.

Each returns a Figure that carries `caption` and `alt`, suggestions for `Study.figure`.
Values come as plain data, arm -> one value per seed: records draw as well as runs do.
Intervals are 95 % t-intervals over seeds; with one seed there is none, and none is drawn.
"""

from collections.abc import Callable, Iterable, Mapping

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator

from bpfree_common.studies.marks import (
    band,
    interval,
    seeds_words,
    side_labels,
    spoken,
    suggest,
)
from bpfree_common.studies.palette import Palette, label

EDGE = "at the edge of its grid"
_WIDTH = 6.8  #: inches: 748 pixels, which GitHub and the site show unshrunk


def learning_curves(
    runs: Mapping[str, Iterable], palette: Palette, key: str = "validation", ax=None
) -> Figure:
    """A column of the histories against the epoch, one line per arm.

    runs: arm -> one history per seed, or objects with a `history`; a history is a list of
    rows, dicts with `epoch` and, where it was measured, `key`. Also a Comparison.
    """
    runs = getattr(runs, "runs", runs)
    figure, ax = (
        (ax.figure, ax) if ax is not None else plt.subplots(figsize=(_WIDTH, 3.6))
    )
    drawn, colours = {}, {}
    for arm, of_arm in runs.items():
        rows = [[r for r in getattr(run, "history", run) if key in r] for run in of_arm]
        if not all(rows):
            continue
        values = np.array([[row[key] for row in run] for run in rows], float)
        epochs, name = [row["epoch"] for row in rows[0]], label(arm)
        style = palette(arm) | ({"marker": ""} if len(runs) > 5 else {})
        band(ax, epochs, values, style, name)
        drawn[name], colours[name] = (epochs, values), style["color"]
    measure = f"{key} accuracy" if key == "validation" else key
    ax.set(xlabel="epoch", ylabel=measure)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if drawn and "accuracy" in measure:
        _close_up(ax, [values for _, values in drawn.values()])
    _name_ends(ax, drawn, colours)
    words = [f"{n} ends at {spoken(v[:, -1], digits=3)}" for n, (_, v) in drawn.items()]
    seeds = seeds_words(len(values) for _, values in drawn.values())
    caption = f"{measure.capitalize()} during training; {seeds}."
    return suggest(figure, caption, f"{measure} against the epoch: {'; '.join(words)}.")


def _close_up(ax, runs: list[np.ndarray]) -> None:
    """Show where the arms differ: the first epochs and stragglers may leave the axis."""
    low, _ = _window([values[:, -1] for values in runs])
    near = [values for values in runs if values[:, -1].mean() >= low]
    later = [np.nanmin(values[:, values.shape[1] // 4 :]) for values in near]
    low = min([low, *later])
    if low > ax.get_ylim()[0]:
        ax.set_ylim(bottom=low)


def _name_ends(ax, drawn: Mapping, colours: Mapping) -> None:
    """Name every line where it ends; one that left the axis is named at its border."""
    low, _ = ax.get_ylim()
    places, shades = {}, {}
    for name, (x, values) in drawn.items():
        end = values[:, -1].mean()
        text = name if end >= low else f"{name} \N{DOWNWARDS ARROW} {end:.3g}"
        text = text if np.isfinite(end) else f"{name} diverged"
        height = end if end >= low else low
        places[text], shades[text] = (x[-1], height), colours[name]
    side_labels(ax, places, shades)


def points(
    arms: Mapping[str, Iterable[float]],
    palette: Palette,
    measure: str = "test accuracy",
    unit: str = "%",
    edges: Iterable[str] = (),
    reference: str = "backprop",
) -> Figure:
    """Every arm's mean as a point with its interval and its number; seeds are pale dots.

    arms: arm -> one value per seed, in `unit`, drawn in this order from above. The axis
    shows the differences between the arms: one that lies far off is drawn at the border
    with an arrow. edges: arms whose tuned rate lies at the edge of its grid: ``*``.
    reference: an arm through whose mean a line runs, if it is there.
    """
    data = {arm: np.atleast_1d(np.asarray(v, float)) for arm, v in arms.items()}
    low, high = _window(list(data.values()))
    figure, ax = plt.subplots(figsize=(_WIDTH, 0.36 * len(data) + 1.0))
    ax.set(xlim=(low, high), ylim=(len(data) - 0.5, -0.5))
    edges = set(edges)
    if reference in data and low <= data[reference].mean() <= high:
        ax.axvline(data[reference].mean(), color="#1a1a1a", lw=0.8, alpha=0.35, zorder=0)
    for row, (arm, values) in enumerate(data.items()):
        _point(ax, row, values, palette(arm), low)
        number = spoken(values) + (" *" if arm in edges else "")
        ax.text(1.02, row, number, transform=ax.get_yaxis_transform(), va="center",
                fontsize=9.5)  # fmt: skip
    ax.set_yticks(range(len(data)), [label(arm) for arm in data])
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(f"{measure}, {unit}" if unit else measure)
    sns.despine(ax=ax, left=True)
    seeds = seeds_words(map(len, data.values()))
    star = f" *: its rate is {EDGE}." if edges & set(data) else ""
    alt = "; ".join(
        f"{label(arm)} {spoken(values, unit)}" for arm, values in data.items()
    )
    caption = f"{measure.capitalize()} of every arm; {seeds}.{star}"
    return suggest(figure, caption, f"{measure}: {alt}.{star}")


def _window(data: list[np.ndarray]) -> tuple[float, float]:
    """An axis on which the better half of the arms can be told apart."""
    data = [values for values in data if np.isfinite(values).all()]
    if not data:
        return 0.0, 1.0
    ends = [(v.min(), v.max(), *interval(v)) for v in data]
    means = np.array([v.mean() for v in data])
    better = np.sort(means)[-max(2, (len(means) + 1) // 2) :]
    spread = np.median([np.nanmax(e) - np.nanmin(e) for e in ends])
    near = max(np.ptp(better), spread, 2e-3 * abs(means).max(), 1e-9)
    shown = means >= means.max() - 5 * near
    low = min(np.nanmin(e) for e, seen in zip(ends, shown, strict=True) if seen)
    high = max(np.nanmax(e) for e in ends)
    pad = 0.06 * max(high - low, 1e-3 * abs(low), 1e-9)
    return low - pad * (1 if shown.all() else 2.5), high + pad


def _point(ax, row: int, values: np.ndarray, style: dict, low: float) -> None:
    """One arm's mean, interval and seeds, or an arrow if it lies left of the axis."""
    colour, mean = style["color"], values.mean()
    if not np.isfinite(mean):
        return
    if mean < low:
        span = np.diff(ax.get_xlim())[0]
        ax.annotate("", (low, row), (low + 0.05 * span, row),
                    arrowprops={"arrowstyle": "-|>", "color": colour})  # fmt: skip
        return
    bottom, top = interval(values)
    if len(values) > 1:
        ax.plot(values, [row] * len(values), "o", color=colour, ms=3.5, alpha=0.3, mew=0)
        ax.plot([bottom, top], [row, row], color=colour, lw=2, solid_capstyle="butt")
    ax.plot(mean, row, style["marker"], color=colour, ms=7, mec="white", mew=0.8)


def sweep(
    x: Iterable[float],
    arms: Mapping[str, Iterable],
    palette: Palette,
    xlabel: str,
    ylabel: str,
    logx: bool = False,
    logy: bool = False,
    ax=None,
) -> Figure:
    """A measure against a parameter, one line per arm with its interval.

    x: the parameter's values, ascending. arms: arm -> (points, seeds), or (points,).
    """
    x = list(x)
    figure, ax = (
        (ax.figure, ax) if ax is not None else plt.subplots(figsize=(_WIDTH, 3.6))
    )
    drawn, colours, words = {}, {}, []
    for arm, values in arms.items():
        runs = np.asarray(values, float).reshape(len(x), -1).T
        style, name = palette(arm), label(arm)
        band(ax, x, runs, style, name)
        drawn[name], colours[name] = (x, runs), style["color"]
        first, last = (f"{runs[:, i].mean():.4g}" for i in (0, -1))
        words.append(f"{name} from {first} to {last}")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    _scales(ax, x, logx, logy)
    _name_ends(ax, drawn, colours)
    seeds = seeds_words(len(runs) for _, runs in drawn.values())
    caption = f"{ylabel.capitalize()} against {xlabel}; {seeds}."
    alt = f"{ylabel} as {xlabel} goes from {x[0]:g} to {x[-1]:g}: {'; '.join(words)}."
    return suggest(figure, caption, alt)


def _scales(ax, x: list[float], logx: bool, logy: bool) -> None:
    """Logarithmic axes, with a tick at every value of the parameter that was tried."""
    if logy:
        ax.set_yscale("log")
    if logx:
        ax.set_xscale("log")
    if len(x) <= 9:
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xticks(x, [f"{value:g}" for value in x])


def depths(
    x: Iterable[int], arms: Mapping[str, Iterable], palette: Palette, ylabel: str
) -> Figure:
    """`sweep` over the number of layers, on a doubling axis."""
    return sweep(x, arms, palette, "depth (layers)", ylabel, logx=True)


def rate_curves(
    tuning: Mapping[str, dict], palette: Palette, measure: str = "validation"
) -> Figure:
    """What the tuner saw: the measure against the learning rate, one line per arm.

    tuning: a Comparison, or arm -> ``{"settings": [{"hyper": {"lr": ...}, measure: ...},
    ...], "chosen": {"lr": ...}, "at_edge": bool}``, as records keep it; of settings that
    share a rate the best counts.
    A ring marks the chosen rate, a cross one that lies at the edge of its grid.
    """
    if arms := getattr(tuning, "arms", None):
        tuning = {arm: tuned.as_dict() for arm, tuned in arms.items()}
    figure, ax = plt.subplots(figsize=(_WIDTH, 3.6))
    drawn, colours, words, near = {}, {}, [], []
    for arm, found in tuning.items():
        rates, values = _best_by_rate(found["settings"], measure)
        name, style, chosen = label(arm), palette(arm), found["chosen"]["lr"]
        if chosen not in rates:
            words.append(f"{name} diverged at every rate")
            continue
        ax.plot(rates, values, **style)
        at, edge = rates.index(chosen), bool(found["at_edge"])
        mark = {"marker": "x", "mew": 2.2} if edge else {"marker": "o"}
        ax.plot(chosen, values[at], ls="", ms=11, mfc="none", mec=style["color"], **mark)
        near += values[max(0, at - 1) : at + 2]
        drawn[name], colours[name] = (rates, np.array([values])), style["color"]
        words.append(f"{name} is best at {chosen:g}{f', {EDGE}' if edge else ''}")
    ax.set(xscale="log", xlabel="learning rate", ylabel=f"{measure} accuracy")
    if near:  # what collapses at far too large a rate may leave the axis
        low, high = min(near), ax.get_ylim()[1]
        ax.set_ylim(bottom=max(ax.get_ylim()[0], low - 1.5 * (high - low)))
    _name_ends(ax, drawn, colours)
    cross = " Cross: the chosen rate lies at the edge of its grid."
    cross = cross if any(found["at_edge"] for found in tuning.values()) else ""
    caption = f"What the tuner saw. Ring: the rate chosen for the arm.{cross}"
    return suggest(figure, caption, f"{measure} against the rate: {'; '.join(words)}.")


def _best_by_rate(settings: list[dict], measure: str) -> tuple[list[float], list[float]]:
    """Ascending rates, and the best finite value that any setting with each reached."""
    best: dict[float, float] = {}
    for setting in settings:
        lr, value = setting["hyper"]["lr"], setting[measure]
        value = float("-inf") if value is None or value != value else value
        best[lr] = max(value, best.get(lr, float("-inf")))
    rates = sorted(rate for rate, value in best.items() if np.isfinite(value))
    return rates, [best[rate] for rate in rates]


def heatmap(
    values,
    x: Iterable,
    y: Iterable,
    xlabel: str,
    ylabel: str,
    measure: str,
    format: Callable[[float], str] = "{:.3g}".format,
) -> Figure:
    """A measure over two parameters, written into its cells. values: (len(y), len(x))."""
    values, x, y = np.asarray(values, float), list(x), list(y)
    figure, ax = plt.subplots(figsize=(0.62 * len(x) + 2.2, 0.42 * len(y) + 1.2))
    words = np.vectorize(format, otypes=[object])(values)
    sns.heatmap(values, annot=words, fmt="", cmap="cividis", ax=ax, linewidths=1,
                xticklabels=x, yticklabels=y, cbar_kws={"label": measure})  # fmt: skip
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.tick_params(length=0)
    ax.tick_params(axis="y", rotation=0)
    best = np.unravel_index(np.nanargmax(values), values.shape)
    alt = (
        f"{measure} over {xlabel} and {ylabel}: from {format(np.nanmin(values))} to "
        f"{format(np.nanmax(values))}, highest at {xlabel} {x[best[1]]}, "
        f"{ylabel} {y[best[0]]}."
    )
    return suggest(figure, f"{measure.capitalize()} over {xlabel} and {ylabel}.", alt)
