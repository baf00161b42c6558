"""README's findings are those of the committed records, and can be made anew."""

import re

import pytest
from PIL import Image

from bpfree_common import paths
from bpfree_common.errors import ReportError
from bpfree_common.studies import front, overview

README = (paths.PROJECT / "README.md").read_text()


@pytest.fixture(scope="module")
def found():
    return overview.rows(front.PROFILE)


def test_readme_tells_what_the_records_say(found):
    assert front.replaced(README, front.text(found)) == README, "run `make readme`"


def test_every_paper_with_a_record_is_listed_with_a_link_that_leads_somewhere(found):
    part = front.text(found)
    links = re.findall(r"\]\((reports/[^)]+)\)", part)
    assert {f"reports/standard/{r.slug}/{r.slug}.ipynb" for r in found} <= set(links)
    assert all((paths.PROJECT / link).is_file() for link in links)


def test_who_stays_below_backpropagation_and_who_does_not_follows_from_intervals(found):
    below, level, *_ = overview.sentences(found)
    gaps = {r.entry.short: e for r in found if (e := r.ahead_of(overview.BASELINE))}
    reach = {short: e for short, e in gaps.items() if e.high >= 0}
    assert below.startswith(f"Of {len(gaps)} rules")
    assert f"{len(gaps) - len(reach)} stay below it" in below
    named = [words.rsplit(" (", 1)[0] for words in level.split(": ")[1].split("), ")]
    assert sorted(named) == sorted(f"{s} {e.mean:+.1f}" for s, e in reach.items())


def test_only_frozen_networks_are_told_as_such(found):
    (said,) = [s for s in overview.sentences(found) if "hidden layers as drawn" in s]
    controlled = [row for row in found if row.ahead_of(overview.FROZEN)]
    assert f" of {len(controlled)} rules" in said
    assert "comq" not in {row.slug for row in controlled}  # rounding is no frozen layer


def test_the_first_screen_tells_of_both_networks_of_the_championship(found):
    said = "\n".join(front.sentences(found))
    assert "Championship, dense: Textbook backprop" in said
    assert "Championship, conv: On the convolutional network" in said


def test_the_picture_is_as_tall_as_it_has_rows(found):
    width, height = Image.open(paths.PROJECT / front.PICTURE).size
    compared = [row for row in found if row.ahead_of(overview.BASELINE)]
    assert width > 500
    assert height > 30 * len(compared)


def test_what_a_person_wrote_around_it_stays_and_lost_marks_are_told():
    text = f"before {front.BEGIN} old {front.END} after"
    assert front.replaced(text, "new").split() == (
        f"before {front.BEGIN} new {front.END} after".split()
    )
    with pytest.raises(ReportError, match="has lost its marks"):
        front.replaced("no marks", "new")
