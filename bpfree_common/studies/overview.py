"""All methods side by side: tables, sentences and figures made from records alone."""

import io
import os
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, display
from matplotlib.figure import Figure
from PIL import Image

from bpfree_common import paths, records
from bpfree_common.errors import ReportError
from bpfree_common.papers import catalogue, notebook
from bpfree_common.studies import claims, figures, images, statistics
from bpfree_common.studies.statistics import Estimate

BASELINE, TEXTBOOK, FROZEN = "backprop", "textbook", "frozen"

COMMITTED = "standard"  #: the profile whose reports come with the collection

#: Verdicts of the page's charts, in order.
VERDICTS = (claims.REPRODUCED, claims.BEYOND, claims.UNDECIDED, claims.NOT_REPRODUCED,
            claims.NOT_ATTEMPTED)  # fmt: skip

#: Who says what a claim says.
AUTHORS = ("abstract", "paper", "repository")
CLAIMANTS = {
    "authors": "the papers' own",
    "others": "ours or third parties'",
}


@dataclass(frozen=True)
class Row:
    """One method: its entry in the catalogue, its record, and the record's state."""

    entry: catalogue.Entry
    record: dict
    state: str

    @property
    def slug(self) -> str:
        """The notebook's name, which is also the name of the rule's arm."""
        return self.entry.slug

    def values(self, arm: str, name: str = "test accuracy") -> np.ndarray | None:
        """Values per seed of a metric of an arm; None if the record has none."""
        for metric in self.record["metrics"]:
            if (metric["arm"], metric["name"]) == (arm, name):
                return np.array(metric["values"])
        return None

    def accuracy(self, arm: str) -> Estimate | None:
        """Mean test accuracy of an arm, in per cent, with its interval over seeds."""
        values = self.values(arm)
        return None if values is None else statistics.estimate(100 * values)

    def ahead_of(self, arm: str) -> Estimate | None:
        """The rule's accuracy minus an arm's, in points, paired by seed."""
        own, other = self.values(self.slug), self.values(arm)
        if own is None or other is None or len(own) != len(other):
            return None
        return statistics.paired(100 * own, 100 * other)

    def counts(self, whose: str | None = None) -> dict[str, int]:
        """Verdicts and their number; whose: only those of a kind of `CLAIMANTS`."""
        chosen = [
            claim["verdict"]
            for claim in self.record["claims"]
            if whose is None or _claimant(claim) == whose
        ]
        return {v: chosen.count(v) for v in VERDICTS if v in chosen}

    @property
    def data(self) -> str:
        """The data set of the main comparison, or else all that the run has loaded."""
        loaded = ", ".join(self.record["hashes"]["data"])
        return self.record["parameters"].get("dataset") or loaded or "-"

    def cost(self, name: str) -> str:
        """A ratio of counted costs to backpropagation's, as text."""
        value = self.record["cost"].get(self.slug, {}).get(name)
        return "-" if value is None else f"{value:.2f}"


def available(profile: str) -> str:
    """The profile itself if it has records, else the committed one, which is told.

    A page that is made for a report does not show another profile's records. Raises
    ReportError when there are none to show.
    """
    if _any(profile):
        return profile
    by_hand = "BPFREE_RUN_DIR" not in os.environ
    if by_hand and _any(COMMITTED):
        words = f"There are no {profile} records yet: these are the {COMMITTED} ones."
        display(Markdown(f"*{words} `make reports` makes quick ones.*"))
        return COMMITTED
    raise ReportError(
        f"there is no {profile} record to show: run `make reports PROFILE={profile}`"
    )


def _any(profile: str) -> bool:
    papers = [slug for slug, entry in catalogue.load().items() if entry.is_paper]
    return any((records.folder(s, profile) / records.NAME).is_file() for s in papers)


def rows(profile: str) -> list[Row]:
    """All methods that have a record at `profile`, in the order of the catalogue."""
    entries = catalogue.load()
    found = records.load_all(profile)
    return [Row(entries[s], r, records.state(s, profile)[0]) for s, r in found.items()]


def link(row: Row, to: str = "report") -> str:
    """A Markdown link to a method's report, relative to the overview's own."""
    return f"[{row.entry.title}](../{row.slug}/{row.slug}.ipynb)"


