"""Schematics of credit: complete words, nothing cut off, one language for all."""

import io
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import PathPatch
from PIL import Image

from bpfree_common.studies import images, schematics, strokes
from bpfree_common.studies.palette import use_style
from bpfree_common.studies.schematics import Schematic, SchematicError


def methods() -> dict[str, Schematic]:
    """The shapes that credit takes in the field, and one drawing with everything."""
    made = [
        Schematic("Gradient").forward().loss().chain(),
        Schematic("Fixed weights, layer by layer")
        .forward()
        .loss()
        .chain("fixed", "$B_{}$"),
        Schematic("Learned weights, layer by layer")
        .forward()
        .loss()
        .chain("learned", "$B_{}$"),
        Schematic("The error goes to every layer directly")
        .forward()
        .loss()
        .feedback("loss", [1, 2], "fixed", "$B_{}$"),
        Schematic("The label goes to every layer")
        .forward()
        .loss()
        .feedback("target", [1, 2], "fixed", "$B_{}$"),
        Schematic("Two passes", input="$x, y$")
        .forward(second=r"$x, \hat{y}$")
        .cut()
        .local(text="$G$")
        .note("goodness up, then down"),
        Schematic("Local heads").forward().cut().local(head="learned", target="$y$"),
        Schematic("Random local heads").forward().cut().local(head="fixed", target="$y$"),
        Schematic("One number")
        .forward()
        .loss(credit=False)
        .noise(text="$v_{}$")
        .feedback("loss", [1, 2, 3], "scalar", "slope along $v$"),
        Schematic("Targets").forward().targets(),
        Schematic("Error into the input")
        .forward(second="$x + Fe$")
        .loss("$e$")
        .feedback("loss", "input", "fixed", "$F$")
        .local([1, 2], text=r"$\Delta$"),
        Schematic("Blocks", names="$u_{}$")
        .forward()
        .skip()
        .cut()
        .noise(text=r"$\epsilon_{}$")
        .local(target="$y$"),
        Schematic("Energy").forward().local(text=r"$\epsilon_{}$").chain().settle(),
        Schematic("Many networks", names=["conv", "conv", "dense"])
        .forward()
        .loss("$R$", credit=False, target="")
        .noise()
        .copies("population of $N$")
        .feedback("loss", [1, 2, 3], "scalar", "fitness"),
        Schematic("Everything at once", layers=4)
        .forward(second="$x^-$")
        .loss(both=True)
        .state([1, 2], "$m_{}$")
        .noise([2, 3], "$z$")
        .noise("input", "$s$")
        .frozen(1)
        .feedback(4, 2, "learned", "$B$")
        .settle("until settled")
        .note("one line")
        .note("another"),
    ]
    return {each.title: each for each in made}


METHODS = methods()


@pytest.fixture(autouse=True)
def _style():
    use_style()
    yield
    plt.close("all")


def _credit_lines(figure):
    """The lines of credit of the drawing itself, without the legend."""
    return [
        patch
        for patch in figure.axes[0].patches
        if isinstance(patch, PathPatch)
        and patch.get_edgecolor()[:3] == to_rgb(strokes.CREDIT)
    ]


def _boxes(ax, renderer):
    return [text.get_window_extent(renderer) for text in ax.texts]


@pytest.mark.parametrize("title", METHODS)
def test_no_text_is_cut_off_and_no_two_texts_overlap(title):
    figure = METHODS[title].figure()
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    for ax in figure.axes:
        found = _boxes(ax, renderer)
        for box in found:
            assert box.x0 >= ax.bbox.x0 - 1 and box.x1 <= ax.bbox.x1 + 1
            assert box.y0 >= ax.bbox.y0 - 1 and box.y1 <= ax.bbox.y1 + 1
        assert not any(a.padded(-2).overlaps(b) for a, b in combinations(found, 2))


@pytest.mark.parametrize("title", METHODS)
def test_words_of_three_hundred_pixels_can_still_be_read(title):
    figure = METHODS[title].figure(legend=False)
    pixels_per_point = 300 / figure.get_size_inches()[0] / 72
    smallest = min(text.get_fontsize() for text in figure.axes[0].texts)
    assert smallest * pixels_per_point >= 8


