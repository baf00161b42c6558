"""What the credit audit found, drawn: whose weights a unit's change used, and memory."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from bpfree_common.studies.marks import side_labels, suggest
from bpfree_common.studies.palette import GRADES, METHOD_COLOUR, Palette, label

_PALE, _MARK = "#94a3b8", "#767676"
_ROWS = {"dependence": "depends on", "transport": "uses weights of"}
_WORDS = {"dependence": "depends on the weights", "transport": "transports the weights"}


def audit_matrices(audits: Mapping, *, reference: str = "backprop") -> Figure:
    """Dependence and weight transport of each rule; row l: whose weights unit l used.

    audits: arm -> an object with square matrices `dependence` and `transport` (NaN where
    not defined). An arm whose matrices say the same as the reference's is named in the
    caption and not drawn again.
    """
    same, shown = _equal_to(audits, reference)
    figure, axes = plt.subplots(
        2, len(shown), figsize=(max(1.7 * len(shown) + 0.9, 3.2), 4.3), squeeze=False
    )
    for column, (arm, found) in enumerate(shown.items()):
        for line, (name, words) in enumerate(_ROWS.items()):
            ax = axes[line, column]
            _matrix(ax, np.array(getattr(found, name), float))
            title = label(arm).replace(", ", ",\n") if line == 0 else ""
            ax.set_title(title, fontsize=9.5, loc="center")
            ax.set_xlabel("unit m" if line == 1 else "", fontsize=9)
            side = f"{name}\nunit l {words} m" if column == 0 else ""
            ax.set_ylabel(side, fontsize=9)
    alt = " ".join(_read(label(arm), found) for arm, found in shown.items())
    for name in same:
        alt += f" {name}: as {reference}."
    return suggest(figure, _caption(shown, same, reference), alt)


def _signs(found) -> tuple:
    """Where the two matrices are zero, not zero and undefined."""
    values = [np.array(getattr(found, name), float) for name in _ROWS]
    return tuple(
        np.where(np.isnan(v), 2, v != 0).tobytes() + bytes(v.shape) for v in values
    )


def _equal_to(audits: Mapping, reference: str) -> tuple[list[str], dict]:
    """Labels of the arms that say the same as the reference, and the audits to draw."""
    if reference not in audits:
        return [], dict(audits)
    base = _signs(audits[reference])
    same = [arm for arm in audits if arm != reference and _signs(audits[arm]) == base]
    shown = {arm: found for arm, found in audits.items() if arm not in same}
    return [label(arm) for arm in same], shown


def _caption(shown: dict, same: list[str], reference: str) -> str:
    parts = [
        "Whose weights each unit's change depends on (above) and whose it uses although "
        "no forward pass shows them (below). Square: it does; orange where unit m comes "
        "later in the forward pass; dot: it does not."
    ]
    matrices = [np.array(getattr(a, n), float) for a in shown.values() for n in _ROWS]
    if any(np.isnan(matrix).any() for matrix in matrices):
        parts.append("x: not defined.")
    if same:
        verb = "says" if len(same) == 1 else "say"
        names = " and ".join(f'"{name}"' for name in same)
        parts.append(f"{names} {verb} the same as {reference}: not drawn again.")
    return " ".join(parts)


def _read(name: str, found) -> str:
    """The two matrices of one rule as a sentence."""
    parts = []
    for key, words in _WORDS.items():
        values = np.array(getattr(found, key), float)
        later = values[np.triu_indices(len(values), 1)]
        if np.isnan(later).all():
            parts.append(f"whether a unit {words} of later ones is not defined")
            continue
        known = later[~np.isnan(later)] != 0
        many = "every" if known.all() else "some" if known.any() else "no"
        parts.append(f"{many} unit {words} of later ones")
    return f"{name}: {', '.join(parts)}."


def _matrix(ax, values: np.ndarray) -> None:
    """Filled square: the change depends; dot: it does not; x: not defined."""
    size = len(values)
    for (l, m), value in np.ndenumerate(values):
        if np.isnan(value):
            ax.plot(m, l, "x", color=_MARK, markersize=5)
        elif value == 0:
            ax.plot(m, l, ".", color=_MARK, markersize=3)
        else:
            shade = METHOD_COLOUR if m > l else _PALE
            ax.add_patch(plt.Rectangle((m - 0.42, l - 0.42), 0.84, 0.84, color=shade))
    ticks = range(0, size, max(1, size // 8))
    ax.set(xlim=(-0.6, size - 0.4), ylim=(size - 0.4, -0.6), aspect="equal")
    ax.set_xticks(ticks, [t + 1 for t in ticks], fontsize=8)
    ax.set_yticks(ticks, [t + 1 for t in ticks], fontsize=8)
    sns.despine(ax=ax, left=True, bottom=True)
    ax.tick_params(length=0)


def memory_growth(audits: Mapping, palette: Palette) -> Figure:
    """Live bytes of a step against depth, one line per rule, both axes doubling.

    audits: arm -> an object with `live_bytes`, depth -> peak bytes. A horizontal line is
    memory that does not grow; lines that lie on each other are both named at the right.
    """
    figure, ax = plt.subplots(figsize=(6.2, 3.8))
    ends, colours, words = {}, {}, []
    for arm, found in audits.items():
        depths = [int(depth) for depth in found.live_bytes]
        sizes = np.array(list(found.live_bytes.values()), float) / 1024
        if not sizes.all():  # nothing has no place on a doubling axis
            words.append(f"{label(arm)} keeps nothing alive")
            continue
        style = palette(arm)
        ax.plot(depths, sizes, **style)
        ends[label(arm)], colours[label(arm)] = (depths[-1], sizes[-1]), style["color"]
        growth = sizes[-1] / sizes[0]
        words.append(f"{label(arm)} {growth:.1f} times from {depths[0]} to {depths[-1]}")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.set(xlabel="depth (units)", ylabel="peak live KiB of a step")
    if ends:
        _plain_ticks(ax, depths)
    side_labels(ax, ends, colours)
    caption = (
        "Peak bytes that one step keeps alive against depth, on the probe network; both "
        "axes double. A level line is memory that depth does not cost."
    )
    nothing = [f'"{label(arm)}"' for arm in audits if label(arm) not in ends]
    if nothing:
        caption += f" Not drawn, since it keeps nothing alive: {', '.join(nothing)}."
    alt = f"Growth of live bytes with depth: {'; '.join(words)}."
    return suggest(figure, caption, alt)


def _plain_ticks(ax, depths: list[int]) -> None:
    """Numbers instead of powers, at every depth measured and every doubling of size."""
    low, high = ax.get_ylim()
    sizes = 2.0 ** np.arange(np.ceil(np.log2(low)), np.floor(np.log2(high)) + 1)
    sizes = sizes if len(sizes) > 1 else np.array([low, (low * high) ** 0.5, high])
    for axis, ticks in ((ax.xaxis, depths), (ax.yaxis, sizes)):
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
        axis.set_ticks(ticks, [f"{tick:.3g}" for tick in ticks])


#: Audited words by how much of backpropagation's machinery they admit.
_GRADE = {
    "none": "none",
    "flat": "none",
    "part": "part",
    "full": "full",
    "linear": "full",
}


def grade(value) -> str:
    """The colour of an audited property: the more of it a rule uses, the darker.

    value: one of the audit's words (`none`, `flat`, `part`, `full`, `linear`), a count
    (0 is `none`, less than one per step is `part`), or anything else for undefined.
    """
    if isinstance(value, int | float) and value == value:
        return GRADES["none" if value == 0 else "part" if 0 < value < 1 else "full"]
    return GRADES[_GRADE.get(value, "undefined")]
