"""The championship: what the records of the contest's jobs say, side by side.

Each rule stands beside the backprop and the frozen control of its own network (same
activation and initialisation) and beside textbook backprop. Differences are paired by
seed; p values are adjusted for the number of rules by Holm's method; what is not told
apart is a tie, and "equal" is an equivalence test with the margin `MARGIN`.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from bpfree_common import records
from bpfree_common.errors import ReportError
from bpfree_common.papers import catalogue
from bpfree_common.studies import statistics, tables
from bpfree_common.studies.contest import BACKPROP, CONVERGED, EPOCHS, FROZEN, SCALE
from bpfree_common.studies.statistics import Estimate

TEST = "test accuracy"
TEXTBOOK = "textbook"
MARGIN = 0.005  #: difference of accuracies within which two are called equal
LEVEL = 1 - statistics.LEVEL


@dataclass(frozen=True)
class Entrant:
    """A job of the contest: its record, and the one that holds its own opponents."""

    name: str
    slug: str
    record: dict
    state: str
    own: "Entrant | None" = None

    @property
    def entry(self) -> catalogue.Entry | None:
        """The paper's entry; None for a shared network."""
        return catalogue.load().get(self.name)

    @property
    def short(self) -> str:
        """How figures call it."""
        return self.entry.short if self.entry else f"{self.name} backprop"

    @property
    def arm(self) -> str:
        """The arm that is the entrant: the rule's, or a ground's backprop."""
        return self.name if self.entry else BACKPROP

    def values(self, metric: str = TEST, arm: str = "") -> np.ndarray | None:
        """Values per seed of a metric, of the entrant's own arm by default; or None."""
        for each in self.record["metrics"]:
            if (each["arm"], each["name"]) == (arm or self.arm, metric):
                return np.array(each["values"])
        return None

    def opponent(self, arm: str, metric: str = TEST) -> np.ndarray | None:
        """Values per seed of an opponent on the entrant's own network."""
        return (self.own or self).values(metric, arm)

    def cost(self, name: str, arm: str = "") -> float:
        """A counted cost of one step."""
        return self.record["cost"][arm or self.arm][name]

    @property
    def updates_per_epoch(self) -> int:
        """Training steps of one pass."""
        values = self.record["parameters"]
        return values["samples"] // values["batch_size"]

    def work(self, metric: str | None = None) -> float:
        """FLOPs of the whole training: equal passes, or with `EPOCHS` until converged."""
        passes = self.record["parameters"]["epochs"]
        passes = passes if metric is None else float(self.values(metric).mean())
        return self.cost("flops") * self.updates_per_epoch * passes


@dataclass(frozen=True)
class Field:
    """All entrants on one network: rules, and the shared networks by name."""

    network: str
    rules: list[Entrant]
    grounds: dict[str, Entrant]

    @property
    def textbook(self) -> Entrant | None:
        """Textbook backprop; None where its job has no record."""
        return self.grounds.get(TEXTBOOK)

    @property
    def ranked(self) -> list[Entrant]:
        """Rules by mean accuracy, the best first."""
        return sorted(self.rules, key=lambda rule: -rule.values().mean())

    def find(self, name: str) -> Entrant:
        """A rule by its paper's slug."""
        return next(rule for rule in self.rules if rule.name == name)


def field(network: str, profile: str) -> Field:
    """The field of one network from the records at a profile.

    Raises ReportError when the job that holds a rule's own opponents has no record.
    """
    found = {}
    for slug in catalogue.jobs(f"contest_{network}"):
        record = records.load(slug, profile)
        if record is not None:
            name = record["parameters"]["entrant"]
            found[name] = Entrant(name, slug, record, records.state(slug, profile)[0])
    grounds = {n: e for n, e in found.items() if e.entry is None}
    rules = [_with_opponents(e, grounds) for n, e in found.items() if n not in grounds]
    return Field(network, rules, grounds)