def test_only_what_passes_fixed_weights_is_dashed():
    dashed = {"fixed": 2, "learned": 0, "own": 0}
    for kind, expected in dashed.items():
        figure = Schematic("s").forward().loss().chain(kind, "$B_{}$").figure()
        lines = _credit_lines(figure)
        assert len(lines) == 3  # from the loss to 3, from 3 to 2, from 2 to 1
        assert (
            sum(line.get_linestyle() not in ("-", "solid") for line in lines) == expected
        )


def test_direct_feedback_draws_one_line_to_each_layer_and_none_between_layers():
    schematic = Schematic("s").forward().loss(credit=False)
    figure = schematic.feedback("loss", [1, 2, 3], "fixed", "$B_{}$").figure()
    ends = [
        tuple(line.get_path().vertices[-1].round(1)) for line in _credit_lines(figure)
    ]
    assert sorted(y for _, y in ends) == [1, 2, 3]
    assert len({x for x, _ in ends}) == 1
    heights = [np.ptp(line.get_path().vertices[:, 1]) for line in _credit_lines(figure)]
    assert sum(height > 0 for height in heights) == 1  # no stretch is drawn twice


def test_local_credit_stays_beside_its_own_layer():
    figure = Schematic("s").forward().cut().local().figure()
    for line in _credit_lines(figure):
        heights = line.get_path().vertices[:, 1]
        assert np.ptp(heights) == 0 and abs(heights[0] - round(heights[0])) < 0.2


def test_alt_text_names_every_stroke_in_the_order_of_declaration():
    schematic = Schematic("Method", layers=2).forward().loss().frozen(1)
    schematic.noise(2, r"$\epsilon$").feedback("loss", 1, "fixed", "$B_{}$").note("note")
    assert schematic.alt() == (
        "Schematic of Method. Activity runs forward from x through 2 layers. "
        "L reads the output and the target y, and tells layer 2 its error. "
        "Layer 1 stays fixed. Noise epsilon enters layer 2. "
        "Credit goes from the loss to layer 1 through fixed random weights (B1). Note."
    )


@pytest.mark.parametrize("title", METHODS)
def test_alt_text_has_no_mathematical_markup(title):
    assert not set("$\\{}^_") & set(METHODS[title].alt())


def test_the_legend_is_the_same_beside_every_schematic():
    legends = {
        tuple(text.get_text() for text in each.figure().axes[1].texts)
        for each in METHODS.values()
    }
    assert len(legends) == 1


def test_a_drawing_repeats_byte_for_byte():
    first, second = (images.render(methods()["Blocks"].figure()) for _ in range(2))
    assert first == second


def test_activity_credit_and_frames_differ_in_grey():
    grey = [np.dot(to_rgb(c), (0.2126, 0.7152, 0.0722)) for c in
            (strokes.INK, strokes.CREDIT, "#ffffff")]  # fmt: skip
    assert min(abs(a - b) for a, b in combinations(grey, 2)) > 0.2


def test_a_gallery_shows_every_schematic_at_one_scale_within_a_page():
    figure = schematics.gallery(METHODS, columns=5)
    titles = {t.get_text().replace("\n", " ") for ax in figure.axes for t in ax.texts}
    assert set(METHODS) <= titles
    figure.draw_without_rendering()
    units = [np.abs(np.diff(ax.transData.transform([(0, 0), (1, 1)]), axis=0))[0]
             for ax in figure.axes]  # fmt: skip
    assert np.ptp(units) < 1e-6  # a unit has as many pixels everywhere, both ways
    assert Image.open(io.BytesIO(images.render(figure))).width <= images.WIDEST


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda s: s.frozen(4), "there is no layer 4: use 1 to 3"),
        (lambda s: s.feedback("loss", [0]), "there is no layer 0: use 1 to 3"),
        (lambda s: s.feedback("error", 1), "choose one of 'loss', 'target'"),
        (lambda s: s.chain("random"), "there is no kind of feedback 'random'"),
        (lambda s: s.local(head="big"), "there is no head 'big'"),
        (lambda s: s.targets(kind="own"), "there is no kind of target network 'own'"),
        (lambda s: Schematic("two", names=["a", "b"]), "2 names do not fit 3 layers"),
        (lambda s: Schematic("none", layers=0), "a schematic needs a layer, not 0"),
    ],
)
def test_what_does_not_exist_is_refused_in_one_sentence(declare, message):
    with pytest.raises(SchematicError, match=message):
        declare(Schematic("s").forward())
