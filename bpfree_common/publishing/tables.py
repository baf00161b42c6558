"""HTML of the site that is no notebook: the gallery, the overview, the atlas' table."""

import html
from collections.abc import Callable, Iterable

from bpfree_common.papers import catalogue
from bpfree_common.studies import overview, tables
from bpfree_common.studies.statistics import Estimate

_SIGNS = {v: words.replace("*", "") for v, words in tables.VERDICTS.items()}
_MISSING = "–"

#: Rows in the order of a page, each with the words of its picture.
Pictures = list[tuple[overview.Row, str]]


def gallery(pictures: Pictures) -> str:
    """One card a paper: its picture, which leads to its page, and three numbers."""
    return _cards(pictures, "gallery", _numbers)


def schematics(pictures: Pictures) -> str:
    """One card a paper: its schematic, which leads to its page."""
    return _cards(pictures, "schematics", lambda row: "")


def _cards(pictures: Pictures, folder: str, more: Callable[[overview.Row], str]) -> str:
    cards = "\n".join(_card(row, alt, folder, more(row)) for row, alt in pictures)
    return f'<ul class="cards">\n{cards}\n</ul>'


def _card(row: overview.Row, alt: str, folder: str, more: str) -> str:
    page, family = f"papers/{row.slug}.html", catalogue.FAMILIES[row.entry.family]
    return (
        f'<li><a href="{page}"><img src="_static/{folder}/{row.slug}.png" '
        f'alt="{html.escape(alt)}" loading="lazy"></a>'
        f'<h3><a href="{page}">{html.escape(row.entry.title)}</a></h3>'
        f"<p>{html.escape(row.entry.short)}, {row.entry.year}. {family}.</p>{more}</li>"
    )


def _numbers(row: overview.Row) -> str:
    counts = row.counts()
    numbers = {
        "Accuracy, %": _said(row.accuracy(row.slug)),
        "Minus backprop": _said(row.ahead_of(overview.BASELINE), sign=True),
        "Claims reproduced": _reproduced(counts),
    }
    terms = "".join(f"<dt>{k}</dt><dd>{v}</dd>" for k, v in numbers.items())
    return f"<dl>{terms}</dl>"


def _reproduced(counts: dict[str, int]) -> str:
    return f"{counts.get('reproduced', 0)} of {sum(counts.values())}"


def _said(found: Estimate | None, sign: bool = False) -> str:
    return _MISSING if found is None else found.text(sign=sign)


def methods(found: list[overview.Row]) -> str:
    """The overview: a row a paper, with filters by family, data and state."""
    rows = [_method(row) for row in overview.by_family(found)]
    data = dict.fromkeys(row.data for row in found)
    filters = {
        "family": ("Family", {r.entry.family: _family(r) for r in found}),
        "data": ("Data", {name: name for name in data}),
        "state": ("Record", {r.state: r.state for r in found}),
    }
    heads = ["Paper", "Year", "Family", "Data", "Accuracy, %", "Minus backprop",
             "Minus textbook", "Minus control", "FLOPs / BP", "Live bytes / BP",
             "Reproduced", "Record"]  # fmt: skip
    return _filters("methods", filters) + _table("methods", heads, rows, "All methods")


def _family(row: overview.Row) -> str:
    return catalogue.FAMILIES[row.entry.family]


def _method(row: overview.Row) -> str:
    entry, counts = row.entry, row.counts()
    link = f'<a href="papers/{row.slug}.html">{html.escape(entry.title)}</a>'
    share = counts.get("reproduced", 0) / max(1, sum(counts.values()))
    cells = [
        f'<td class="text">{link} ({html.escape(entry.short)})</td>',
        _number(str(entry.year or _MISSING), entry.year),
        f"<td>{_family(row)}</td>",
        f"<td>{html.escape(row.data)}</td>",
        _estimate(row.accuracy(row.slug)),
        *(
            _estimate(row.ahead_of(arm), sign=True)
            for arm in (overview.BASELINE, overview.TEXTBOOK, entry.control)
        ),
        *(_cost(row, name) for name in ("flops_ratio", "live_ratio")),
        _number(_reproduced(counts), share),
        f"<td>{row.state}</td>",
    ]
    kept = {"family": entry.family, "data": row.data, "state": row.state}
    return _row(kept, cells)


def _cost(row: overview.Row, name: str) -> str:
    value = row.record["cost"].get(row.slug, {}).get(name)
    return _number(_MISSING if value is None else f"{value:.2f}", value)


