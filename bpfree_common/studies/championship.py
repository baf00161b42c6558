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
from bpfree_common.studies import statistics
from bpfree_common.studies.contest import EPOCHS, SCALE
from bpfree_common.studies.contest_networks import BACKPROP
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

    @property
    def capped(self) -> bool:
        """Whether some run to own convergence was ended by the cap on its epochs."""
        return bool((self.values(EPOCHS) >= self.record["parameters"]["cap"]).any())

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
    def seeds(self) -> list[int]:
        """Reporting seeds that every entrant has; empty without entrants."""
        counts = [len(each.record["seeds"]) for each in self.rules]
        return list(range(min(counts, default=0)))

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


def percent(values, digits: int = 1) -> str:
    """The mean of fractions in per cent, with its interval as far as it can be."""
    return statistics.estimate(100 * values).within(0, 100).text(digits=digits)


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
        equal = f" (within {100 * MARGIN:g})" if self.equal else ""
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
