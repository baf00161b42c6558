"""The overview opened by hand, with and without records."""

import pytest

from bpfree_common import paths, records
from bpfree_common.errors import ReportError
from bpfree_common.papers import catalogue
from bpfree_common.studies import overview

STANDARD = paths.PROJECT / "reports"


@pytest.fixture
def reports(tmp_path, monkeypatch):
    """A folder of reports without any, opened by hand."""
    monkeypatch.setenv("BPFREE_REPORTS", str(tmp_path))
    monkeypatch.delenv("BPFREE_RUN_DIR", raising=False)
    return tmp_path


def commit(reports, profile):
    slug = "forward_forward"
    (reports / profile).mkdir()
    report = paths.PROJECT / "reports" / "standard" / slug
    (reports / profile / slug).symlink_to(report)


def test_without_quick_records_the_committed_ones_are_shown_and_it_is_said(
    reports, capsys
):
    commit(reports, "standard")
    assert overview.available("quick") == "standard"
    assert capsys.readouterr().out
    assert overview.available("standard") == "standard"
    assert [row.slug for row in overview.rows("standard")] == ["forward_forward"]


def test_quick_records_are_shown_where_there_are_some(reports):
    commit(reports, "standard")
    commit(reports, "quick")
    assert overview.available("quick") == "quick"


def test_a_report_never_shows_another_profile(reports, monkeypatch):
    commit(reports, "standard")
    monkeypatch.setenv("BPFREE_RUN_DIR", str(reports / "run"))
    with pytest.raises(ReportError, match="no quick record to show: run `make reports"):
        overview.available("quick")


def test_an_empty_overview_says_so(reports):
    with pytest.raises(ReportError, match="no quick record to show"):
        overview.available("quick")


@pytest.mark.parametrize("slug", [s for s, e in catalogue.load().items() if e.is_paper])
def test_every_figure_of_a_committed_record_is_found_in_its_notebook(slug):
    figures = records.load(slug, "standard", STANDARD)["figures"]
    found = overview.figure_pngs(slug, "standard", figures, STANDARD)
    assert list(found) == [kept["name"] for kept in figures]
    assert len(set(found.values())) == len(found) > 0  # no picture stands for two