def _estimate(found: Estimate | None, sign: bool = False) -> str:
    shown = _said(found, sign).replace(" (", " <br>(")  # narrow columns
    return _number(shown, None if found is None else found.mean)


def _number(shown: str, key: float | None) -> str:
    """A cell that is sorted by `key`; one without a number sorts last."""
    return f'<td class="number" data-key="{"" if key is None else key}">{shown}</td>'


def claims(made: dict) -> str:
    """The claim atlas as a table, with filters by paper, family, source and verdict."""
    papers, found = made["papers"], made["claims"]
    sources = [s for s in _SOURCES if any(c["source"] == s for c in found)]
    families = {p["family"]: p["family_name"] for p in papers.values()}
    filters = {
        "paper": ("Paper", {slug: p["short"] for slug, p in papers.items()}),
        "family": ("Family", families),
        "source": ("Source", {s: s for s in sources}),
        "verdict": ("Verdict", {v: _SIGNS[v] for v in made["verdicts"]}),
    }
    heads = ["Paper", "Claim", "Source", "Band", "Measured", "Verdict",
             "Share of updates", "Reason"]  # fmt: skip
    rows = [_claim(claim, papers[claim["paper"]]) for claim in found]
    return _filters("claims", filters) + _table("claims", heads, rows, "All claims")


_SOURCES = ("abstract", "paper", "repository", "independent", "third party", "ours")


def _claim(claim: dict, paper: dict) -> str:
    share, mean = claim["share"], None
    if len(claim["measured"]) == 1:
        mean = claim["measured"][0]["mean"]
    unit, text = html.escape(claim["unit"]), html.escape(claim["text"])
    cells = [
        f'<td><a href="{paper["page"]}">{html.escape(paper["short"])}</a></td>',
        f'<td class="text"><a href="{claim["page"]}">{text}</a></td>',
        f"<td>{claim['source']}</td>",
        f"<td>{_band(claim['band'])} {unit if any(_sides(claim)) else ''}</td>",
        f'<td data-key="{"" if mean is None else mean}">{_measured(claim)}</td>',
        f'<td class="verdict">{_SIGNS[claim["verdict"]]}</td>',
        _number(_MISSING if share is None else f"{100 * share:.3g} %", share),
        f'<td class="small">{html.escape(claim["reason"])}</td>',
    ]
    kept = {key: claim[key] for key in ("paper", "source", "verdict")}
    return _row(kept | {"family": paper["family"]}, cells)


def _sides(claim: dict) -> Iterable[bool]:
    return (side is not None for side in claim["band"])


def _band(band: list) -> str:
    low, high = (None if side is None else f"{side:g}" for side in band)
    if low and high:
        return f"{low} to {high}"
    return f"at least {low}" if low else f"at most {high}" if high else _MISSING


def _measured(claim: dict) -> str:
    """What was measured, a line a setting."""
    lines = []
    for each in claim["measured"]:
        low, high = each["interval"] or (None, None)
        ends = "" if low is None or low == high else f" ({low:.3g} to {high:.3g})"
        setting = f"{html.escape(each['setting'])}: " if each["setting"] else ""
        unit = html.escape(claim["unit"])
        lines.append(f"{setting}{each['mean']:.3g}{ends} {unit}".strip())
    return "<br>".join(lines) or _MISSING


def _row(kept: dict[str, str], cells: list[str]) -> str:
    data = "".join(f' data-{key}="{html.escape(value)}"' for key, value in kept.items())
    return f"<tr{data}>{''.join(cells)}</tr>"


def _filters(table: str, filters: dict[str, tuple[str, dict[str, str]]]) -> str:
    """A form that the script shows: a choice for each filter, and a field for words."""
    fields = "".join(_choice(name, *about) for name, about in filters.items())
    return (
        f'<form class="filters" data-table="{table}" hidden>{fields}'
        '<label>Words<input type="search" name="words" autocomplete="off"></label>'
        '<output role="status"></output></form>\n'
    )


def _choice(name: str, label: str, values: dict[str, str]) -> str:
    options = "".join(
        f'<option value="{html.escape(value)}">{html.escape(words)}</option>'
        for value, words in values.items()
    )
    every = '<option value="">all</option>'
    return f'<label>{label}<select name="{name}">{every}{options}</select></label>'


def _table(name: str, heads: list[str], rows: list[str], label: str) -> str:
    head = "".join(f'<th scope="col">{each}</th>' for each in heads)
    body = "\n".join(rows)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{label}">'
        f'<table class="sortable" id="{name}">'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )
