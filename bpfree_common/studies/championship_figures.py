"""The figures of the championship, drawn from the records of the contest's jobs."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from bpfree_common.papers import catalogue
from bpfree_common.studies.championship import TEST, Entrant, Field, front
from bpfree_common.studies.championship_words import depths
from bpfree_common.studies.contest import CONVERGED, EPOCHS, layers
from bpfree_common.studies.contest_networks import BACKPROP, FROZEN
from bpfree_common.studies.marks import band, interval, side_labels, suggest
from bpfree_common.studies.palette import ARMS, family_colour

_MARKERS = dict(zip(catalogue.FAMILIES, "osD^P<>pHh", strict=True))
_OWN = {
    BACKPROP: {"color": ARMS[BACKPROP]["color"], "marker": "|", "ms": 11, "mew": 2},
    FROZEN: {"color": ARMS[FROZEN]["color"], "marker": "v", "ms": 5},
}


_TICKS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 60, 80)  #: of an axis of errors


def _look(entrant: Entrant) -> dict:
    """Colour and marker of an entrant: those of its family, or of textbook backprop."""
    if not entrant.entry:
        return {"color": ARMS["textbook"]["color"], "marker": "s"}
    family = entrant.entry.family
    return {"color": family_colour(family), "marker": _MARKERS[family]}


def _error(values) -> np.ndarray:
    """Test errors in per cent."""
    return 100 * (1 - np.asarray(values))


def _spread(ax, values, y, style: dict, **more) -> None:
    """A mean error with its interval, along x."""
    errors = _error(values)
    low, high = interval(errors)
    if not np.isnan(low):
        ax.plot([max(low, 1e-3), high], [y, y], color=style["color"], lw=1.8)
    ax.plot(
        errors.mean(), y, ls="", **({"ms": 6, "mec": "white", "mew": 0.7} | style | more)
    )


def accuracy_figure(found: Field) -> Figure:
    """Test error of every rule with its own backprop, its own frozen, and textbook's."""
    shown = found.ranked
    figure, ax = plt.subplots(figsize=(7.2, 0.32 * len(shown) + 1.7))
    _textbook_line(ax, found, TEST)
    for y, rule in enumerate(shown):
        for arm, style in _OWN.items():
            _spread(ax, rule.opponent(arm), y, style, mec=style["color"])
        _spread(ax, rule.values(), y, _look(rule), zorder=4)
        text = f"{100 * rule.values().mean():.1f}"
        _beside(ax, y, text)
    _name_rows(ax, shown)
    _error_axis(ax)
    _beside(ax, -0.9, "accuracy")
    figure.legend(handles=_keys(found), loc="outside lower center", ncols=3, fontsize=8)
    alt = "; ".join(
        f"{r.short} {100 * r.values().mean():.1f} %, own backprop "
        f"{100 * r.opponent(BACKPROP).mean():.1f}, own frozen "
        f"{100 * r.opponent(FROZEN).mean():.1f}"
        for r in shown
    )
    return suggest(figure, "", f"Test accuracy after equal passes: {alt}.")


def _textbook_line(ax, found: Field, metric: str) -> None:
    if found.textbook is None or found.textbook.values(metric) is None:
        return
    errors = _error(found.textbook.values(metric))
    low, high = interval(errors)
    if not np.isnan(low):
        ax.axvspan(low, high, color=ARMS["textbook"]["color"], alpha=0.18, lw=0)
    ax.axvline(errors.mean(), color=ARMS["textbook"]["color"], lw=1, ls="--")


def _beside(ax, y: float, text: str) -> None:
    """Text at the right of a row."""
    ax.text(1.01, y, text, transform=ax.get_yaxis_transform(), va="center", fontsize=9)


def _name_rows(ax, shown: list[Entrant]) -> None:
    ax.set_yticks(range(len(shown)), [rule.short for rule in shown])
    for tick, rule in zip(ax.get_yticklabels(), shown, strict=True):
        tick.set_color(_look(rule)["color"])
    ax.set_ylim(len(shown) - 0.5, -0.6)
    ax.tick_params(axis="y", length=0)


