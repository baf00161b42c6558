"""Figures: the look, the shared plots, and how pictures are kept and shown.

The front door to `palette` (colours and style), `images` (files and cell outputs),
`marks` and `plots` (trained arms) and `audit_plots` (what the credit audit found).
"""

from bpfree_common.studies.audit_plots import audit_matrices, grade, memory_growth
from bpfree_common.studies.images import (
    WIDEST,
    compact,
    picture,
    pictures,
    render,
    save,
)
from bpfree_common.studies.marks import band, interval, side_labels, spoken
from bpfree_common.studies.palette import (
    ARMS,
    FAMILIES,
    GRADES,
    METHOD_COLOUR,
    VARIANTS,
    Palette,
    family_colour,
    label,
    use_style,
)
from bpfree_common.studies.plots import (
    depths,
    heatmap,
    learning_curves,
    points,
    rate_curves,
    sweep,
)

__all__ = [
    "ARMS",
    "FAMILIES",
    "GRADES",
    "METHOD_COLOUR",
    "VARIANTS",
    "WIDEST",
    "Palette",
    "audit_matrices",
    "band",
    "compact",
    "depths",
    "family_colour",
    "grade",
    "heatmap",
    "interval",
    "label",
    "learning_curves",
    "memory_growth",
    "picture",
    "pictures",
    "points",
    "rate_curves",
    "render",
    "save",
    "side_labels",
    "spoken",
    "sweep",
    "use_style",
]