def sentences(found: list[Row]) -> list[str]:
    """What was found over all methods, each sentence with its numbers."""
    names = {r.slug: r.entry.short for r in found}
    backprop = {r.slug: e for r in found if (e := r.ahead_of(BASELINE))}
    # a control of another kind, as COMQ's, is no network with hidden layers as drawn
    frozen = {r.slug: e for r in found if (e := r.ahead_of(FROZEN))}
    costs = {r.slug: c for r in found if (c := r.record["cost"].get(r.slug))}
    said = _gap_sentences(backprop, names) if backprop else []
    said += [_learned_sentence(frozen, names)] if frozen else []
    said += _verdict_sentences(found)
    return said + ([_cost_sentence(costs, names)] if costs else [])


def _gap_sentences(gaps: dict[str, Estimate], names: dict[str, str]) -> list[str]:
    gaps = dict(sorted(gaps.items(), key=lambda gap: -gap[1].mean))
    level = {s: e for s, e in gaps.items() if e.high is not None and e.high >= 0}
    below = {s: e for s, e in gaps.items() if s not in level}
    words = (
        f"Of {len(gaps)} rules that train beside backpropagation on the same network, "
        f"{len(below)} stay below it with their whole 95 % interval"
    )
    if below:
        ends = list(below)[:1] + list(below)[-1:]
        ends = _listed({s: below[s] for s in ends}, names, " to ")
        median = np.median([e.mean for e in below.values()])
        words += f": from {ends} points, {median:+.1f} in the median"
    if not level:
        return [f"{words}."]
    return [f"{words}.", f"Not so {len(level)}: {_listed(level, names)}."]


def _learned_sentence(gaps: dict[str, Estimate], names: dict[str, str]) -> str:
    idle = {s: e for s, e in gaps.items() if e.low is not None and e.low <= 0}
    median = np.median([e.mean for e in gaps.values()])
    words = (
        f"{len(gaps) - len(idle)} of {len(gaps)} rules beat the same network with hidden "
        "layers as drawn, read-out tuned, beyond their interval, by "
        f"{median:.1f} points in the median"
    )
    return f"{words}; not so {_listed(idle, names)}." if idle else f"{words}."


def _cost_sentence(costs: dict[str, dict], names: dict[str, str]) -> str:
    held = {slug: cost["live_ratio"] for slug, cost in costs.items()}
    worked = {slug: cost["flops_ratio"] for slug, cost in costs.items()}
    fewest = min(held, key=held.get)
    least, most = min(worked, key=worked.get), max(worked, key=worked.get)
    return (
        f"{sum(ratio < 1 for ratio in held.values())} of {len(held)} rules hold fewer "
        "live bytes in a step than backpropagation on the network that they were "
        f"measured on, the least {names[fewest]}: {held[fewest]:.2g} times as many. A "
        f"step costs from {worked[least]:.2g} ({names[least]}) to {worked[most]:.2g} "
        f"({names[most]}) times backpropagation's FLOPs."
    )


def _verdict_sentences(found: list[Row]) -> list[str]:
    said = []
    for whose, words in CLAIMANTS.items():
        counts = {v: sum(r.counts(whose).get(v, 0) for r in found) for v in VERDICTS}
        total = sum(counts.values())
        if total:
            parts = ", ".join(f"{n} {v}" for v, n in counts.items() if n)
            said.append(f"Of {total} claims that are {words}: {parts}.")
    return said


def _claimant(claim: dict) -> str:
    return "authors" if claim["source"] in AUTHORS else "others"


def _listed(gaps: dict[str, Estimate], names: dict[str, str], between: str = ", ") -> str:
    """Short names, each with its difference and interval in points."""
    return between.join(f"{names[s]} {e.text(sign=True)}" for s, e in gaps.items())


def scoreboard(found: list[Row]) -> list[dict]:
    """One row per method for a table, sorted by family and then by gap."""
    table = []
    for row in by_family(found):
        own, gap = row.accuracy(row.slug), row.ahead_of(BASELINE)
        control = row.ahead_of(row.entry.control)
        table.append(
            {
                "paper": link(row),
                "year": row.entry.year,
                "family": catalogue.FAMILIES[row.entry.family],
                "data": row.data,
                "accuracy %": _text(own),
                "minus backprop": _text(gap, sign=True),
                "minus control": _text(control, sign=True),
                "FLOPs / BP": row.cost("flops_ratio"),
                "live bytes / BP": row.cost("live_ratio"),
                "claims": _counts(row),
                "report": row.state,
            }
        )
    return table


