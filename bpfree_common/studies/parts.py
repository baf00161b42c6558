"""Where the strokes of a schematic run: heads, rings, feedback, targets.

The layers' boxes stand in a column at x = 0, layer l at height l; what teaches them
stands to the right of it, what disturbs or accompanies them to the left.
"""

from bpfree_common.studies.strokes import CREDIT, Canvas

EDGE, TOP = 0.46, 0.2  #: half the width and height of a layer's box
LANE, FAR = 0.82, 1.36  #: where feedback runs from layer to layer, and from the loss
RING, HEAD, COLUMN = 1.04, 1.08, 1.86  #: of a local loss, its read-out, what is behind
TRACK = 0.2  #: how far the two passes run beside the middle
CREST = 0.98  #: of the loss above the last layer


def filled(text: str, layer="") -> str:
    """`text` with the layer's number in the place of ``{}``."""
    return text.replace("{}", str(layer))


def step(canvas: Canvas, rings: dict, source: int, to, kind: str, text: str) -> None:
    """Credit from a layer to a lower place: between rings, where both have one."""
    height = 0 if to == "input" else to
    if source in rings and to in rings:
        x = rings[source]
        canvas.credit((x, source - 0.22), (x, to + 0.22), kind=kind)
    else:
        x, low = LANE, (0.2, 0) if to == "input" else (EDGE, to + 0.08)
        corner = (EDGE, source - 0.08), (x, source - 0.08)
        canvas.credit(*corner, (x, low[1]), low, kind=kind)
    through(canvas, x, (source + height) / 2, kind, text)


def trunk(
    canvas: Canvas, crest: float, edge: float, source: str, targets: list, kind: str, text
) -> None:
    """Credit from the top to several places: one line, and branches off it.

    crest: the height of the loss. edge: where the words of the input end.
    """
    start = [(0.22, crest), (FAR, crest)] if source == "loss" else [(FAR, crest - 0.16)]
    if source == "target":
        canvas.text(FAR, crest, "$y$", points=10)
    rows = {place: 0 if place == "input" else place for place in targets}
    for place, y in sorted(rows.items(), key=lambda pair: pair[1]):
        inner = edge if place == "input" else EDGE
        canvas.credit(*start, (FAR, y), (inner, y), kind=kind)
        start = []  # the others branch off the same line
        x, height = (FAR, 1.5) if place == "input" else (LANE + 0.08, y)
        if kind != "scalar":
            through(canvas, x, height, kind, filled(text, place))
    if kind == "scalar" and text:
        middle = (min(rows.values()) + crest) / 2
        canvas.text(FAR + 0.2, middle, text, CREDIT, 8.5, rotation=90)


def beside(canvas: Canvas, layer: int, words: str, head, head_words: str) -> float:
    """A ring (behind a head, if any) right of a layer's box; the ring's place."""
    stops = [(EDGE, RING - 0.22)]
    if head:
        canvas.box(HEAD, layer, head_words, head, 0.46, 0.34, 8.5)
        stops = [(EDGE, HEAD - 0.23), (HEAD + 0.23, COLUMN - 0.22)]
    ring = COLUMN if head else RING
    for left, right in stops:
        canvas.activity((left, layer + 0.085), (right + 0.02, layer + 0.085))
        canvas.credit((right + 0.02, layer - 0.085), (left, layer - 0.085))
    canvas.ring(ring, layer, words)
    return ring


def row_of_targets(
    canvas: Canvas, layer: int, words: str, kind: str, compare: str, top: bool
) -> None:
    """One step of the target network down to the row of `layer`, and the comparison."""
    above = layer + (0.82 if top else 1)
    canvas.credit((COLUMN, above), (COLUMN, layer), kind=kind, head=False)
    canvas.box(COLUMN, layer + 0.5, words, kind, 0.56, 0.34, 8.5)
    canvas.credit((COLUMN, layer + 0.05), (COLUMN, layer), (RING + 0.2, layer))
    canvas.activity((EDGE, layer + 0.085), (RING - 0.2, layer + 0.085))
    canvas.credit((RING - 0.2, layer - 0.085), (EDGE, layer - 0.085))
    canvas.ring(RING, layer, compare)


def through(canvas: Canvas, x: float, y: float, kind: str, words: str) -> None:
    """What credit passes: a small box, or only words for a layer's own weights."""
    if kind in ("fixed", "learned"):
        canvas.box(x, y, words, kind, 0.46, 0.32, 8.5)
    elif words:
        canvas.text(x + 0.09, y, words, CREDIT, 9, ha="left")
