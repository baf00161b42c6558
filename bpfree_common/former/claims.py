"""A paper's claims and what became of them here.

A verdict is one of four. The band has two sides: too good is suspicious too.
"""

from dataclasses import dataclass

import numpy as np

REPRODUCED = "reproduced"
PARTIAL = "partial"
NOT_REPRODUCED = "not reproduced"
NOT_ATTEMPTED = "not attempted at this scale"
VERDICTS = (REPRODUCED, PARTIAL, NOT_REPRODUCED, NOT_ATTEMPTED)


@dataclass(frozen=True)
class Claim:
    """One claim of a paper, the value measured here, and the verdict."""

    name: str
    text: str
    verdict: str
    measured: list[float]
    unit: str
    band: list[float | None]
    note: str

    @property
    def value(self) -> str:
        """The measured value as text: the mean, and the range if there are several."""
        if not self.measured:
            return "-"
        mean = f"{np.mean(self.measured):.3g}"
        if len(self.measured) > 1:
            mean += f" ({min(self.measured):.3g} to {max(self.measured):.3g})"
        return f"{mean} {self.unit}".strip()

    @property
    def threshold(self) -> str:
        """The band as text."""
        if not self.measured:
            return "-"
        low, high = ("" if side is None else f"{side:g}" for side in self.band)
        return (
            f"{low} to {high}" if low and high else (f">= {low}" if low else f"<= {high}")
        )


def judge(
    name: str,
    text: str,
    measured,
    band: tuple[float | None, float | None],
    unit: str = "",
    note: str = "",
) -> Claim:
    """Compare a value, or one value per seed, with a band (low, high; None: open).

    All values inside: reproduced. The mean or some value inside: partial. Else not
    reproduced. Raises ValueError for a value that is not a number.
    """
    values = [float(v) for v in np.atleast_1d(np.asarray(measured, dtype=float))]
    if not values or not all(np.isfinite(values)):
        raise ValueError(f"claim {name!r}: measured {measured!r} is not a finite number")
    low = -np.inf if band[0] is None else band[0]
    high = np.inf if band[1] is None else band[1]
    inside = [low <= v <= high for v in values]
    if all(inside):
        verdict = REPRODUCED
    elif any(inside) or low <= np.mean(values) <= high:
        verdict = PARTIAL
    else:
        verdict = NOT_REPRODUCED
    return Claim(name, text, verdict, values, unit, list(band), note)


def not_attempted(name: str, text: str, why: str) -> Claim:
    """A claim that this profile cannot test."""
    return Claim(name, text, NOT_ATTEMPTED, [], "", [None, None], why)
