"""Schematics on a sheet: the legend that is always the same, one drawing or many."""

from collections.abc import Callable, Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from bpfree_common.studies.strokes import Canvas

_APART = 3.4  #: between the columns of the legend


def draw_legend(ax, scale: float = 0.62, columns: int = 1) -> Canvas:
    """The strokes and what they mean: the same beside every schematic."""
    canvas = Canvas(ax, scale)
    lines: list[tuple[Callable[[float, float], None], str]] = [
        (lambda x, y: canvas.activity((x, y), (x + 0.7, y)), "activity"),
        (lambda x, y: canvas.activity((x, y), (x + 0.7, y), second=True), "second pass"),
        (lambda x, y: canvas.credit((x, y), (x + 0.7, y)), "credit"),
        (_credit(canvas, "fixed"), "through fixed weights"),
        (_credit(canvas, "scalar"), "one number for all"),
        (lambda x, y: canvas.box(x + 0.35, y, "", "learned", 0.5, 0.25), "learns"),
        (lambda x, y: canvas.box(x + 0.35, y, "", "fixed", 0.5, 0.25), "fixed at random"),
        (lambda x, y: canvas.ring(x + 0.35, y, "", 0.14), "loss, goodness, error"),
        (lambda x, y: canvas.cut(x + 0.35, y), "no gradient passes"),
        (lambda x, y: canvas.die(x + 0.35, y), "noise, random direction"),
        (lambda x, y: canvas.store(x + 0.35, y), "state kept"),
    ]
    rows = -(-len(lines) // columns)
    for index, (stroke, words) in enumerate(lines):
        column, row = divmod(index, rows)
        x, y = _APART * column, 4.1 - 0.4 * row
        stroke(x, y)
        canvas.text(x + 0.86, y, words, points=8.5, ha="left")
    ax.set_axis_off()
    return canvas


def _credit(canvas: Canvas, kind: str) -> Callable[[float, float], None]:
    return lambda x, y: canvas.credit((x, y), (x + 0.7, y), kind=kind)


def gallery(schematics: Mapping, columns: int = 5, scale: float = 0.42) -> Figure:
    """Many schematics side by side at one scale, and the legend below them.

    schematics: key -> Schematic, in the order of drawing. Five columns fit a page.
    """
    figure = plt.figure(layout="none")
    axes = [figure.add_axes((0, 0, 1, 1), label=key) for key in schematics]
    drawn = zip(schematics.values(), axes, strict=True)
    reach = [schematic.draw(ax, scale).limits() for schematic, ax in drawn]
    below = figure.add_axes((0, 0, 1, 1), label="legend")
    legend = draw_legend(below, scale, columns=min(columns, 4)).limits()
    _grid(figure, axes, reach, (below, legend), columns, scale)
    figure.caption = "Who tells each layer how to change: one picture per method."
    figure.alt = " ".join(schematic.alt() for schematic in schematics.values())
    return figure


def arrange(figure: Figure, axes, boxes: list[tuple], scale: float) -> None:
    """Place drawings of their own sizes beside each other, to scale."""
    widths = [right - left for left, right, _, _ in boxes]
    height = max(top - bottom for _, _, bottom, top in boxes)
    figure.set_size_inches(sum(widths) * scale, height * scale)
    x = 0.0
    for ax, (left, right, bottom, top), width in zip(axes, boxes, widths, strict=True):
        middle = (bottom + top) / 2
        ax.set_position((x / sum(widths), 0, width / sum(widths), 1))
        ax.set(xlim=(left, right), ylim=(middle - height / 2, middle + height / 2))
        x += width


def _grid(figure, axes: list, reach: list[tuple], legend: tuple, columns: int, scale):
    """Place drawings in a grid of equal cells, each centred, inputs aligned."""
    wide = max(right - left for left, right, _, _ in reach)
    low = min(bottom for _, _, bottom, _ in reach)
    tall = max(top for *_, top in reach) - low
    below, (left, right, bottom, top) = legend
    width = max(columns * wide, right - left)
    height = -(-len(axes) // columns) * tall + top - bottom
    figure.set_size_inches(width * scale, height * scale)
    middle = (left + right) / 2
    below.set_position((0, 0, 1, (top - bottom) / height))
    below.set(xlim=(middle - width / 2, middle + width / 2), ylim=(bottom, top))
    for index, (ax, (left, right, *_)) in enumerate(zip(axes, reach, strict=True)):
        row, column = divmod(index, columns)
        cell = column * width / columns, height - (row + 1) * tall, width / columns, tall
        ax.set_position(tuple(np.array(cell) / (width, height, width, height)))
        middle, half = (left + right) / 2, width / columns / 2
        ax.set(xlim=(middle - half, middle + half), ylim=(low, low + tall))
