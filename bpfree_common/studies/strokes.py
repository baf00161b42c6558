"""The strokes of which schematics of credit are drawn, in units of one layer's distance.

Colour never speaks alone: activity is thin and ink, credit is thick and orange; a blue
frame learns, a hatched grey one is fixed; what passes through fixed weights is dashed.
"""

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, Ellipse, FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path
from matplotlib.textpath import TextPath

from bpfree_common.studies.palette import METHOD_COLOUR

INK, CREDIT, LEARNS, FIXED = "#1a1a1a", METHOD_COLOUR, "#1d4ed8", "#6b7280"
FRAME = {"learned": LEARNS, "fixed": FIXED, "plain": INK}
GROUND = {"learned": "#e8eefc", "fixed": "#f3f4f6", "plain": "white"}
DASH = {"own": "-", "learned": "-", "fixed": (0, (2.6, 1.5)), "scalar": (0, (0.9, 1.1))}
_HEAD = 0.16  #: length of an arrow head
_BEND = 0.13  #: radius of a rounded corner


class Canvas:
    """Draws on `ax` and remembers how far the drawing reaches.

    scale: inches per unit, to which text and line widths are fitted.
    """

    def __init__(self, ax, scale: float):
        self.ax, self.size = ax, scale / 0.62
        self._reach = []

    def limits(self, margin: float = 0.1) -> tuple[float, float, float, float]:
        """Left, right, bottom and top of all that was drawn."""
        low, high = np.min(self._reach, 0), np.max(self._reach, 0)
        return low[0] - margin, high[0] + margin, low[1] - margin, high[1] + margin

    def text(self, x, y, words, colour=INK, points=9.0, ha="center", **options) -> None:
        """Words; several lines are kept apart by line breaks."""
        options = {"va": "center", "zorder": 6} | options
        size = points * self.size
        self.ax.text(x, y, words, color=colour, fontsize=size, ha=ha, **options)
        width, tall = extent(words, points, options.get("weight", "normal"))
        if options.get("rotation"):
            width, tall = tall, width
        left = {"center": x - width / 2, "left": x, "right": x - width}[ha]
        low = y if options["va"] == "bottom" else y - tall / 2
        self._reach += [(left, low), (left + width, low + tall)]

    def box(self, x, y, words, kind="learned", width=0.92, height=0.4, points=9.5):
        """A layer or a matrix: blue frame if it learns, hatched grey if it is fixed."""
        corner = (x - width / 2, y - height / 2)
        style = "round,pad=0,rounding_size=0.09"
        for ground, hatch in ((GROUND[kind], None), ("none", "////")):
            if ground == "none" and kind != "fixed":
                continue
            self.ax.add_patch(
                FancyBboxPatch(corner, width, height, boxstyle=style, fc=ground,
                               ec="#c3c7cf" if hatch else FRAME[kind], hatch=hatch,
                               lw=0 if hatch else 1.6 * self.size, zorder=4)
            )  # fmt: skip
        frame = FancyBboxPatch(corner, width, height, boxstyle=style, fc="none",
                               ec=FRAME[kind], lw=1.6 * self.size, zorder=5)  # fmt: skip
        self.ax.add_patch(frame)
        back = {"boxstyle": "round,pad=0.12", "fc": GROUND[kind], "ec": "none"}
        self.text(x, y, words, points=points, bbox=back if kind == "fixed" else None)
        self._reach += [corner, (x + width / 2, y + height / 2)]

    def copy(self, x, y, kind="learned", width=0.92, height=0.4) -> None:
        """The frame of a further layer of the same kind, behind all else."""
        style = "round,pad=0,rounding_size=0.09"
        frame = FancyBboxPatch((x - width / 2, y - height / 2), width, height,
                               boxstyle=style, fc="white", ec=FRAME[kind],
                               lw=0.9 * self.size, alpha=0.6, zorder=2 - x)  # fmt: skip
        self.ax.add_patch(frame)
        self._reach += [(x + width / 2, y + height / 2)]

    def ring(self, x, y, words, radius=0.22) -> None:
        """Where a loss, a goodness or an error is read."""
        self.ax.add_patch(
            Circle((x, y), radius, fc="white", ec=CREDIT, lw=1.7 * self.size, zorder=4)
        )
        self.text(x, y, words, CREDIT, 9)
        self._reach += [(x - radius, y - radius), (x + radius, y + radius)]

    def activity(self, *points, second=False, head=True) -> None:
        """An arrow of activity; the second pass is dotted, and its head is hollow."""
        dash = (0, (1, 1.2)) if second else "-"
        self._arrow(points, INK, 1.3, dash, head, hollow=second)

    def credit(self, *points, kind="own", head=True) -> None:
        """An arrow of credit; kind: a key of `DASH`."""
        self._arrow(points, CREDIT, 2.1, DASH[kind], head)

    def _arrow(self, points, colour, width, dash, head, hollow=False) -> None:
        points = np.array(points, float)
        tip, way = points[-1].copy(), points[-1] - points[-2]
        way /= np.linalg.norm(way)
        if head:
            points[-1] = tip - way * _HEAD * 0.9
            side = np.array([-way[1], way[0]]) * _HEAD * 0.42
            base = tip - way * _HEAD
            fill = "white" if hollow else colour
            self.ax.add_patch(Polygon([tip, base + side, base - side], fc=fill, ec=colour,
                                      lw=0.8 * self.size, zorder=3.5))  # fmt: skip
        self.ax.add_patch(PathPatch(_rounded(points), fc="none", ec=colour, ls=dash,
                                    lw=width * self.size, zorder=3))  # fmt: skip
        self._reach += [tuple(p) for p in points] + [tuple(tip)]

    def cut(self, x, y, width=0.36) -> None:
        """A bar across activity: it passes, no gradient comes back."""
        for lift in (-0.045, 0.045):
            bar = {"color": FIXED, "lw": 1.7 * self.size, "solid_capstyle": "butt"}
            ends = [x - width / 2, x + width / 2]
            self.ax.plot(ends, [y + lift] * 2, zorder=3.8, **bar)
        self.ax.add_patch(Polygon([(x - 0.06, y - 0.03), (x + 0.06, y - 0.03),
                                   (x + 0.06, y + 0.03), (x - 0.06, y + 0.03)],
                                  fc="white", ec="none", zorder=3.7))  # fmt: skip

    def die(self, x, y, half=0.13) -> None:
        """Noise or a random direction."""
        style = "round,pad=0,rounding_size=0.06"
        self.ax.add_patch(FancyBboxPatch((x - half, y - half), 2 * half, 2 * half, fc=INK,
                                         boxstyle=style, ec=INK, zorder=4))  # fmt: skip
        for shift in (-0.5, 0, 0.5):
            place = (x + shift * half, y + shift * half)
            self.ax.add_patch(Circle(place, half * 0.2, fc="white", ec="none", zorder=5))
        self._reach += [(x - half, y - half), (x + half, y + half)]

    def store(self, x, y, half=0.14) -> None:
        """State kept from step to step."""
        edge = {"ec": INK, "lw": 1.1 * self.size}
        low = y - half * 0.7
        sides = Path([(x - half, y + half * 0.7), (x - half, low), (x, low - half * 0.55),
                      (x + half, low), (x + half, y + half * 0.7)],
                     [Path.MOVETO, Path.LINETO, Path.CURVE3, Path.CURVE3,
                      Path.LINETO])  # fmt: skip
        self.ax.add_patch(PathPatch(sides, fc="white", zorder=4, **edge))
        lid = Ellipse((x, y + half * 0.7), 2 * half, half * 0.6, fc="white", zorder=5)
        lid.set(**edge)
        self.ax.add_patch(lid)
        self._reach += [(x - half, y - half), (x + half, y + half)]


