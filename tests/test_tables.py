"""Tables in Markdown: what is shown is what was given, in GitHub's dialect."""

import math
import re

import mistune
import pandas as pd
import pytest

from bpfree_common.errors import ReportError
from bpfree_common.studies import tables


def _html(table) -> str:
    return mistune.create_markdown(plugins=["table"])(table.data)


def _cells(table) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", _html(table), re.S)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in rows]


CLAIM = {
    "text": "Learns as well | or better", "source": "abstract", "verdict": "reproduced",
    "measured": -0.5, "interval": (-1.25, 0.25), "low": -1, "high": None,
    "unit": "points", "share": 0.025,
}  # fmt: skip


def test_signs_of_markdown_in_a_text_are_shown_and_do_nothing():
    wild = "a|b *c* _d_ `e` [f](g) <h> $i$ \\ ~j~"
    shown = _cells(tables.markdown([{"x": tables.text(wild)}]))[1][0]
    assert shown == wild.replace("<", "&lt;").replace(">", "&gt;")


def test_a_bar_in_a_link_does_not_end_the_cell():
    link = tables.link("a|b", "c d|(e)")
    row = _cells(tables.markdown([{"x": link, "y": "**a|b**", "z": r"a\|b"}]))[1]
    linked = '<a href="c%20d%7C%28e%29">a|b</a>'
    assert row == [linked, "<strong>a|b</strong>", "a|b"]


def test_numbers_stand_right_and_words_left_unless_told():
    rows = [{"word": "a", "number": 1.5, "told": "b"}]
    line = tables.markdown(rows, align={"told": "center"}).data.split("\n")[1]
    assert line == "| :--- | ---: | :---: |"


def test_the_best_number_is_bold_and_missing_ones_do_not_count():
    rows = [{"up": 1, "down": 1}, {"up": 3, "down": None}, {"up": math.nan, "down": 2}]
    cells = _cells(tables.markdown(rows, best={"up": "max", "down": "min"}))
    strong, none = "<strong>{}</strong>".format, tables.MISSING
    assert cells[1:] == [["1", strong(1)], [strong(3), none], [none, "2"]]


def test_two_equal_numbers_are_both_the_best():
    cells = _cells(tables.markdown([{"x": 2.0}, {"x": 2.0}], best={"x": "max"}))
    assert cells[1:] == [["<strong>2</strong>"]] * 2


@pytest.mark.parametrize(
    ("value", "shown"),
    [(93.456, "93.5"), (0.00012345, "0.000123"), (12345.6, "12346"), (1, "1"),
     (1234567, "1234567"), (0.0, "0"), (-2.0, "-2"), (None, "–"), (math.nan, "–"),
     (1.5e7, "1.5e+07"), (math.inf, "inf"), (True, "True"), ("word", "word")],
)  # fmt: skip
def test_numbers_are_written_for_people(value, shown):
    assert tables.number(value) == shown


def test_a_frame_keeps_its_index_as_the_first_column():
    frame = pd.DataFrame({"x": [1.25, 2.0]}, index=pd.Index(["a_b", "c"], name="arm"))
    assert _cells(tables.markdown(frame)) == [["arm", "x"], ["a_b", "1.25"], ["c", "2"]]


def test_rows_with_different_columns_make_one_table():
    cells = _cells(tables.markdown([{"a": 1}, {"b": 2}]))
    assert cells == [["a", "b"], ["1", "–"], ["–", "2"]]


@pytest.mark.parametrize("option", [{"align": {"z": "left"}}, {"best": {"z": "max"}}])
def test_a_column_that_is_not_there_is_refused(option):
    with pytest.raises(ReportError, match="the table has no column 'z'"):
        tables.markdown([{"x": 1}], **option)


def test_a_word_that_means_nothing_is_refused():
    with pytest.raises(ReportError, match="'x' cannot be 'most': choose one of max, min"):
        tables.markdown([{"x": 1}], best={"x": "most"})


def test_a_claim_shows_number_interval_band_share_and_verdict():
    header, row = _cells(tables.claims([CLAIM]))
    assert header == ["claim", "source", "measured", "band", "updates", "verdict"]
    assert row == [
        "Learns as well | or better", "abstract", "-0.5 points (-1.25 to 0.25)",
        "≥ -1 points", "2.5 %", "✔ reproduced",
    ]  # fmt: skip


def test_a_claim_links_to_its_cell_and_its_paper():
    claim = CLAIM | {"url": "a.ipynb#x", "paper": "FF", "paper_url": "a.ipynb"}
    row = _cells(tables.claims([claim], paper=True))[1]
    assert row[0] == '<a href="a.ipynb">FF</a>'
    assert row[1].startswith('<a href="a.ipynb#x">')


def test_a_claim_over_several_settings_lists_them_and_a_missing_number_is_a_dash():
    several = CLAIM | {"measured": [1, 2.5], "unit": "", "high": 3, "share": None}
    unknown = CLAIM | {"measured": None, "low": None, "verdict": "undecided"}
    rows = _cells(tables.claims([several, unknown]))
    assert rows[1][2:5] == ["1, 2.5", "-1 to 3", "–"]
    assert rows[2][2:4] == ["–", "–"]


def test_every_verdict_has_a_sign_of_its_own_and_a_false_one_is_refused():
    assert len({shown[0] for shown in tables.VERDICTS.values()}) == len(tables.VERDICTS)
    assert all(name in shown for name, shown in tables.VERDICTS.items())
    with pytest.raises(ReportError, match="there is no verdict 'perhaps'"):
        tables.claims([CLAIM | {"verdict": "perhaps"}])


def test_no_claims_make_an_empty_table():
    assert tables.claims([]).data.strip("| \n") == ""