def _text(found: Estimate | None, sign: bool = False) -> str:
    return "-" if found is None else found.text(sign=sign)


def _counts(row: Row) -> str:
    short = {claims.NOT_ATTEMPTED: "not attempted"}
    return ", ".join(f"{n} {short.get(v, v)}" for v, n in row.counts().items())


def by_family(found: list[Row]) -> list[Row]:
    """Families in the order of the catalogue; in each, the smallest gap first."""
    order = list(catalogue.FAMILIES)

    def key(row: Row):
        gap = row.ahead_of(BASELINE)
        return order.index(row.entry.family), -(gap.mean if gap else -np.inf)

    return sorted(found, key=key)


def ledger(found: list[Row]) -> list[dict]:
    """Every claim of every method in full, with what was measured and the verdict."""
    return [
        {
            "paper": f"[{row.entry.short}](../{row.slug}/{row.slug}.ipynb)",
            "claim": claim["text"],
            "source": claim["source"],
            "measured": _measured(claim),
            "band": _band(claim["band"]),
            "verdict": f"**{claim['verdict']}**",
            "why": claim["why"] or claim["note"],
        }
        for row in found
        for claim in row.record["claims"]
    ]


def _measured(claim: dict) -> str:
    """The measured value with its interval, by setting."""
    parts = []
    for setting in claim["measured"]:
        low, mean, high = claim["intervals"][setting]
        ends = "" if low is None or low == high else f" ({low:.3g} to {high:.3g})"
        parts.append(f"{setting}: {mean:.3g}{ends}" if setting else f"{mean:.3g}{ends}")
    return f"{', '.join(parts)} {claim['unit']}".strip() if parts else "-"


def _band(band: list) -> str:
    low, high = (None if side is None else f"{side:g}" for side in band)
    if low and high:
        return f"{low} to {high}"
    return f"at least {low}" if low else f"at most {high}" if high else "-"


def step_times(found: list[Row]) -> list[dict]:
    """A step's time and its FLOPs, both over backpropagation's on the same network."""
    table = []
    for row in found:
        timing, cost = row.record["timing"], row.record["cost"].get(row.slug)
        measured = timing.get("step_time", {}).get(row.slug)
        measured = measured or {"ratio": timing.get("step_time_ratio", {}).get(row.slug)}
        if cost and measured["ratio"]:
            table.append(
                {
                    "rule": row.entry.short,
                    "step time / BP": round(measured["ratio"], 2),
                    "plus or minus": measured.get("spread"),
                    "FLOPs / BP": round(cost["flops_ratio"], 2),
                }
            )
    return table


def audit_rows(found: list[Row]) -> list[dict]:
    """What each step used, backpropagation's row first; none is asserted."""
    names = ("crossings", "locking", "weight_transport", "live_memory", "forward")
    reference = [r for r in found if BASELINE in r.record["audit"]]
    audits = [("*backpropagation*", r.record["audit"][BASELINE]) for r in reference[:1]]
    audits += [
        (f"[{r.entry.short}](../{r.slug}/{r.slug}.ipynb)", r.record["audit"].get(r.slug))
        for r in by_family(found)
    ]
    heads = ("boundary crossings", "update locking", "weight transport",
             "live bytes with depth", "forward passes")  # fmt: skip
    return [
        {"rule": name}
        | {h: (audit or {}).get(n, "n/a") for h, n in zip(heads, names, strict=True)}
        for name, audit in audits
    ]


def gap_figure(found: list[Row]) -> Figure:
    """Points below or above backpropagation, of the rule and of its frozen control."""
    shown = [r for r in by_family(found) if r.ahead_of(BASELINE) is not None]
    figure, ax = plt.subplots(figsize=(7.6, 0.34 * len(shown) + 1.2))
    for y, row in enumerate(shown):
        colour = figures.family_colour(row.entry.family)
        _point(ax, y, row.ahead_of(BASELINE), colour, "o")
        control, base = row.values(FROZEN), row.values(BASELINE)
        if control is not None and len(control) == len(base):
            gap = statistics.paired(100 * control, 100 * base)
            _point(ax, y + 0.22, gap, "#767676", "v", small=True)
    ax.axvline(0, color="#1a1a1a", lw=1)
    ax.set_xscale("symlog", linthresh=2)
    ax.set_yticks(range(len(shown)), [r.entry.short for r in shown])
    for tick, row in zip(ax.get_yticklabels(), shown, strict=True):
        tick.set_color(figures.family_colour(row.entry.family))
    ax.invert_yaxis()
    ax.set_xticks([-50, -20, -10, -5, -2, -1, 0, 1, 2], minor=False)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_xlabel("test accuracy minus backpropagation's, points (linear from -2 to 2)")
    ax.grid(axis="x", alpha=0.3)
    return figure


