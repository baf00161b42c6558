"""The claim atlas: every claim of every paper with what became of it, as data.

One JSON file, whose schema lies beside this module. All of it comes from records and from
the executed notebooks beside them; nothing is executed.
"""

import ast
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import fastjsonschema

from bpfree_common import paths
from bpfree_common.errors import ReportError
from bpfree_common.papers import catalogue, notebook
from bpfree_common.records import record
from bpfree_common.studies import overview

SCHEMA = paths.LABORATORY / "publishing" / "atlas.schema.json"

#: Methods of a study that judge a claim, which they name first.
_JUDGING = ("claim", "not_attempted")


def make(profile: str = "standard") -> dict:
    """The atlas of all papers that have a record at `profile`; see `of`."""
    return of(overview.rows(profile), profile)


def of(found: list[overview.Row], profile: str) -> dict:
    """The atlas of some rows of the overview, in their order; checked by its schema.

    Raises ReportError if there is no row, or a report cannot be read.
    """
    if not found:
        raise ReportError(
            f"no paper has a record at the {profile} profile: "
            f"run `make reports PROFILE={profile}`"
        )
    claims = [claim for row in found for claim in _claims(row)]
    counts = [claim["verdict"] for claim in claims]
    made = {
        "schema": 1,
        "profile": profile,
        "verdicts": {v: counts.count(v) for v in overview.VERDICTS if v in counts},
        "papers": {row.slug: _paper(row) for row in found},
        "claims": claims,
    }
    validator()(made)
    return made


@cache
def validator():
    """A function that raises fastjsonschema.JsonSchemaException for what is no atlas."""
    return fastjsonschema.compile(json.loads(SCHEMA.read_text(encoding="utf-8")))


def anchor(name: str) -> str:
    """The id, on a paper's page, of the cell that judges a claim."""
    return f"claim-{name}"


def report(row: overview.Row) -> str:
    """Where the executed notebook of a row lies, from the folder of reports."""
    return f"{row.record['profile']}/{row.slug}/{row.slug}.ipynb"


def claim_cells(cells: list[dict], names: Iterable[str]) -> dict[str, int | None]:
    """Claim -> index of the cell that judges it, or None where no cell names it.

    A cell that calls `study.claim("name", ...)` comes first, then one that names the
    claim at all (in a table over which it loops); the last of them counts.
    """
    trees = {
        index: ast.parse(_plain(notebook.source(cell)))
        for index, cell in enumerate(cells)
        if cell["cell_type"] == "code"
    }
    called = {n: i for i, tree in trees.items() for n in _judged(tree)}
    named = {n: i for i, tree in trees.items() for n in _strings(tree)}
    return {name: called.get(name, named.get(name)) for name in names}


def _plain(source: str) -> str:
    """The source without IPython's own commands, which are no Python."""
    lines = source.splitlines()
    return "\n".join("" if line.startswith(("%", "!")) else line for line in lines)


def _judged(tree: ast.AST) -> list[str]:
    return [
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in _JUDGING
        and node.args
        and isinstance(node.args[0], ast.Constant)
    ]


def _strings(tree: ast.AST) -> list[str]:
    found = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return [value for value in found if isinstance(value, str)]


def _paper(row: overview.Row) -> dict:
    entry = row.entry
    return {
        "title": entry.title,
        "short": entry.short,
        "family": entry.family,
        "family_name": catalogue.FAMILIES[entry.family],
        "authors": entry.authors,
        "year": entry.year,
        "venue": entry.venue,
        "arxiv": entry.arxiv,
        "state": row.state,
        "seeds": len(row.record["seeds"]),
        "report": report(row),
        "page": f"papers/{row.slug}.html",
    }


def _claims(row: overview.Row) -> list[dict]:
    content = notebook.read(paths.reports() / report(row))
    names = [claim["name"] for claim in row.record["claims"]]
    cells = claim_cells(content["cells"], names)
    return [_claim(row, claim, cells[claim["name"]]) for claim in row.record["claims"]]


def _claim(row: overview.Row, claim: dict, cell: int | None) -> dict:
    place = "" if cell is None else f"#{anchor(claim['name'])}"
    return {
        "id": f"{row.slug}/{claim['name']}",
        "paper": row.slug,
        "name": claim["name"],
        "text": claim["text"],
        "source": claim["source"],
        "band": claim["band"],
        "null": claim["null"],
        "unit": claim["unit"],
        "measured": _measured(claim),
        "verdict": claim["verdict"],
        "share": claim["share"],
        "reason": claim["why"] or claim["note"],
        "cell": cell,
        "page": f"papers/{row.slug}.html{place}",
    }


def _measured(claim: dict) -> list[dict]:
    """What was measured, by setting."""
    found = []
    for setting, values in claim["measured"].items():
        low, mean, high = claim["intervals"][setting]
        found.append(
            {
                "setting": setting,
                "mean": mean,
                "interval": None if low is None else [low, high],
                "values": values,
                "verdict": claim["verdicts"][setting],
            }
        )
    return found


def write(made: dict, path: Path) -> None:
    """Write an atlas to a file, in one move."""
    record.write_json(made, path)