def extent(words: str, points: float, weight: str = "normal") -> tuple[float, float]:
    """Width and height of words set at `points`, in units."""
    font = FontProperties(family="DejaVu Sans", weight=weight)
    lines = [line for line in words.split("\n") if line.strip()]
    wide = [
        TextPath((0, 0), line, points, prop=font).get_extents().width for line in lines
    ]
    return max(wide, default=0) / 72 / 0.62, 1.3 * points * len(lines) / 72 / 0.62


def _rounded(points: np.ndarray) -> Path:
    """A line through `points` whose corners are rounded."""
    places, codes = [points[0]], [Path.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        for there, code in ((before, Path.LINETO), (after, Path.CURVE3)):
            away = there - corner
            length = np.linalg.norm(away)
            near = corner + away * min(_BEND, length / 2) / length
            places += [near] if code == Path.LINETO else [corner, near]
            codes += [code] if code == Path.LINETO else [code, code]
    return Path([*places, points[-1]], [*codes, Path.LINETO])


_SPOKEN = {
    r"\top": " transposed", r"\epsilon": "epsilon", r"\varepsilon": "epsilon",
    r"\Delta": "delta", r"\tilde": "noisy ", r"\hat": "estimated ",
    r"\pm": "plus or minus ",
    r"\sigma": "sigma", r"\delta": "delta", r"\,": " ", r"\cdot": " times ",
    r"\nabla": "gradient of ", r"\theta": "theta", r"\neq": " not equal to ",
}  # fmt: skip


def plain(words: str) -> str:
    """Mathtext as one reads it aloud: no dollar signs, braces or commands."""
    for command, spoken in _SPOKEN.items():
        words = words.replace(command, spoken)
    for sign in ("$", "\\mathrm", "\\", "{", "}", "^", "_"):
        words = words.replace(sign, "")
    return words