def _point(ax, y, found: Estimate, colour, marker, small: bool = False) -> None:
    if found.low is not None:
        ax.plot([found.low, found.high], [y, y], color=colour, lw=1 if small else 1.6)
    ax.plot(found.mean, y, marker, color=colour, markersize=3.5 if small else 5)


def verdict_figure(found: list[Row]) -> Figure:
    """Verdicts per method as a stacked bar, each number written into it."""
    colours = dict(zip(VERDICTS, ("#5aa469", "#2f6f4f", "#e3dfd3", "#c8553d",
                                  "#f4f4f4"), strict=True))  # fmt: skip
    shown = by_family(found)
    figure, ax = plt.subplots(figsize=(7.6, 0.3 * len(shown) + 1.4))
    left = np.zeros(len(shown))
    for verdict in VERDICTS:
        counts = np.array([row.counts().get(verdict, 0) for row in shown])
        if not counts.any():
            continue
        ax.barh(range(len(shown)), counts, left=left, color=colours[verdict],
                edgecolor="#555555", linewidth=0.4, label=verdict)  # fmt: skip
        dark = verdict in (claims.BEYOND, claims.NOT_REPRODUCED)
        for y in np.flatnonzero(counts):
            ax.text(left[y] + counts[y] / 2, y, str(counts[y]), ha="center", va="center",
                    fontsize=8, color="white" if dark else "black")  # fmt: skip
        left += counts
    ax.set_yticks(range(len(shown)), [row.entry.short for row in shown])
    ax.invert_yaxis()
    ax.set_xlabel("claims")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=8)
    return figure


def states(profile: str) -> list[dict]:
    """Every paper of the catalogue: is its record there, and does it still hold?"""
    found = []
    for entry in catalogue.load().values():
        if entry.is_paper:
            word, reason = records.state(entry.slug, profile)
            found.append({"paper": entry.title, "state": word, "reason": reason or ""})
    return found


def hero(row: Row) -> tuple[bytes, str, str]:
    """PNG, caption and alt text of the one figure that tells a method's story."""
    return picture(row, row.record["headline"])


def picture(row: Row, name: str) -> tuple[bytes, str, str]:
    """PNG, caption and alt text of the figure of that name."""
    kept = next(f for f in row.record["figures"] if f["name"] == name)
    (png,) = figure_pngs(row.slug, row.record["profile"], [kept]).values()
    return _smaller(png), kept["caption"], kept["alt"]


def _smaller(png: bytes, width: int = 600) -> bytes:
    """A picture at most `width` points wide, in few colours."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    if picture.width > width:
        height = round(picture.height * width / picture.width)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.quantize(64).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def figure_pngs(
    slug: str, profile: str, figures: list[dict], reports: Path | None = None
) -> dict[str, bytes]:
    """Figures of a report by name: their files, or the pictures that its notebook shows.

    figures: what the record says of each. Raises ReportError when the report lacks one.
    """
    folder = records.folder(slug, profile, reports or paths.reports())
    files = {kept["name"]: folder / "figures" / f"{kept['name']}.png" for kept in figures}
    if all(file.is_file() for file in files.values()):
        return {name: file.read_bytes() for name, file in files.items()}
    shown = {}
    for cell in notebook.read(folder / f"{slug}.ipynb")["cells"]:
        for output in cell.get("outputs", []):
            text = "".join(output.get("data", {}).get("text/markdown", ""))
            shown |= {alt: png for png, alt in images.pictures(text)}
    found = {}
    for kept in figures:
        ((_, alt),) = images.pictures(images.picture(b"-", kept["alt"]).data)  # as shown
        if alt not in shown:
            raise ReportError(f"the report of {slug} lacks its figure {kept['name']!r}")
        found[kept["name"]] = shown[alt]
    return found
