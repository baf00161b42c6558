"""Drawn schematics of credit: one visual language in which methods can be compared.

A schematic says what a step does: where activity goes, who tells each layer how to
change, through which weights, and what stays local. A notebook declares its method::

    s = Schematic("Direct feedback alignment")
    s.forward().loss()
    s.feedback("loss", [1, 2], kind="fixed", text="$B_{}$")
    s.figure(), s.alt()

Layers are numbered from 1 at the input. In texts ``{}`` stands for the layer's number.
"""

from collections.abc import Callable, Iterable
from textwrap import fill

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from bpfree_common.errors import UserError
from bpfree_common.studies import parts
from bpfree_common.studies.sheets import arrange, draw_legend, gallery
from bpfree_common.studies.strokes import FIXED, Canvas, extent, plain

__all__ = ["KINDS", "Schematic", "SchematicError", "gallery"]

KINDS = {
    "own": "through the layer's own weights, transposed",
    "fixed": "through fixed random weights",
    "learned": "through feedback weights that learn",
    "scalar": "as one number for all",
}


class SchematicError(UserError):
    """A schematic names a layer, a kind or a place that does not exist."""


class Schematic:
    """A method's credit, declared stroke by stroke; every call returns the schematic.

    title: the method's name. layers: how many; the last one is the output layer.
    names: the text of a layer's box, for all or one for each. input: what comes in.
    """

    def __init__(
        self,
        title: str,
        layers: int = 3,
        names: str | list[str] = "$W_{}$",
        input: str = "$x$",
    ):
        if layers < 1:
            raise SchematicError(f"a schematic needs a layer, not {layers}")
        self.title, self.depth, self.input = title, layers, input
        self.names = [names] * layers if isinstance(names, str) else list(names)
        if len(self.names) != layers:
            raise SchematicError(f"{len(self.names)} names do not fit {layers} layers")
        self._copies = ""
        self._fixed: set[int] = set()
        self._rings: dict[int, float] = {}
        self._left: dict[int | str, int] = {}
        self._skips: set[int] = set()
        self._second = ""
        self._draw: list[Callable[[Canvas], None]] = []
        self._words: list[str] = []
        self._notes: list[str] = []

    # --- declaring -------------------------------------------------------------------

    def forward(self, second: str | None = None) -> "Schematic":
        """Activity from the input through all layers, once.

        second: the input of a second pass, if the method makes one.
        """
        self._second = second or ""
        tracks = ((-0.2, self.input, False), (0.2, second, True))
        tracks = tracks if second else ((0.0, self.input, False),)

        def draw(canvas: Canvas) -> None:
            for x, words, again in tracks:
                canvas.text(x * 1.6, 0, parts.filled(words), points=10.5)
                canvas.activity((x, 0.17), (x, 1 - parts.TOP), second=again)
                for layer in range(1, self.depth):
                    ends = (x, layer + parts.TOP), (x, layer + 1 - parts.TOP)
                    canvas.activity(*ends, second=again)

        more = f", then again from {plain(second)}" if second else ""
        words = f"Activity runs forward from {plain(self.input)} through"
        return self._add(draw, f"{words} {self._all()}{more}.")

    def loss(
        self,
        text: str = "$L$",
        target: str = "$y$",
        credit: bool = True,
        both: bool = False,
    ) -> "Schematic":
        """A ring on top that reads the output and the target.

        credit: whether it tells the last layer its exact gradient. both: whether it
        reads the second pass too.
        """

        def draw(canvas: Canvas) -> None:
            top = self._crest
            tracks = ((-0.1, False), (0.1, True)) if both else ((0, False),)
            for x, again in tracks:
                lift = 0.2 if both else 0.22
                ends = (x, self.depth + parts.TOP), (x, top - lift)
                canvas.activity(*ends, second=again)
            canvas.ring(0, top, text)
            if target:
                canvas.text(-0.86, top, target, points=10)
                canvas.activity((-0.7, top), (-0.22, top))
            if credit:
                x = 0.36
                canvas.credit((0.22, top), (x, top), (x, self.depth + parts.TOP))

        told = f", and tells layer {self.depth} its error" if credit else ""
        read = f" and the target {plain(target)}" if target else ""
        return self._add(draw, f"{plain(text)} reads the output{read}{told}.")

    def feedback(self, from_: str | int, to, kind: str = "own", text: str = ""):
        """Credit from one place to others.

        from_: "loss", "target" (the label itself, on the right) or a layer. to: a layer,
        several, or "input". kind: see `KINDS`. text: what it passes through, in which
        ``{}`` is the layer that receives it.
        """
        _known("kind of feedback", kind, KINDS)
        targets = [to] if isinstance(to, int | str) else list(to)
        for place in targets:
            self._check(place, "input")
        if isinstance(from_, int):
            self._check(from_)
            for place in targets:
                self._step(from_, place, kind, parts.filled(text, place))
            source = f"layer {from_}"
        else:
            _known("source of feedback", from_, ("loss", "target"))
            self._draw.append(
                lambda canvas: parts.trunk(
                    canvas, self._crest, self._input_edge(), from_, targets, kind, text
                )
            )
            source = f"the {from_}"
        weights = f" ({plain(_listed(text, targets))})" if text else ""
        where = _spoken(targets)
        self._words.append(
            f"Credit goes from {source} to {where} {KINDS[kind]}{weights}."
        )
        return self

    def chain(self, kind: str = "own", text: str = r"$W_{}^\top$") -> "Schematic":
        """Credit from each layer to the one below it.

        kind: see `KINDS`. text: what it passes, ``{}`` being the upper layer.
        """
        _known("kind of feedback", kind, KINDS)
        for layer in range(self.depth, 1, -1):
            self._step(layer, layer - 1, kind, parts.filled(text, layer))
        words = f"Credit goes down layer by layer {KINDS[kind]}"
        named = ", ".join(parts.filled(text, n) for n in range(self.depth, 1, -1))
        self._words.append(f"{words} ({plain(named)}).")
        return self

    def local(self, layers=None, text="$L$", target="", head=None, head_text="$M_{}$"):
        """A ring beside a layer: a loss or goodness of its own, which teaches it alone.

        layers: all, unless told. target: what else the ring reads. head: "learned" or
        "fixed" if the activity passes a read-out of the layer's own first.
        """
        layers = self._layers(layers)
        if head is not None:
            _known("head", head, ("learned", "fixed"))
        self._rings |= dict.fromkeys(layers, parts.RING if head is None else parts.COLUMN)

        def draw(canvas: Canvas) -> None:
            for layer in layers:
                words = parts.filled(head_text, layer)
                ring = parts.beside(canvas, layer, parts.filled(text, layer), head, words)
                if target:
                    canvas.text(ring + 0.62, layer, target, points=10)
                    canvas.activity((ring + 0.48, layer), (ring + 0.22, layer))

        through = f" through a {head} read-out" if head else ""
        read = f" and {plain(target)}" if target else ""
        words = f"{_spoken(layers).capitalize()} each read{_s(layers)} a local"
        named = plain(_listed(text, layers))
        told = f"{words} {named}{through}{read}, and"
        return self._add(draw, f"{told} learn{_s(layers)} from it.")

    def cut(self, above=None) -> "Schematic":
        """Bars across the activity above these layers: no gradient comes back there."""
        above = self._layers(above)[: None if above else -1]

        def draw(canvas: Canvas) -> None:
            for layer in above:
                for x in (-0.2, 0.2) if self._second else (0,):
                    canvas.cut(x, layer + 0.44, 0.3)

        return self._add(draw, f"No gradient passes above {_spoken(above)}.")

    def frozen(self, layers) -> "Schematic":
        """These layers stay as they were drawn at random."""
        layers = self._layers(layers)
        self._fixed |= set(layers)
        self._words.append(f"{_spoken(layers).capitalize()} stay{_s(layers)} fixed.")
        return self

    def noise(self, at=None, text: str = "") -> "Schematic":
        """A die that disturbs layers (all, unless told) or the "input"."""
        return self._beside_left(at, text, Canvas.die, "Noise", "enters")

    def state(self, at=None, text: str = "") -> "Schematic":
        """Something kept from step to step beside layers (all, unless told)."""
        return self._beside_left(at, text, Canvas.store, "State", "is kept at")

    def skip(self, to=None) -> "Schematic":
        """The input goes straight to these layers as well."""
        layers = self._layers(to)
        self._skips |= set(layers)

        def draw(canvas: Canvas) -> None:
            start = (-0.2, 0), (-0.72, 0)
            for layer in sorted(layers, reverse=True):
                low = layer - 0.1
                canvas.activity(*start, (-0.72, low), (-parts.EDGE, low))
                start = ()  # the others branch off the same line

        return self._add(draw, f"{plain(self.input)} also enters {_spoken(layers)}.")

    def targets(self, text="$V_{}$", kind="learned", source="$y$", compare="$=$"):
        """A second network on the right that carries targets down from the label.

        Each layer's activity is compared with the target of its row. text, kind: the
        second network's weights, between the rows.
        """
        _known("kind of target network", kind, ("learned", "fixed"))

        def draw(canvas: Canvas) -> None:
            canvas.text(parts.COLUMN, self._crest, source, points=10.5)
            for layer in range(self.depth, 0, -1):
                words, top = parts.filled(text, layer), layer == self.depth
                parts.row_of_targets(canvas, layer, words, kind, compare, top)

        named = plain(", ".join(parts.filled(text, n) for n in range(self.depth, 0, -1)))
        words = f"A second, {kind} network ({named}) carries {plain(source)} down"
        return self._add(draw, f"{words}; each layer learns from its row's difference.")

    def copies(self, text: str = "many networks") -> "Schematic":
        """The network exists many times: a population, clients, particles."""
        self._copies = text
        self._words.append(f"The network exists many times: {plain(text)}.")
        return self

    def settle(self, text: str = "until settled") -> "Schematic":
        """The activities themselves move for several steps before weights change."""

        def draw(canvas: Canvas) -> None:
            x, middle = -1.75 if self._left else -0.78, (1 + self.depth) / 2
            for end in (1 - parts.TOP, self.depth + parts.TOP):
                canvas.activity((x, middle), (x, end))
            canvas.text(x - 0.2, middle, text, points=8, rotation=90)

        return self._add(draw, f"The activities are relaxed {plain(text)}.")

    def note(self, text: str) -> "Schematic":
        """A line below the drawing."""
        self._notes.append(text)
        self._words.append(plain(text[:1].upper() + text[1:].rstrip(".") + "."))
        return self

    # --- showing ---------------------------------------------------------------------

    def alt(self) -> str:
        """What is drawn, in sentences: the picture's alt text."""
        return " ".join([f"Schematic of {self.title}.", *self._words])

    def figure(self, legend: bool = True, scale: float = 0.62) -> Figure:
        """The drawing, with the legend that is the same for all schematics.

        scale: inches between two layers. Without the legend it can be a thumbnail.
        """
        figure, axes = plt.subplots(1, 2 if legend else 1, squeeze=False, layout="none")
        canvas = self.draw(axes[0, 0], scale)
        boxes = [canvas.limits()]
        if legend:
            boxes.append(draw_legend(axes[0, 1], scale).limits())
        arrange(figure, axes[0], boxes, scale)
        figure.caption, figure.alt = self.title, self.alt()
        return figure

    def draw(self, ax, scale: float = 0.62) -> Canvas:
        """Draw on `ax`, without legend; returns the canvas, which knows its limits."""
        canvas = Canvas(ax, scale)
        for layer in range(1, self.depth + 1):
            kind = "fixed" if layer in self._fixed else "learned"
            for n in (2, 1) if self._copies else ():
                canvas.copy(0.09 * n, layer + 0.08 * n, kind)
            canvas.box(0, layer, parts.filled(self.names[layer - 1], layer), kind)
        for stroke in self._draw:
            stroke(canvas)
        left, right, *_ = canvas.limits()
        middle = (left + right) / 2
        notes = [self._copies, *self._notes] if self._copies else self._notes
        for line, words in enumerate(notes):
            canvas.text(middle, -0.42 - 0.27 * line, words, FIXED, 8.5)
        title, base = fill(self.title, 22), self.depth + 1.38
        canvas.text(middle, base, title, points=10.5, weight="bold", va="bottom")
        ax.set_axis_off()
        return canvas

    # --- inside ----------------------------------------------------------------------

    def _add(self, draw: Callable[[Canvas], None], words: str) -> "Schematic":
        self._draw.append(draw)
        self._words.append(words)
        return self

    def _all(self) -> str:
        return "one layer" if self.depth == 1 else f"{self.depth} layers"

    def _check(self, layer, *others: str) -> None:
        inside = isinstance(layer, int) and 1 <= layer <= self.depth
        if not inside and layer not in others:
            raise SchematicError(f"there is no layer {layer!r}: use 1 to {self.depth}")

    def _layers(self, layers) -> list[int]:
        if layers is None:
            return list(range(1, self.depth + 1))
        layers = [layers] if isinstance(layers, int) else list(layers)
        for layer in layers:
            self._check(layer)
        return layers

    def _step(self, source: int, to, kind: str, text: str) -> None:
        self._draw.append(
            lambda canvas: parts.step(canvas, self._rings, source, to, kind, text)
        )

    @property
    def _crest(self) -> float:
        return self.depth + parts.CREST

    def _input_edge(self) -> float:
        """Where the words of the (second) input end, right of the column."""
        words = self._second or self.input
        middle = 0.32 if self._second else 0
        return middle + extent(parts.filled(words), 10.5)[0] / 2 + 0.06

    def _beside_left(self, at, text: str, symbol, what: str, does: str) -> "Schematic":
        places = ["input"] if at == "input" else self._layers(at)
        first = {place: self._left.get(place, 0) for place in places}
        self._left |= {place: n + 1 for place, n in first.items()}

        def draw(canvas: Canvas) -> None:
            for place in places:
                row = 0 if place == "input" else place
                edge = self._input_edge() if place == "input" else parts.EDGE
                y = row + (0.1 if place in self._skips else 0)
                if self._left[place] > 1:
                    y = row + (0.19, -0.19)[first[place] % 2]
                canvas.activity((-0.9, y), (-edge, y), head=symbol is Canvas.die)
                symbol(canvas, -0.98, y)
                canvas.text(-1.18, y, parts.filled(text, place), points=9, ha="right")

        named = f" {plain(_listed(text, places))}" if text else ""
        return self._add(draw, f"{what}{named} {does} {_spoken(places)}.")


def _listed(text: str, places: Iterable) -> str:
    return ", ".join(dict.fromkeys(parts.filled(text, place) for place in places))


def _spoken(places: list) -> str:
    """Places as words: "layers 1 and 2", "the input"."""
    layers = [str(place) for place in places if place != "input"]
    if not layers:
        return "the input"
    joined = " and ".join(filter(None, [", ".join(layers[:-1]), layers[-1]]))
    words = f"layer{'s' if len(layers) > 1 else ''} {joined}"
    return f"the input and {words}" if len(layers) < len(places) else words


def _s(places: list) -> str:
    return "s" if len(places) == 1 else ""


def _known(what: str, value, allowed) -> None:
    if value not in allowed:
        choices = ", ".join(map(repr, allowed))
        raise SchematicError(f"there is no {what} {value!r}: choose one of {choices}")
