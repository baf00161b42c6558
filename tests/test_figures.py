"""Figures: colours that everyone can tell apart, small files, words, honest intervals."""

import io
from itertools import combinations
from types import SimpleNamespace

import bs4
import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from nbconvert import HTMLExporter
from PIL import Image

from bpfree_common.errors import ReportError
from bpfree_common.studies import figures, images, marks, palette

#: Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanope": np.array([[0.152286, 1.052583, -0.204868],
                           [0.114503, 0.786281, 0.099216],
                           [-0.003882, -0.048116, 1.051998]]),
    "deuteranope": np.array([[0.367322, 0.860646, -0.227968],
                             [0.280085, 0.672501, 0.047413],
                             [-0.011820, 0.042940, 0.968881]]),
}  # fmt: skip
_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                 [0.0193339, 0.1191920, 0.9503041]])  # fmt: skip


def _linear(colour) -> np.ndarray:
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def _lab(colour, vision: str = "normal") -> np.ndarray:
    seen = np.clip(VISION[vision] @ _linear(colour), 0, 1)
    xyz = _XYZ @ seen / np.array([0.95047, 1, 1.08883])
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def _ciede2000(one, two) -> float:
    """Sharma, Wu and Dalal (2005), equations 2 to 22."""
    (l1, a1, b1), (l2, a2, b2) = one, two
    mean = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    g = 0.5 * (1 - np.sqrt(mean**7 / (mean**7 + 25**7)))
    c1, c2 = np.hypot((1 + g) * a1, b1), np.hypot((1 + g) * a2, b2)
    h1 = np.degrees(np.arctan2(b1, (1 + g) * a1)) % 360
    h2 = np.degrees(np.arctan2(b2, (1 + g) * a2)) % 360
    turn = (h2 - h1 + 180) % 360 - 180 if c1 * c2 else 0.0
    h = (h1 + turn / 2) % 360 if c1 * c2 else h1 + h2
    l, c = (l1 + l2) / 2, (c1 + c2) / 2
    t = (
        1
        - 0.17 * np.cos(np.radians(h - 30))
        + 0.24 * np.cos(np.radians(2 * h))
        + 0.32 * np.cos(np.radians(3 * h + 6))
        - 0.2 * np.cos(np.radians(4 * h - 63))
    )
    dl = (l2 - l1) / (1 + 0.015 * (l - 50) ** 2 / np.sqrt(20 + (l - 50) ** 2))
    dc = (c2 - c1) / (1 + 0.045 * c)
    dh = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * c * t)
    bend = np.sin(np.radians(60 * np.exp(-(((h - 275) / 25) ** 2))))
    rt = -2 * np.sqrt(c**7 / (c**7 + 25**7)) * bend
    return float(np.sqrt(dl**2 + dc**2 + dh**2 + rt * dc * dh))  # fmt: skip


def _closest(colours, vision: str) -> float:
    return min(_ciede2000(_lab(a, vision), _lab(b, vision))
               for a, b in combinations(colours, 2))  # fmt: skip


def _arm_colours() -> list[str]:
    standard = [style["color"] for style in palette.ARMS.values()]
    return [*standard, palette.METHOD_COLOUR, *palette.VARIANTS]


@pytest.fixture(autouse=True)
def _style():
    palette.use_style()
    yield
    plt.close("all")


# --- colours -----------------------------------------------------------------------


def test_the_colour_distance_is_the_published_one():
    """Pairs 1, 17 and 24 of the table of Sharma, Wu and Dalal (2005)."""
    pairs = {
        ((50, 2.6772, -79.7751), (50, 0, -82.7485)): 2.0425,
        ((50, 2.5, 0), (73, 25, -18)): 27.1492,
        ((50, 2.5, 0), (50, 3.2592, 0.3350)): 1.0,
    }
    for (one, two), expected in pairs.items():
        assert _ciede2000(one, two) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("vision", VISION)
def test_no_two_families_are_one_colour(vision):
    assert _closest(list(palette.FAMILIES.values()), vision) >= 10


@pytest.mark.parametrize("vision", VISION)
def test_no_two_arms_are_one_colour(vision):
    assert _closest(_arm_colours(), vision) >= 10


@pytest.mark.parametrize("colour", [*_arm_colours(), *palette.FAMILIES.values()])
def test_lines_stand_out_from_white_by_three_to_one(colour):
    assert 1.05 / (_XYZ[1] @ _linear(colour) + 0.05) >= 3