def _error_axis(ax) -> None:
    """A logarithmic axis of errors whose better end is right."""
    ax.set_xscale("log")
    low, high = sorted(ax.get_xlim())
    ax.xaxis.set_major_locator(FixedLocator([t for t in _TICKS if low <= t <= high]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_inverted(True)
    ax.set_xlabel("test error, % (logarithmic; right is better)")
    ax.grid(axis="x", alpha=0.3)


def _keys(found: Field) -> list:
    """What the marks of `accuracy_figure` mean."""
    families = dict.fromkeys(rule.entry.family for rule in found.rules)
    keys = [
        plt.Line2D([], [], ls="", marker=_MARKERS[f], color=family_colour(f),
                   label=catalogue.FAMILIES[f]) for f in families
    ]  # fmt: skip
    keys += [
        plt.Line2D([], [], ls="", label=f"its own {arm}", **style)
        for arm, style in _OWN.items()
    ]
    if found.textbook:
        keys.append(plt.Line2D([], [], color=ARMS["textbook"]["color"], ls="--",
                               label="textbook backprop"))  # fmt: skip
    return keys


def convergence_figure(found: Field) -> Figure:
    """From equal passes to own convergence, and how many epochs that took."""
    shown = [r for r in found.rules if r.values(CONVERGED) is not None]
    shown.sort(key=lambda rule: -rule.values(CONVERGED).mean())
    figure, ax = plt.subplots(figsize=(7.2, 0.32 * len(shown) + 1.3))
    _textbook_line(ax, found, CONVERGED)
    for y, rule in enumerate(shown):
        look, base = _look(rule), rule.opponent(BACKPROP, CONVERGED)
        before, after = (_error(rule.values(m)).mean() for m in (TEST, CONVERGED))
        ax.plot([before, after], [y, y], color=look["color"], lw=0.8, alpha=0.6)
        ax.plot(
            before, y, ls="", ms=6, mfc="white", mec=look["color"], marker=look["marker"]
        )
        _spread(ax, base, y, _OWN[BACKPROP], mec=_OWN[BACKPROP]["color"])
        _spread(ax, rule.values(CONVERGED), y, look, zorder=4)
        reached, epochs = 100 * rule.values(CONVERGED).mean(), rule.values(EPOCHS).mean()
        _beside(ax, y, f"{reached:.1f} / {epochs:.0f}")
    _name_rows(ax, shown)
    _error_axis(ax)
    _beside(ax, -0.8, "accuracy / epochs")
    alt = "; ".join(
        f"{r.short} {100 * r.values(CONVERGED).mean():.1f} % after "
        f"{r.values(EPOCHS).mean():.0f} epochs"
        for r in shown
    )
    return suggest(figure, "", f"Test accuracy at own convergence: {alt}.")


def price_figure(found: Field) -> Figure:
    """Error against FLOPs of training and against live bytes, with the Pareto fronts."""
    everyone = [*found.rules, *([found.textbook] if found.textbook else [])]
    prices: dict[str, Callable] = {
        "FLOPs of training, GFLOP": lambda e: e.work() / 1e9,
        "live bytes of a step, KiB": lambda e: e.cost("live_bytes") / 1024,
    }
    figure, axes = plt.subplots(2, 1, figsize=(7.2, 8.2))
    words = []
    for ax, (text, price) in zip(axes, prices.items(), strict=True):
        places = {e.short: (price(e), _height(e.values().mean())) for e in everyone}
        best = front(places)
        _draw_front(ax, [places[name] for name in best])
        for each in everyone:
            _draw_price(ax, each, *places[each.short], edge=each.short in best)
        ax.set_xscale("log")
        ax.set_xlabel(text)
        _plain_ticks(ax)
        ends = ax.get_ylim()
        ticks = [tick for tick in _TICKS if ends[0] < -np.log10(tick) < ends[1]]
        ax.set_yticks([-np.log10(tick) for tick in ticks], ticks)
        ax.set_ylabel("test error, %")
        ax.grid(axis="y", alpha=0.3)
        side_labels(ax, places, {e.short: _look(e)["color"] for e in everyone})
        words.append(f"{text}: the front is {', '.join(best)}")
    return suggest(figure, "", f"Test error against price. {'; '.join(words)}.")


def _height(accuracy: float) -> float:
    """Minus the logarithm of the error in per cent: higher is better."""
    return float(-np.log10(_error(accuracy)))


def _draw_price(ax, each: Entrant, x: float, y: float, edge: bool) -> None:
    """An entrant's point and interval; edge: whether it is on the front."""
    low, high = interval(_error(each.values()))
    if not np.isnan(low):
        ends = -np.log10([max(low, 1e-3), high])
        ax.plot([x, x], ends, color=_look(each)["color"], lw=1.2)
    ax.plot(x, y, ls="", ms=7, mec="black" if edge else "white", mew=1.1, zorder=4,
            **_look(each))  # fmt: skip


def _draw_front(ax, points: list[tuple[float, float]]) -> None:
    """The best error that a price buys, as a step line."""
    x, y = np.transpose(points)
    ax.step([*x, 1.3 * x[-1]], [*y, y[-1]], where="post", color="#444444", lw=1, ls=":")


def _plain_ticks(ax) -> None:
    """Ticks at 1, 2, 5 times powers of ten, as plain numbers."""
    low, high = ax.get_xlim()
    parts = (1, 1.5, 2, 3, 4, 5, 6, 8) if high < 10 * low else (1, 2, 5)
    ticks = [m * 10.0**n for n in range(-4, 7) for m in parts]
    ax.xaxis.set_major_locator(FixedLocator([t for t in ticks if low < t < high]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter("{x:g}")


def depth_figure(found: Field) -> Figure:
    """Accuracy against depth, a panel per rule over the same three opponents."""
    shown = [r for r in found.ranked if depths(r)]
    columns = 4
    rows = -(-len(shown) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(7.6, 1.65 * rows + 0.7),
                                sharex=True, sharey=True, squeeze=False)  # fmt: skip
    words = []
    for ax, rule in zip(axes.flat, shown, strict=False):
        x = depths(rule)
        for arm, values in _references(found, x).items():
            band(ax, x, values, ARMS[arm] | {"marker": "", "lw": 1.1})
        runs = 100 * np.array([rule.values(layers(count)) for count in x]).T
        band(ax, x, runs, _look(rule))
        ax.set_title(rule.short, color=_look(rule)["color"], fontsize=9)
        words.append(f"{rule.short} {runs[:, 0].mean():.0f} to {runs[:, -1].mean():.0f}")
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_locator(FixedLocator(x))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_locator(NullLocator())
    for ax in axes.flat[len(shown) :]:
        ax.set_visible(False)
    for ax in axes.flat[max(len(shown) - columns, 0) : len(shown)]:
        ax.tick_params(labelbottom=True)
    axes.flat[0].set_ylim(0, 100)
    figure.supxlabel("layers, the read-out included", fontsize=9)
    figure.supylabel("test accuracy, %", fontsize=9)
    keys = [plt.Line2D([], [], label=words_, **(ARMS[arm] | {"marker": ""}))
            for arm, words_ in _REFERENCES.items()]  # fmt: skip
    figure.legend(handles=keys, loc="outside upper center", ncols=3, fontsize=8)
    return suggest(figure, "", f"Test accuracy by depth: {'; '.join(words)} %.")


_REFERENCES = {
    "textbook": "textbook backprop (ReLU, He)",
    BACKPROP: "backprop (tanh, LeCun)",
    FROZEN: "frozen (ReLU, He)",
}


def _references(found: Field, x: list[int]) -> dict[str, np.ndarray]:
    """Accuracies in per cent of the lines that every panel repeats, (seeds, depths)."""
    sources = {"textbook": ("textbook", BACKPROP), BACKPROP: ("tanh", BACKPROP),
               FROZEN: ("textbook", FROZEN)}  # fmt: skip
    lines = {}
    for key, (name, arm) in sources.items():
        ground = found.grounds.get(name)
        values = [ground.values(layers(n), arm) for n in x] if ground else [None]
        if all(v is not None for v in values):
            lines[key] = 100 * np.array(values).T
    return lines
