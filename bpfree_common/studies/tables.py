"""Tables in Markdown, which GitHub, JupyterLab and the site all show as they are meant.

HTML tables lose their colours and alignment on GitHub, and pandas cuts long sentences;
Markdown keeps both, and takes links.
"""

import math
import re
from collections.abc import Iterable, Mapping
from numbers import Integral, Real

import pandas as pd
from IPython.display import Markdown

from bpfree_common.errors import ReportError

#: A sign beside every verdict, so that no colour is needed to see it.
VERDICTS = {
    "reproduced": "✔ reproduced",
    "beyond": "⇈ beyond",
    "not reproduced": "✘ **not reproduced**",
    "undecided": "≈ undecided",
    "not attempted at this scale": "○ not attempted at this scale",
}
MISSING = "–"

#: What Markdown would take for its own; a backslash keeps it a character.
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~$])")
_RULES = {"left": ":---", "right": "---:", "center": ":---:"}


def text(value: str) -> str:
    """`value` as plain characters of a cell: nothing in it acts as Markdown."""
    return " ".join(_SPECIAL.sub(r"\\\1", str(value)).split())


def link(words: str, address: str) -> str:
    """A link for a cell; a space or bracket in the address is percent-encoded."""
    safe = {" ": "%20", "(": "%28", ")": "%29", "|": "%7C"}
    for sign, code in safe.items():
        address = address.replace(sign, code)
    return f"[{text(words)}]({address})"


def number(value, digits: int = 3) -> str:
    """A number with `digits` significant digits at least; integers are written whole."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if isinstance(value, bool) or not isinstance(value, Real):
        return str(value)
    whole = isinstance(value, Integral) or 10**digits <= abs(value) < 1e6
    return f"{value:.0f}" if whole else f"{value:.{digits}g}"


def markdown(
    rows: Iterable[Mapping] | pd.DataFrame,
    align: Mapping[str, str] | None = None,
    best: Mapping[str, str] | None = None,
    digits: int = 3,
) -> Markdown:
    """A table from dicts, one a row, or from a DataFrame, whose index comes first.

    Cells that are strings are Markdown already (`text` and `link` make them); numbers
    are aligned right and shortened to `digits` significant digits, missing ones are a
    dash. align: column -> "left", "right" or "center", where another is wished.
    best: column -> "max" or "min", whose best number is set bold. Raises ReportError for
    a column or a word that does not exist.
    """
    rows = _rows(rows)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    align, best = dict(align or {}), dict(best or {})
    _check(align, columns, _RULES)
    _check(best, columns, ("max", "min"))
    bold = {name: _best(rows, name, which) for name, which in best.items()}
    lines = [_line([text(name) for name in columns])]
    lines.append(_line([_RULES[align.get(n) or _side(rows, n)] for n in columns]))
    for row in rows:
        cells = []
        for name in columns:
            value = row.get(name)
            cell = number(value, digits)
            strong = name in bold and _is_number(value) and value == bold[name]
            cells.append(f"**{cell}**" if strong else cell)
        lines.append(_line([_escape_pipes(cell) for cell in cells]))
    return Markdown("\n".join(lines))


def claims(found: Iterable[Mapping], paper: bool = False) -> Markdown:
    """Claims, what was measured, and the verdicts.

    found: dicts with `text`, `source`, `verdict` and, where they are known, `measured`
    (one number, or a list over settings), `interval` (low, high), `low`, `high` (the
    band's ends; None is open), `unit`, `share` (of the paper's updates, a fraction),
    `url` (the claim's cell), and with `paper=True` also `paper` and `paper_url`.
    """
    rows = []
    for claim in found:
        words = claim["text"]
        row = {"claim": link(words, claim["url"]) if claim.get("url") else text(words)}
        if paper:
            name, address = claim["paper"], claim.get("paper_url")
            row = {"paper": link(name, address) if address else text(name)} | row
        rows.append(row | _judged(claim))
    return markdown(rows, align={"measured": "right", "updates": "right"} if rows else {})


def _judged(claim: Mapping) -> dict[str, str]:
    """Source, number, band, share of the updates and verdict of a claim, as cells."""
    unit = f" {text(claim['unit'])}" if claim.get("unit") else ""
    share, verdict = claim.get("share"), claim["verdict"]
    if verdict not in VERDICTS:
        raise ReportError(f"there is no verdict {verdict!r}: see tables.VERDICTS")
    return {
        "source": text(claim["source"]),
        "measured": _measured(claim, unit),
        "band": _band(claim.get("low"), claim.get("high"), unit),
        "updates": MISSING if share is None else f"{number(100 * share, 2)} %",
        "verdict": VERDICTS[verdict],
    }


def _measured(claim: Mapping, unit: str) -> str:
    value, interval = claim.get("measured"), claim.get("interval")
    if value is None:
        return MISSING
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(number(each) for each in value) + unit
    words = number(value) + unit
    if interval and not any(end is None or math.isnan(end) for end in interval):
        words += f" ({number(interval[0])} to {number(interval[1])})"
    return words


def _band(low, high, unit: str) -> str:
    if low is None and high is None:
        return MISSING
    if high is None:
        return f"≥ {number(low)}{unit}"
    if low is None:
        return f"≤ {number(high)}{unit}"
    return f"{number(low)} to {number(high)}{unit}"


def _rows(rows) -> list[dict]:
    if not isinstance(rows, pd.DataFrame):
        return [dict(row) for row in rows]
    records = rows.to_dict("records")
    name = rows.index.name or ""
    return [{name: text(at)} | row for at, row in zip(rows.index, records, strict=True)]


def _check(given: Mapping[str, str], columns: list[str], words) -> None:
    for column, word in given.items():
        if column not in columns:
            raise ReportError(f"the table has no column {column!r}: {columns}")
        if word not in words:
            allowed = ", ".join(words)
            raise ReportError(f"{column!r} cannot be {word!r}: choose one of {allowed}")


def _is_number(value) -> bool:
    number_like = isinstance(value, Real) and not isinstance(value, bool)
    return number_like and not math.isnan(value)


def _best(rows: list[dict], column: str, which: str) -> float | None:
    values = [row[column] for row in rows if _is_number(row.get(column))]
    return (max if which == "max" else min)(values, default=None)


def _side(rows: list[dict], column: str) -> str:
    """Numbers stand at the right, everything else at the left."""
    values = [row[column] for row in rows if row.get(column) is not None]
    return "right" if values and all(isinstance(v, Real) for v in values) else "left"


def _escape_pipes(cell: str) -> str:
    """A bar that is not escaped yet would end the cell."""
    return re.sub(r"(?<!\\)((?:\\\\)*)\|", r"\1\\|", cell).replace("\n", " ")


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