def test_grades_of_the_audit_differ_in_lightness_and_carry_black_text():
    lightness = {name: _lab(colour)[0] for name, colour in palette.GRADES.items()}
    assert min(abs(a - b) for a, b in combinations(lightness.values(), 2)) >= 8
    assert lightness["none"] > lightness["part"] > lightness["full"]
    for colour in palette.GRADES.values():
        assert (_XYZ[1] @ _linear(colour) + 0.05) / 0.05 >= 4.5


def test_twenty_arms_have_twenty_styles():
    style = palette.Palette("own")
    arms = ["own", *palette.ARMS, *(f"variant {n}" for n in range(12))]
    assert len({str(sorted(style(arm).items(), key=str)) for arm in arms}) == 20


def test_the_method_has_one_colour_and_an_arm_keeps_its_own():
    style = palette.Palette("own")
    first = style("a variant")
    style("another")
    assert style("a variant") == first
    assert style("own")["color"] == palette.METHOD_COLOUR


@pytest.mark.parametrize(
    ("value", "expected"),
    [("none", "none"), ("flat", "none"), ("part", "part"), ("full", "full"),
     ("linear", "full"), (0, "none"), (0.5, "part"), (3, "full"),
     (None, "undefined"), ("undefined", "undefined"), (float("nan"), "undefined")],
)  # fmt: skip
def test_what_backpropagation_needs_is_dark_and_the_unknown_is_white(value, expected):
    assert figures.grade(value) == palette.GRADES[expected]


def test_the_users_settings_change_neither_figures_nor_tables():
    def drawn():
        palette.use_style()
        figure, ax = plt.subplots()
        ax.plot([1, 3, 2])
        wide = pd.DataFrame([range(15)])
        return images.render(figure), wide.to_string(), repr(wide)

    expected = drawn()
    mpl.rcParams.update({"axes.facecolor": "red", "font.size": 30, "axes.xmargin": 0.4})
    pd.set_option("display.max_columns", 3, "display.width", 40)
    assert drawn() == expected


# --- files and outputs -------------------------------------------------------------


def _pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), int)