def _with_opponents(rule: Entrant, grounds: dict[str, Entrant]) -> Entrant:
    """The rule beside the job that trained backprop and frozen on its own network."""
    if rule.values(arm=BACKPROP) is not None:
        return rule
    shared = [m["arm"] for m in rule.record["metrics"] if m["name"] == SCALE]
    if not shared or shared[0] not in grounds:
        missing = shared[0] if shared else "its own network"
        raise ReportError(
            f"{rule.slug} is compared with backprop on {missing}, whose job has no "
            "record: run it first"
        )
    values = (rule.name, rule.slug, rule.record, rule.state)
    return Entrant(*values, own=grounds[shared[0]])


# --- differences ------------------------------------------------------------------------


def difference(a, b) -> Estimate | None:
    """a - b in points, paired by the seeds that both have; None if one is missing."""
    if a is None or b is None:
        return None
    n = min(len(a), len(b))
    return statistics.paired(100 * a[:n], 100 * b[:n])


def against(rules: list[Entrant], other, metric: str = TEST) -> dict[str, "Duel"]:
    """Each rule against ``other(rule)``'s values, p adjusted for their number."""
    pairs = {}
    for rule in rules:
        a, b = rule.values(metric), other(rule)
        if a is not None and b is not None:
            n = min(len(a), len(b))
            pairs[rule.name] = a[:n], b[:n]
    p = statistics.holm({n: statistics.p_different(*ab) for n, ab in pairs.items()})
    return {
        name: Duel(statistics.paired(100 * a, 100 * b), p[name], _equal(a, b))
        for name, (a, b) in pairs.items()
    }


def _equal(a, b) -> bool:
    return statistics.equivalent(a, b, MARGIN)


@dataclass(frozen=True)
class Duel:
    """A paired difference in points, its adjusted p, whether it is shown to be none."""

    gap: Estimate
    p: float
    equal: bool

    @property
    def word(self) -> str:
        """`above`, `below`, `tie`, or `open` where there are too few seeds."""
        if np.isnan(self.p):
            return "open"
        if self.p >= LEVEL:
            return "tie"
        return "above" if self.gap.mean > 0 else "below"

    @property
    def text(self) -> str:
        """For a cell: the difference, and what it comes to."""
        words = {"tie": " tie", "open": "", "above": " **above**", "below": ""}
        equal = " (equal)" if self.equal else ""
        return self.gap.text(sign=True) + words[self.word] + equal


def own(arm: str, metric: str = TEST):
    """For `against`: the opponent on each rule's own network."""
    return lambda rule: rule.opponent(arm, metric)


def groups(entrants: list[Entrant], metric: str = TEST) -> list[list[Entrant]]:
    """Ties, the best first: whoever is not told apart from the best of its group.

    Every pair is compared by a paired t test, adjusted for the number of pairs. With too
    few seeds nobody is told apart.
    """
    ranked = sorted(entrants, key=lambda each: -each.values(metric).mean())
    p = {}
    for a, b in combinations(ranked, 2):
        x, y = a.values(metric), b.values(metric)
        n = min(len(x), len(y))
        p[a.slug, b.slug] = statistics.p_different(x[:n], y[:n])
    p = statistics.holm(p)
    found: list[list[Entrant]] = []
    for each in ranked:
        best = found[-1][0] if found else None
        if best is not None and not p[best.slug, each.slug] < LEVEL:
            found[-1].append(each)
        else:
            found.append([each])
    return found


def front(points: dict[str, tuple[float, float]]) -> list[str]:
    """Names on the Pareto front of (price, accuracy), the cheapest first."""
    best, found = -np.inf, []
    for name in sorted(points, key=lambda n: (points[n][0], -points[n][1])):
        if points[name][1] > best:
            best = points[name][1]
            found.append(name)
    return found


# --- tables -----------------------------------------------------------------------------


def link(rule: Entrant) -> str:
    """A Markdown link to the paper's report, from the page's own."""
    return tables.link(rule.entry.title, f"../{rule.name}/{rule.name}.ipynb")


def job(entrant: Entrant) -> str:
    """A Markdown link to the job's report, by its state."""
    return tables.link(entrant.state, f"../{entrant.slug}/{entrant.slug}.ipynb")


def standings(found: Field) -> list[dict]:
    """A row per rule, grouped by ties, with its differences to the three opponents."""
    duels = {
        "minus own backprop": against(found.rules, own(BACKPROP)),
        "minus own frozen": against(found.rules, own(FROZEN)),
    }
    if found.textbook:
        values = found.textbook.values()
        duels["minus textbook backprop"] = against(found.rules, lambda _: values)
    table = []
    everyone = [*found.rules, *([found.textbook] if found.textbook else [])]
    for place, tied in enumerate(groups(everyone), 1):
        for each in tied:
            row = {"ties": place, "rule": each.short}
            row["paper"] = link(each) if each.entry else "*opponent*"
            row["test accuracy %"] = _percent(each.values())
            for column, all_of in duels.items():
                row[column] = all_of[each.name].text if each.name in all_of else ""
            table.append(row | {"job": job(each)})
    return table


def convergence(found: Field) -> list[dict]:
    """A row per entrant that trained to its own convergence, grouped by ties."""
    everyone = [*found.rules, *([found.textbook] if found.textbook else [])]
    everyone = [each for each in everyone if each.values(CONVERGED) is not None]
    duels = against(found.rules, own(BACKPROP, CONVERGED), CONVERGED)
    reference = found.textbook.work(EPOCHS) if found.textbook else None
    table = []
    for place, tied in enumerate(groups(everyone, CONVERGED), 1):
        for each in tied:
            gain = difference(each.values(CONVERGED), each.values())
            duel = duels.get(each.name)
            row = {
                "ties": place,
                "rule": each.short,
                "test accuracy %": _percent(each.values(CONVERGED)),
                "epochs": f"{each.values(EPOCHS).mean():.1f}",
                "minus equal passes": gain.text(sign=True),
                "minus own backprop": duel.text if duel else "",
            }
            if reference:
                row["FLOPs to converge / textbook"] = (
                    f"{each.work(EPOCHS) / reference:.2f}"
                )
            table.append(row)
    return table


def costs(found: Field) -> list[dict]:
    """A row per rule: what a step costs against backprop on its own network."""
    table = []
    everyone = [*found.ranked, *([found.textbook] if found.textbook else [])]
    for each in everyone:
        arms = [each.arm]
        if not each.entry:
            arms = [arm for arm in each.record["cost"] if arm != FROZEN]
        for arm in arms:
            times = each.record["timing"]["step_time"][arm]
            tuned = each.record["tuning"].get(arm)
            edge = " (at edge)" if tuned and tuned["at_edge"] else ""
            table.append(
                {
                    "rule": each.short if arm == each.arm else arm,
                    "FLOPs / own BP": f"{each.cost('flops_ratio', arm):.2f}",
                    "live bytes / own BP": f"{each.cost('live_ratio', arm):.2f}",
                    "live KiB": f"{each.cost('live_bytes', arm) / 1024:.0f}",
                    "step time / own BP": f"{times['ratio']:.2f} ± {_half(times)}",
                    "settings tried": tuned["tried"] if tuned else "as backprop",
                    "chosen": _setting(tuned["chosen"]) + edge if tuned else "",
                }
            )
    return table


def _half(times: dict) -> str:
    """Half the width of a step time's interval; a dash where it is not bounded."""
    spread = times["spread"]
    known = spread is not None and np.isfinite(spread)
    return f"{times['ratio'] * spread:.2f}" if known else tables.MISSING


def _setting(chosen: dict) -> str:
    return f"{chosen['optimizer']} {chosen['lr']:g}"


def grounds_table(found: Field) -> list[dict]:
    """Opponents by network: every shared one, and those of rules that have their own."""
    holders = [*found.grounds.values(), *(r for r in found.rules if r.own is None)]
    table = []
    for holder in holders:
        users = [r.short for r in found.rules if (r.own or r) is holder]
        row = {"network": holder.name if not holder.entry else f"{holder.short}'s own"}
        row["rules that start there"] = ", ".join(users) or tables.MISSING
        for arm in (BACKPROP, FROZEN, "deep supervision"):
            values = holder.values(arm=arm)
            row[f"{arm} %"] = tables.MISSING if values is None else _percent(values)
        table.append(row)
    return table


def _percent(values) -> str:
    return statistics.estimate(100 * values).text(digits=2)
