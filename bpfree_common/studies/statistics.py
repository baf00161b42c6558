"""Intervals, paired differences, equivalence, and correction for many comparisons.

All of it is `scipy.stats`; this module fixes the choices that the collection makes once:
95 % intervals of the mean from Student's t, differences paired by seed, equivalence by
two one-sided t tests (Schuirmann 1987) with a margin stated beforehand, and Holm's
correction (1979) where one page compares many rules.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95
FEWEST = 3  #: values that have an interval


@dataclass(frozen=True)
class Estimate:
    """A mean of `n` values with its 95 % interval; of one or two the ends are None."""

    mean: float
    low: float | None
    high: float | None
    n: int

    def text(self, scale: float = 1.0, digits: int = 1, sign: bool = False) -> str:
        """For a sentence: ``96.4 (96.2 to 96.6)``, each number times `scale`."""
        form = f"{'+' if sign else ''}.{digits}f"
        mean = format(self.mean * scale, form)
        if self.low is None:
            return f"{mean} ({'one seed' if self.n == 1 else 'two seeds'})"
        ends = (format(end * scale, form) for end in (self.low, self.high))
        return f"{mean} ({' to '.join(ends)})"

    def within(self, least: float, most: float) -> "Estimate":
        """The part of the interval that can be: t intervals know no bounds."""
        if self.low is None or not least <= self.mean <= most:
            return self
        return Estimate(self.mean, max(self.low, least), min(self.high, most), self.n)

    def __str__(self) -> str:
        return self.text(digits=3)

    def as_list(self) -> list[float | None]:
        """Low, mean and high, for the record."""
        return [self.low, self.mean, self.high]


def estimate(values) -> Estimate:
    """The mean of `values`, shape (n,), with its 95 % t interval.

    Two values have none either: theirs would be thirteen standard errors to each side.
    Raises ValueError if there is no value, or one that is not finite.
    """
    values = np.atleast_1d(np.asarray(values, dtype=float))
    if not values.size or not np.isfinite(values).all():
        raise ValueError(f"{values.tolist()} are no finite numbers: nothing to estimate")
    mean = float(values.mean())
    if values.size < FEWEST:
        return Estimate(mean, None, None, values.size)
    half = float(stats.sem(values) * stats.t.ppf((1 + LEVEL) / 2, values.size - 1))
    return Estimate(mean, mean - half, mean + half, values.size)


def exact(value: float) -> Estimate:
    """A number without spread, such as a count: its interval is itself."""
    return Estimate(float(value), float(value), float(value), 1)


def paired(a, b) -> Estimate:
    """The mean of a - b with its interval; a, b: shape (n,), paired by seed."""
    return estimate(_differences(a, b))


def p_different(a, b) -> float:
    """Two-sided p of the paired t test that a and b have one mean; NaN for one pair."""
    differences = _differences(a, b)
    if len(differences) < 2:
        return math.nan
    if not differences.std():  # t is 0/0 or infinite
        return 1.0 if not differences.any() else 0.0
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def p_equivalent(a, b, margin: float) -> float:
    """p of two one-sided paired t tests that a and b differ by `margin` or more.

    Below 0.05 the two are equal within the margin. NaN for one pair. Raises ValueError
    unless the margin is positive.
    """
    if not margin > 0:
        raise ValueError(f"an equivalence needs a positive margin, not {margin!r}")
    differences = _differences(a, b)
    if len(differences) < 2:
        return math.nan
    if not differences.std():
        return 0.0 if abs(differences[0]) < margin else 1.0
    above = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(differences, margin, alternative="less").pvalue
    return float(max(above, below))


def equivalent(a, b, margin: float) -> bool:
    """Whether a and b are shown to be equal within `margin` at the 5 % level."""
    return p_equivalent(a, b, margin) < 1 - LEVEL


def holm(p: dict[str, float]) -> dict[str, float]:
    """p values adjusted for their number (Holm 1979); NaN stays NaN and counts not."""
    known = sorted((name for name in p if not math.isnan(p[name])), key=p.get)
    adjusted, highest = dict(p), 0.0
    for rank, name in enumerate(known):
        highest = max(highest, min(1.0, p[name] * (len(known) - rank)))
        adjusted[name] = highest
    return adjusted


def _differences(a, b) -> np.ndarray:
    a, b = (np.atleast_1d(np.asarray(x, dtype=float)) for x in (a, b))
    if a.shape != b.shape:
        raise ValueError(f"{len(a)} and {len(b)} values cannot be paired by seed")
    return a - b