def _uncompressed(figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def test_a_plot_becomes_less_than_half_and_looks_the_same():
    figure = figures.learning_curves(_histories(ARMS, seeds=5), palette.Palette("own"))
    plain = _uncompressed(figure)
    small = images.compact(plain)
    assert Image.open(io.BytesIO(small)).mode == "P"
    assert len(small) < len(plain) / 2
    off = np.abs(_pixels(plain) - _pixels(small)).max(-1)
    assert (off > 12).mean() <= 5e-4
    assert np.percentile(off, 99) <= 8


def test_a_picture_that_a_palette_would_spoil_keeps_every_colour():
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(buffer, "png")
    assert (
        _pixels(images.compact(buffer.getvalue())) == _pixels(buffer.getvalue())
    ).all()


def test_a_figure_repeats_byte_for_byte():
    drawn = [
        images.render(
            figures.learning_curves(_histories(ARMS, 3), palette.Palette("own"))
        )
        for _ in range(2)
    ]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("asked", [True, False])
def test_an_svg_is_written_only_when_asked_for(asked, monkeypatch, tmp_path):
    monkeypatch.setenv("BPFREE_SVG", "1" if asked else "")
    figure, ax = plt.subplots()
    ax.plot([1, 2])
    png = images.save(figure, tmp_path / "new", "line")
    assert (tmp_path / "new" / "line.png").read_bytes() == png
    assert (tmp_path / "new" / "line.svg").is_file() is asked


ALT = "Accuracy [%] of A_1 < B, * at the edge: a \"quoted\" & 'apt' word"


def test_alt_text_reaches_the_page_that_nbconvert_makes():
    png = b"\x89PNG not a real picture"
    shown = images.picture(png, ALT, "The caption.")
    output = nbformat.v4.new_output("display_data", {"text/markdown": shown.data})
    cell = nbformat.v4.new_code_cell("x", outputs=[output])
    page, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    (image,) = bs4.BeautifulSoup(page, "html.parser").main.find_all("img")
    assert image["alt"] == ALT
    assert image["src"].startswith("data:image/png;base64,")
    assert "The caption." in page


def test_a_shown_picture_can_be_taken_back_with_its_words():
    one, two = (images.picture(data, words) for data, words in ((b"1", ALT), (b"2", "b")))
    assert images.pictures(one.data + "\n\n" + two.data) == [(b"1", ALT), (b"2", "b")]


def test_mathematical_signs_are_left_out_of_alt_text():
    shown = images.picture(b"1", "the loss $L$ of `f`\nand\\more")
    assert images.pictures(shown.data) == [(b"1", "the loss L of f andmore")]


def test_a_picture_without_words_is_refused():
    with pytest.raises(ReportError, match="a picture needs alt text"):
        images.picture(b"1", "  ")


# --- intervals ---------------------------------------------------------------------


def test_the_interval_is_students():
    """t(0.975, 4 degrees) = 2.776; the standard error of 1..5 is sqrt(2.5 / 5)."""
    half = 2.776445 * np.sqrt(2.5 / 5)
    assert marks.interval([1, 2, 3, 4, 5]) == pytest.approx(
        (3 - half, 3 + half), rel=1e-6
    )


def test_equal_seeds_have_an_interval_of_no_width_and_one_seed_has_none():
    assert marks.interval([2.0, 2.0, 2.0]) == (2.0, 2.0)
    assert np.isnan(marks.interval([2.0])).all()
    assert marks.spoken([2.0], "%") == "2.0 %"


# --- the shared plots --------------------------------------------------------------

ARMS = ["own", *palette.ARMS, "a variant", "another variant"]  # ten


def _level(arm: str) -> float:
    return 0.7 if arm == "frozen" else 0.9 + 0.004 * ARMS.index(arm)


def _histories(arms, seeds: int) -> dict:
    rng = np.random.default_rng(0)
    return {
        arm: [
            [{"epoch": e, "validation": _level(arm) - 0.4 * 0.6**e + rng.normal(0, 0.003)}
             for e in range(1, 9)]
            for _ in range(seeds)
        ]
        for arm in arms
    }  # fmt: skip


def _values(arms, seeds: int) -> dict:
    rng = np.random.default_rng(0)
    return {arm: 100 * _level(arm) + rng.normal(0, 0.3, seeds) for arm in arms}


def _audit(fill: float, dependence=None, live=None) -> SimpleNamespace:
    matrix = np.tril(np.ones((4, 4))) + fill * np.triu(np.ones((4, 4)), 1)
    return SimpleNamespace(
        dependence=matrix if dependence is None else dependence,
        transport=np.zeros((4, 4)),
        live_bytes=live or {2: 2048, 4: 4096, 8: 8192, 16: 16384},
    )


def _tried(lr: float, validation: float | None) -> dict:
    return {"hyper": {"lr": lr}, "validation": validation}


def _tuning(arms, at_edge=()) -> dict:
    rates = [1e-4, 3e-4, 1e-3]
    tried = [_tried(lr, 0.5 + 0.1 * n) for n, lr in enumerate(rates)]
    found = {"settings": tried, "chosen": {"lr": 1e-3}}
    return {arm: found | {"at_edge": arm in at_edge} for arm in arms}


def _all_plots(count: int, seeds: int) -> dict:
    arms, style = ARMS[:count], palette.Palette("own")
    curve = {a: np.outer([0.8, 0.9, 1.0], v) for a, v in _values(arms, seeds).items()}
    audits = {arm: _audit(float(n)) for n, arm in enumerate(arms[:4])}
    grid = np.arange(6.0).reshape(2, 3)
    return {
        "curves": figures.learning_curves(_histories(arms, seeds), style),
        "points": figures.points(_values(arms, seeds), style, edges=arms[1:2]),
        "sweep": figures.sweep([1, 10, 100], curve, style, "batch", "accuracy, %", True),
        "depths": figures.depths([2, 4, 8], curve, style, "accuracy, %"),
        "rates": figures.rate_curves(_tuning(arms, arms[1:2]), style),
        "audit": figures.audit_matrices(audits),
        "memory": figures.memory_growth({arm: _audit(0.0) for arm in arms}, style),
        "heatmap": figures.heatmap(
            grid, [1, 2, 3], ["a", "b"], "rate", "mode", "accuracy"
        ),
    }


@pytest.mark.parametrize(("count", "seeds"), [(2, 1), (4, 3), (10, 5)])
def test_every_plot_fits_a_page_and_says_what_it_shows(count, seeds):
    for name, figure in _all_plots(count, seeds).items():
        assert Image.open(io.BytesIO(images.render(figure))).width <= images.WIDEST, name
        assert figure.caption.endswith(".") and figure.alt.endswith("."), name
        assert not set("$\\`") & set(figure.alt + figure.caption), name
        for ax in figure.axes:
            _nothing_is_cut_off_or_overlaps(ax, name)


def _nothing_is_cut_off_or_overlaps(ax, name: str) -> None:
    renderer, page = ax.figure.canvas.get_renderer(), ax.figure.bbox
    found = [Text.get_window_extent(t, renderer) for t in ax.texts if t.get_text()]
    for box in found:
        assert box.x0 >= -1 and box.x1 <= page.x1 + 1, name
        assert box.y0 >= -1 and box.y1 <= page.y1 + 1, name
    inner = [box.padded(-1) for box in found]
    assert not any(a.overlaps(b) for a, b in combinations(inner, 2)), name


def test_a_band_is_the_interval_of_the_mean_and_one_seed_has_no_band():
    histories = _histories(["own"], seeds=5)
    (ax,) = figures.learning_curves(histories, palette.Palette("own")).axes
    at_end = [run[-1]["validation"] for run in histories["own"]]
    vertices = ax.collections[0].get_paths()[0].vertices
    last = vertices[vertices[:, 0] == 8][:, 1]
    assert (last.min(), last.max()) == pytest.approx(marks.interval(at_end))
    (alone,) = figures.learning_curves(
        _histories(["own"], 1), palette.Palette("own")
    ).axes
    assert not alone.collections


def test_curves_of_a_comparison_are_those_of_its_histories():
    histories = _histories(["own"], seeds=2)
    runs = {"own": [SimpleNamespace(history=rows) for rows in histories["own"]]}
    drawn = [
        figures.learning_curves(given, palette.Palette("own"))
        for given in (histories, runs, SimpleNamespace(runs=runs))
    ]
    assert len({images.render(figure) for figure in drawn}) == 1


def test_an_arm_far_below_is_named_with_its_number_and_does_not_stretch_the_axis():
    values = _values(ARMS, seeds=5)
    (ax,) = figures.points(values, palette.Palette("own")).axes
    assert ax.get_xlim()[0] > values["frozen"].mean()
    assert ax.get_xlim()[0] < min(v.min() for arm, v in values.items() if arm != "frozen")
    assert any(f"{values['frozen'].mean():.1f}" in text.get_text() for text in ax.texts)
    (ax,) = figures.learning_curves(_histories(ARMS, 3), palette.Palette("own")).axes
    assert ax.get_ylim()[0] > 0.7
    assert any("frozen ↓" in text.get_text() for text in ax.texts)


def test_an_arm_that_diverged_is_named_as_such_and_spoils_nothing():
    values = {"own": [90.0, 91.0], "backprop": [92.0, float("nan")]}
    figure = figures.points(values, palette.Palette("own"))
    assert [text.get_text() for text in figure.axes[0].texts][1] == "diverged"
    assert "backprop diverged" in figure.alt
    histories = _histories(["own", "backprop"], seeds=1)
    histories["backprop"][0][-1]["validation"] = None  # as records keep what is no number
    (ax,) = figures.learning_curves(histories, palette.Palette("own")).axes
    assert {text.get_text() for text in ax.texts} == {"own", "backprop diverged"}


def test_two_arms_of_one_seed_are_both_on_the_axis():
    (ax,) = figures.points(
        {"own": [92.0], "backprop": [93.0]}, palette.Palette("own")
    ).axes
    low, high = ax.get_xlim()
    assert low < 92 < 93 < high


def test_a_caption_says_over_how_many_seeds_its_intervals_are():
    assert marks.seeds_words([1, 1]) == "one seed, no interval"
    assert marks.seeds_words([5, 5]) == "95 % intervals over 5 seeds"
    assert marks.seeds_words([1, 3, 5]) == (
        "95 % intervals over 3 to 5 seeds, none where an arm has one"
    )


def test_an_arm_at_the_edge_of_its_grid_is_marked_and_the_caption_says_so():
    style = palette.Palette("own")
    marked = figures.points(_values(ARMS[:3], 3), style, edges=["backprop"])
    stars = [text.get_text().endswith("*") for text in marked.axes[0].texts]
    assert stars == [False, True, False]
    assert "edge of its grid" in marked.caption
    assert "edge" not in figures.points(_values(ARMS[:3], 3), style).caption


def test_the_tuners_choice_is_ringed_and_crossed_at_the_edge():
    tuning = _tuning(["own", "backprop"], at_edge=["backprop"])
    (ax,) = figures.rate_curves(tuning, palette.Palette("own")).axes
    chosen = [line for line in ax.lines if line.get_linestyle() == "None"]
    assert [line.get_marker() for line in chosen] == ["o", "x"]
    assert [float(line.get_xdata()[0]) for line in chosen] == [1e-3, 1e-3]
    assert [float(line.get_ydata()[0]) for line in chosen] == [0.7, 0.7]


def test_a_setting_that_diverged_leaves_a_gap_in_the_tuners_curve():
    tuning = _tuning(["own"])
    tuning["own"]["settings"].append(_tried(1.0, None))
    (ax,) = figures.rate_curves(tuning, palette.Palette("own")).axes
    assert list(ax.lines[0].get_xdata()) == [1e-4, 3e-4, 1e-3]


def test_a_rate_at_which_training_collapses_does_not_stretch_the_tuners_axis():
    tuning = _tuning(["own"])
    tuning["own"]["settings"] += [_tried(1e-2, 0.69)]
    tuning["own"]["settings"] += [_tried(1.0, 0.01)]
    (ax,) = figures.rate_curves(tuning, palette.Palette("own")).axes
    low, high = ax.get_ylim()
    assert 0.3 < low < 0.6 < 0.7 < high  # 0.6 is the chosen rate's neighbour
    assert [text.get_text() for text in ax.texts] == ["own ↓ 0.01"]


def test_an_arm_that_diverged_at_every_rate_is_said_to_have():
    tuning = _tuning(["own", "backprop"])
    for setting in (lost := [dict(each) for each in tuning["own"]["settings"]]):
        setting["validation"] = float("nan")
    tuning["own"]["settings"] = lost
    figure = figures.rate_curves(tuning, palette.Palette("own"))
    assert "own diverged at every rate" in figure.alt
    assert [text.get_text() for text in figure.axes[0].texts] == ["backprop"]


def test_a_rule_that_keeps_nothing_alive_is_named_in_the_caption():
    nothing, some = {2: 0, 4: 0}, {2: 40_000, 4: 41_000}
    audits = {"own": _audit(0, live=nothing), "backprop": _audit(0, live=some)}
    figure = figures.memory_growth(audits, palette.Palette("own"))
    assert 'keeps nothing alive: "own".' in figure.caption
    assert len(figure.axes[0].get_yticks()) >= 2


def test_only_audits_that_differ_from_backprops_are_drawn():
    audits = {"own": _audit(0.0), "backprop": _audit(1.0), "textbook": _audit(0.3)}
    figure = figures.audit_matrices(audits)
    assert [ax.get_title(loc="center") for ax in figure.axes[:2]] == ["own", "backprop"]
    assert len(figure.axes) == 4
    assert '"textbook" says the same as backprop: not drawn again.' in figure.caption


def test_crosses_are_explained_where_there_are_any():
    holes = np.tril(np.ones((4, 4)))
    holes[0, 1] = np.nan
    with_cross = figures.audit_matrices({"own": _audit(0.0, dependence=holes)})
    crosses = [
        line for ax in with_cross.axes for line in ax.lines if line.get_marker() == "x"
    ]
    assert len(crosses) == 1 and "x: not defined." in with_cross.caption
    assert "not defined" not in figures.audit_matrices({"own": _audit(0.0)}).caption


def test_what_is_undefined_everywhere_is_not_called_none():
    nothing = np.full((4, 4), np.nan)
    figure = figures.audit_matrices({"own": _audit(0.0, dependence=nothing)})
    assert "is not defined" in figure.alt and "no unit depends" not in figure.alt


def test_arms_of_equal_memory_are_both_named():
    live = {2: 2048, 4: 4096, 8: 8192}
    audits = {"backprop": _audit(1, live=live), "textbook": _audit(1, live=live)}
    (ax,) = figures.memory_growth(audits, palette.Palette("own")).axes
    heights = {text.get_text(): text.xyann[1] for text in ax.texts}
    assert set(heights) == {"backprop", "textbook"}
    assert heights["backprop"] != heights["textbook"]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert "backprop 4.0 times" in figures.memory_growth(audits, palette.Palette("o")).alt


def test_an_audit_read_from_a_record_draws_as_the_measured_one():
    """JSON turns the depths into strings."""
    live = {2: 2048, 4: 4096, 8: 8192}
    read = {str(depth): size for depth, size in live.items()}
    style = palette.Palette("own")
    one, two = (figures.memory_growth({"own": _audit(0, live=sizes)}, style)
                for sizes in (live, read))  # fmt: skip
    assert images.render(one) == images.render(two)
