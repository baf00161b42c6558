"""What README shows of the findings: sentences, a figure and the list of papers.

All of it is made from the committed standard records and stands between two marks, so
that `python -m bpfree_common readme` can write it anew and a test can hold it to them.
"""

from pathlib import Path

from bpfree_common import paths
from bpfree_common.errors import ReportError
from bpfree_common.papers import catalogue
from bpfree_common.studies import (
    championship,
    championship_words,
    images,
    overview,
    tables,
)
from bpfree_common.studies.palette import use_style

PROFILE = "standard"
BEGIN = "<!-- made from the records by `make readme`: do not edit -->"
END = "<!-- end of what is made from the records -->"
PICTURE = Path("reports") / PROFILE / "gaps.png"
#: Which findings of the championship stand on the first screen.
CHAMPIONSHIP = {"dense": ("best", "depth"), "conv": ("frozen",)}
ALT = "Points of test accuracy by which each rule differs from backpropagation"


def text(found: list[overview.Row]) -> str:
    """The part of README that tells what was found, in Markdown."""
    said = "\n".join(f"- {sentence}" for sentence in sentences(found))
    words = "; ".join(
        f"{row.entry.short} {gap.text(sign=True)}"
        for row in overview.by_family(found)
        if (gap := row.ahead_of(overview.BASELINE))
    )
    picture = f"![{ALT}: {words}.]({PICTURE.as_posix()})"
    note = (
        "*Circles: the rule; triangles: the same network with hidden layers as drawn. "
        "Lines are 95 % intervals over seeds, at the small budgets of the standard "
        f"profile; the [overview]({_report('overview')}) has the costs and every claim.*"
    )
    table = tables.markdown([_row(row) for row in overview.by_family(found)]).data
    parts = ["## What was found", said, picture, note, "## The papers", table]
    return "\n\n".join(parts)


def sentences(found: list[overview.Row], profile: str = PROFILE) -> list[str]:
    """What was found, over all papers and in the championship, with its numbers."""
    said = overview.sentences(found)
    for kind, subjects in CHAMPIONSHIP.items():
        words = championship_words.sentences(championship.field(kind, profile))
        said += [f"Championship, {kind}: {words[s]}" for s in subjects if s in words]
    return said


def _row(row: overview.Row) -> dict:
    gaps = {
        "minus backprop": row.ahead_of(overview.BASELINE),
        "minus textbook": row.ahead_of(overview.TEXTBOOK),
        "minus control": row.ahead_of(row.entry.control),
    }
    link = f"[{row.entry.short}]({_report(row.slug)})"
    return {
        "paper": f"{link}: {tables.text(row.entry.title)}",
        "year": str(row.entry.year),
        "family": catalogue.FAMILIES[row.entry.family],
        "data": row.data,
        "accuracy %": _number(row.accuracy(row.slug)),
        **{name: _number(gap, sign=True) for name, gap in gaps.items()},
        "claims": ", ".join(f"{n} {verdict}" for verdict, n in row.counts().items()),
    }


def _number(found, sign: bool = False) -> str:
    return "-" if found is None else found.text(sign=sign)


def _report(slug: str) -> str:
    return f"reports/{PROFILE}/{slug}/{slug}.ipynb"


def replaced(readme: str, part: str) -> str:
    """README with `part` between its marks. Raises ReportError if they are not there."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ReportError(f"README.md has lost its marks: put {BEGIN!r} and {END!r} back")
    return f"{before}{BEGIN}\n\n{part}\n\n{END}{after}"


def write(project: Path = paths.PROJECT) -> Path:
    """Write README's findings and their figure anew from the standard records."""
    found = overview.rows(PROFILE)
    readme = project / "README.md"
    readme.write_text(replaced(readme.read_text(), text(found)))
    use_style()
    (project / PICTURE).write_bytes(images.render(overview.gap_figure(found)))
    return readme
