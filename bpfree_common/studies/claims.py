"""Claims and what became of them here: verdicts from intervals, bands and nulls.

A claim is declared in the catalogue before anything runs: its source, the band of values
that would confirm it, and its `null`, the value that would be measured if the effect did
not exist. The null lies outside of the band; the side where it lies is the wrong side,
the other one is the claim's own direction.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from bpfree_common.studies import tables
from bpfree_common.studies.statistics import Estimate, estimate, exact

REPRODUCED = "reproduced"
BEYOND = "beyond"
UNDECIDED = "undecided"
NOT_REPRODUCED = "not reproduced"
NOT_ATTEMPTED = "not attempted at this scale"
VERDICTS = (REPRODUCED, BEYOND, UNDECIDED, NOT_REPRODUCED, NOT_ATTEMPTED)

#: Relative tolerance of a comparison with a band: rounding decides no verdict.
TOLERANCE = 1e-9

Band = tuple[float | None, float | None]
ALL = ""  #: the name of the setting of a claim that has one setting only


@dataclass(frozen=True)
class Claim:
    """One claim, what was measured per setting, and the verdict."""

    name: str
    text: str
    source: str
    verdict: str
    measured: dict[str, list[float]]
    intervals: dict[str, list[float | None]]
    verdicts: dict[str, str]
    band: list[float | None]
    null: float | None
    unit: str = ""
    note: str = ""
    why: str = ""
    share: float | None = None
    doubled: dict[str, list[float]] | None = field(default=None)

    def as_dict(self) -> dict:
        """For the record."""
        return asdict(self)

    def row(self) -> dict[str, str]:
        """The claim as a row of a table."""
        share = "-" if self.share is None else f"{self.share:.1%}"
        return {
            "claim": tables.text(self.text),
            "source": self.source,
            "measured": self.value,
            "band": self.threshold,
            "if no effect": "-" if self.null is None else f"{self.null:.3g}",
            "updates": share,
            "verdict": tables.VERDICTS[self.verdict],
        }

    @property
    def value(self) -> str:
        """What was measured, as text, with intervals; settings one after the other."""
        parts = []
        for setting, (low, mean, high) in self.intervals.items():
            ends = "" if low is None or low == high else f" ({low:.3g} to {high:.3g})"
            text = f"{mean:.3g}{ends}"
            parts.append(f"{setting}: {text}" if setting else text)
        return (", ".join(parts) + f" {self.unit}").strip() if parts else "-"

    @property
    def threshold(self) -> str:
        """The band as text."""
        low, high = (None if side is None else f"{side:g}" for side in self.band)
        if low and high:
            return f"{low} to {high}"
        return f"at least {low}" if low else f"at most {high}" if high else "-"


def judge(found: Estimate, band: Band, null: float | None) -> str:
    """The verdict of one estimate.

    Its interval lies in the band: reproduced; past the far side, seen from the null:
    beyond; on the null's side: not reproduced. It straddles either side, or has none:
    undecided. So a band of two sides around a value is a test of equivalence. A claim
    whose measured null lies in the band can be decided by no measurement.
    """
    if found.low is None or (null is not None and contains(band, null)):
        return UNDECIDED
    low, high = _ends(band)
    if null is not None and not null < low:  # turn the line so that the null is below
        low, high = -high, -low
        found = Estimate(-found.mean, -found.high, -found.low, found.n)
    elif null is None and low == -math.inf:
        low, high = -high, math.inf
        found = Estimate(-found.mean, -found.high, -found.low, found.n)
    slack = TOLERANCE * max(1.0, abs(found.mean))
    if found.high < low - slack:
        return NOT_REPRODUCED
    if found.low > high + slack:
        return BEYOND
    inside = low - slack <= found.low and found.high <= high + slack
    return REPRODUCED if inside else UNDECIDED


def contains(band: Band, value: float) -> bool:
    """Whether a value lies in the band, rounding aside."""
    low, high = _ends(band)
    slack = TOLERANCE * max(1.0, abs(value))
    return low - slack <= value <= high + slack


def combine(verdicts: list[str]) -> str:
    """One verdict of those of several settings: theirs if they agree, else undecided.

    `beyond` counts as agreeing with `reproduced`.
    """
    kinds = set(verdicts)
    if len(kinds) == 1:
        return verdicts[0]
    return REPRODUCED if kinds == {REPRODUCED, BEYOND} else UNDECIDED


def settings(measured) -> dict[str, np.ndarray]:
    """Measured values by setting: a mapping, or one value (per seed) for all."""
    given = measured if isinstance(measured, Mapping) else {ALL: measured}
    return {str(k): np.atleast_1d(np.asarray(v, dtype=float)) for k, v in given.items()}


def assess(
    name: str,
    declared,
    measured,
    *,
    null=None,
    counted: bool = False,
    note: str = "",
    share: float | None = None,
    doubled=None,
) -> Claim:
    """Judge `measured` by what the catalogue has declared of the claim.

    declared: a `ClaimEntry` of the catalogue. measured: a value, one per seed, or those
    by setting. null: as measured here, where the catalogue gives none. counted: the
    values are counts without spread. share: of the paper's updates that was spent; None
    if it is unknown, which counts as small.
    doubled: called, if a claim about a final accuracy fails at a share below one, for
    the same measurement after twice the updates. The failure stands if it fails again;
    else the claim is not attempted.

    Raises ValueError for a value that is not finite, a claim without a band, and a null
    that was to be measured and is not given.
    """
    band, null = declared.band, _null(name, declared, null)
    judged = _judge_all(settings(measured), band, null, counted)
    values, intervals, verdicts = judged
    verdict, twice = combine(list(verdicts.values())), None
    if null is not None and contains(band, null):
        undecidable = f"the null measured here, {null:.3g}, lies in the band"
        note = "; ".join(filter(None, (note, undecidable)))
    small = declared.final_accuracy and (share is None or share < 1)
    if verdict == NOT_REPRODUCED and small:
        if doubled is not None:
            twice, _, again = _judge_all(settings(doubled()), band, null, counted)
            standing = combine(list(again.values())) == NOT_REPRODUCED
        if twice is None or not standing:
            verdict = NOT_ATTEMPTED
            part = "an unknown share" if share is None else f"{share:.1%}"
            spent = f"it fails at {part} of the paper's updates"
            more = "not doubled" if twice is None else "not after twice as many"
            note = "; ".join(filter(None, (note, f"{spent}, {more}")))
    return Claim(
        name, declared.text, declared.source, verdict, values, intervals, verdicts,
        list(band), null, declared.unit, note, "", share, twice,
    )  # fmt: skip


def _null(name: str, declared, measured: float | None) -> float | None:
    if declared.band[0] is None and declared.band[1] is None:
        raise ValueError(f"claim {name!r} has no band: papers.yaml must declare one")
    if measured is not None:
        return float(measured)
    if declared.null is None or declared.null == "measured":
        raise ValueError(f"claim {name!r} has no null: give the one measured here")
    return float(declared.null)


def not_attempted(name: str, declared, why: str) -> Claim:
    """A claim that this profile cannot test."""
    return Claim(
        name, declared.text, declared.source, NOT_ATTEMPTED, {}, {}, {},
        list(declared.band), None if declared.null == "measured" else declared.null,
        declared.unit, why=why,
    )  # fmt: skip


def with_reason(claim: Claim, why: str) -> Claim:
    """The claim with the sentence that says why its verdict is what it is."""
    return replace(claim, why=why)


def _judge_all(measured: dict[str, np.ndarray], band, null, counted: bool):
    values = {k: [float(v) for v in vs] for k, vs in measured.items()}
    found = {
        k: exact(vs[0]) if counted and len(vs) == 1 else estimate(vs)
        for k, vs in values.items()
    }
    intervals = {k: e.as_list() for k, e in found.items()}
    return values, intervals, {k: judge(e, band, null) for k, e in found.items()}


def _ends(band: Band) -> tuple[float, float]:
    low, high = band
    return (-math.inf if low is None else low, math.inf if high is None else high)
