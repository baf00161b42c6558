"""Colours, dashes and markers: the same thing looks the same in every figure.

Every two family colours, and every two arm colours, differ by a CIEDE2000 distance of at
least 10 for normal, deuteranope and protanope eyes, and each stands out from white by 3:1
(held by tests). Lines differ by dash and marker too, so that grey paper keeps them apart.
"""

import matplotlib as mpl
import pandas as pd
import seaborn as sns

from bpfree_common.papers import catalogue

METHOD_COLOUR = "#c2410c"  #: the paper's own method, in its own notebook

#: The opponents that many notebooks share.
ARMS = {
    "backprop": {"color": "#1a1a1a", "linestyle": "-", "marker": "o"},
    "textbook": {"color": "#203b56", "linestyle": "--", "marker": "s"},
    "frozen": {"color": "#8a8a8a", "linestyle": ":", "marker": "v"},
    "deep supervision": {"color": "#14766d", "linestyle": "-.", "marker": "P"},
    "sign-SGD": {"color": "#7a3aed", "linestyle": (0, (5, 1)), "marker": "X"},
    "backprop, checkpointing": {
        "color": "#56534f",
        "linestyle": (0, (4, 2)),
        "marker": "d",
    },
    "backprop, accumulation": {
        "color": "#836651",
        "linestyle": (0, (1, 1.5)),
        "marker": "h",
    },
}
#: For the arms of one notebook alone, in the order in which they are first drawn.
VARIANTS = ["#3787bd", "#d02793", "#738f56", "#b88713", "#5c2a8b"]
_DASHES = ["--", "-.", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1)), (0, (6, 2, 2, 2))]
_MARKERS = ["^", "D", "p", "<", ">", "*", "H"]

FAMILIES = dict(
    zip(
        catalogue.FAMILIES,
        (
            "#0369a1",
            "#bc3b03",
            "#1a8d6b",
            "#a20351",
            "#8b5cf6",
            "#12808a",
            "#65a20f",
            "#6d2e07",
            "#7c6a45",
            "#22407c",
        ),
        strict=True,
    )
)

#: Cells of an audit table: the more of it a rule uses, the darker. Text on them is black.
GRADES = {"none": "#d0eadb", "part": "#ecbb55", "full": "#d0703a", "undefined": "#ffffff"}

_LOOK = {
    "figure.dpi": 110,
    "savefig.dpi": 110,
    "figure.figsize": (6.8, 3.8),
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": "medium",
    "axes.titlelocation": "left",
    "axes.labelsize": "medium",
    "legend.frameon": False,
    "lines.markersize": 4.5,
    "lines.linewidth": 1.7,
    "svg.hashsalt": "bpfree",
    "svg.fonttype": "none",
}

_TABLES = {
    "display.max_columns": 20,
    "display.max_rows": 60,
    "display.max_colwidth": None,
    "display.width": 120,
    "display.precision": 4,
    "display.notebook_repr_html": True,
}


def use_style() -> None:
    """Set the look of figures and tables, whatever was set before.

    A user's matplotlibrc and the order of imports change nothing: matplotlib starts
    from its own defaults, and what pandas guesses from the terminal is stated.
    """
    mpl.rcdefaults()
    sns.set_theme(context="notebook", style="ticks", palette=VARIANTS, font_scale=0.92)
    mpl.rcParams.update(_LOOK)
    for option, value in _TABLES.items():
        pd.set_option(option, value)


class Palette:
    """Line styles by arm: fixed for the opponents and the method, in order for others.

    method: the slug (or the name) of the paper's own arm.
    """

    def __init__(self, method: str):
        self._styles = dict(ARMS)
        self._styles[method] = {"color": METHOD_COLOUR, "linestyle": "-", "marker": "o"}
        self._variants = 0

    def __call__(self, arm: str) -> dict:
        """Keyword arguments for `plot`: color, linestyle, marker."""
        if arm not in self._styles:
            n = self._variants
            self._variants += 1
            self._styles[arm] = {
                "color": VARIANTS[n % len(VARIANTS)],
                "linestyle": _DASHES[n % len(_DASHES)],
                "marker": _MARKERS[n % len(_MARKERS)],
            }
        return dict(self._styles[arm])


def label(arm: str) -> str:
    """How an arm is called in a figure: the short name of a paper, else its own name."""
    known = catalogue.load()
    return known[arm].short if arm in known else arm


def family_colour(family: str) -> str:
    """The colour of a family of papers, where many papers share a figure."""
    return FAMILIES[family]
