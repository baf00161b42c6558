"""Runs at a paper's own scale beside the numbers that the paper gives."""

import re

from IPython.display import Markdown

from bpfree_common.studies import tables
from bpfree_common.studies.overview import BASELINE, COMMITTED, Row, rows
from bpfree_common.studies.statistics import Estimate

MARGIN = 0.5  #: points within which a number counts as met
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_MISSING = "-"


def shown(profile: str) -> Markdown:
    """The table of such runs, or a sentence where there is none to show."""
    if found := table(profile):
        return tables.markdown(found)
    return Markdown("*No run at a paper's own scale stands beside these records.*")


def table(profile: str) -> list[dict]:
    """One row for each paper that was run at its own scale.

    Empty for a profile whose reports are not committed. Differences are in points of
    test accuracy; the paper's number is that of its data set in the catalogue.
    """
    return [_row(found) for found in rows("paper")] if profile == COMMITTED else []


def published(row: Row) -> dict | None:
    """The paper's own accuracies on the data set of a run, as the catalogue has them."""
    data = _plain(row.record["parameters"].get("dataset", ""))
    for said in row.entry.headline if data else ():
        there = _plain(said.get("dataset", ""))
        if there == data and "accuracy" in said.get("metric", ""):
            return said
    return None


def number(said) -> float | None:
    """The number in front: 98.13 of "98.13 +- 0.10"; None where there is none."""
    match = _NUMBER.match(str(said))
    return float(match[0]) if match else None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _row(row: Row) -> dict:
    said, record = published(row) or {}, row.record
    theirs, theirs_bp = number(said.get("method")), number(said.get("backprop"))
    ours, gap = row.accuracy(row.slug), row.ahead_of(BASELINE)
    base, control = row.accuracy(BASELINE), row.accuracy(row.entry.control)
    share, where = record["budget"].get("share"), record["environment"]
    known = theirs is not None and theirs_bp is not None
    return {
        "paper": f"[{row.entry.title}](../../paper/{row.slug}/{row.slug}.ipynb)",
        "on": ", ".join(filter(None, (said.get("dataset"), said.get("network")))),
        "rule, paper: here": f"{_said(theirs, said)}: {_text(ours)}",
        "off by": _met(ours.mean - theirs) if ours and theirs is not None else _MISSING,
        "backprop, paper: here": f"{_said(theirs_bp, said)}: {_text(base)}",
        "gap, paper: here": (f"{theirs - theirs_bp:+.2f}" if known else _MISSING)
        + f": {_text(gap, sign=True)}",
        "frozen, here": _text(control),
        "seeds": len(record["seeds"]),
        "share of updates": _MISSING if share is None else f"{share:.2f}",
        "device, products": f"{where['device']}, {where['matmul_precision']}",
        "record": row.state,
    }


def _text(found: Estimate | None, sign: bool = False) -> str:
    return _MISSING if found is None else found.text(sign=sign)


def _said(value: float | None, said: dict) -> str:
    doubt = " (unverified)" if said.get("unverified") else ""
    return _MISSING if value is None else f"{value:g}{doubt}"


def _met(off: float) -> str:
    word = "inside" if abs(off) <= MARGIN else "outside"
    return f"{off:+.2f}: {word} half a point"
