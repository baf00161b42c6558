"""Trained arms side by side: their accuracies, and differences paired by seed."""

from dataclasses import dataclass, field

import numpy as np

from bpfree_common.learning import training
from bpfree_common.learning.rule import LearningRule
from bpfree_common.studies import statistics
from bpfree_common.studies.palette import label
from bpfree_common.studies.statistics import Estimate
from bpfree_common.studies.tuning import Budget, Tuned


@dataclass
class Comparison:
    """Arms trained on the same data, budget and seeds, each with its own best setting.

    measure, unit: what a rule's `score` is, for the record. prefix: of the arms' names
    there.
    """

    budget: Budget
    arms: dict[str, Tuned] = field(default_factory=dict)
    measure: str = "test accuracy"
    unit: str = "fraction"
    prefix: str = ""

    def name(self, arm: str) -> str:
        """How an arm is called in the record."""
        return f"{self.prefix}: {arm}" if self.prefix else arm

    @property
    def runs(self) -> dict[str, list[training.Run]]:
        """Reported runs by arm, one per seed."""
        return {arm: tuned.runs for arm, tuned in self.arms.items()}

    def test(self, arm: str) -> np.ndarray:
        """Test metric of an arm, one value per seed; fractions, higher is better."""
        return np.array([run.test for run in self.arms[arm].runs])

    def rule(self, arm: str, seed: int = 0) -> LearningRule:
        """A trained rule; seed: its place among the reporting seeds."""
        return self.arms[arm].runs[seed].rule

    def estimate(self, arm: str) -> Estimate:
        """The mean test metric of an arm with its 95 % interval over seeds.

        Of fractions the interval ends at 0 and 1.
        """
        found = statistics.estimate(self.test(arm))
        return found.within(0.0, 1.0) if self.unit == "fraction" else found

    def difference(self, arm: str, other: str) -> Estimate:
        """How much higher `arm` tests than `other`, paired by seed, with its interval."""
        return statistics.paired(self.test(arm), self.test(other))

    def equivalent(self, arm: str, other: str, margin: float) -> bool:
        """Whether the two are shown to be equal within `margin` (a fraction)."""
        return statistics.equivalent(self.test(arm), self.test(other), margin)

    def percent(self, arm: str, digits: int = 1) -> str:
        """For a sentence: ``96.4 (96.2 to 96.6)`` in per cent."""
        return self.estimate(arm).text(100, digits)

    def points(self, arm: str, other: str, digits: int = 1) -> str:
        """For a sentence: the difference ``+0.7 (0.3 to 1.1)`` in points."""
        return self.difference(arm, other).text(100, digits, sign=True)

    def rows(self, reference: str) -> list[dict]:
        """One row per arm for a table: measure, difference, setting, settings tried.

        Fractions are shown in per cent and points, other measures in their own unit.
        """
        found, minus = [], f"minus {label(reference)}"
        what, scale = f"{self.measure}, {self.unit}", 1
        if self.unit == "fraction":
            what, scale = f"{self.measure} %", 100
        for arm, tuned in self.arms.items():
            own, gap = arm == reference, self.difference(arm, reference)
            chosen = ", ".join(f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}"
                               for k, v in tuned.chosen.items())  # fmt: skip
            remark = " (**at edge**)" if tuned.at_edge else ""
            remark = " (fixed)" if tuned.fixed else remark
            found.append(
                {
                    "arm": label(arm),
                    f"{what}, 95 % interval": self.estimate(arm).text(scale, 2),
                    minus: "" if own else gap.text(scale, 2, sign=True),
                    "chosen": chosen + remark,
                    "settings tried": self._tried(tuned),
                }
            )
        return found

    def _tried(self, tuned: Tuned) -> int | str:
        """How many settings, and after how many epochs if those were not all."""
        count = len(tuned.tried)
        return count if tuned.epochs is None else f"{count}, for {tuned.epochs} epochs"
