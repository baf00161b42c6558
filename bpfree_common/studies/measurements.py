"""The part of a study that measures: what a step costs and what its credit used."""

from IPython.display import Markdown

from bpfree_common.learning.rule import LearningRule
from bpfree_common.measuring import audit as auditing
from bpfree_common.measuring import cost as costing
from bpfree_common.measuring import timing
from bpfree_common.studies import figures, tables

BASELINE = "backprop"

#: Heads of the audit's table, by the names of its row.
AUDIT_COLUMNS = {
    "crossings": "boundary crossings",
    "locking": "update locking",
    "weight_transport": "weight transport",
    "live_memory": "live bytes with depth",
    "forward": "forward passes",
    "evaluations": "function evaluations",
}


class Measurements:
    """Costs and audits of rules, kept for the record."""

    def __init__(self):
        self._cost: dict[str, dict] = {}
        self._audit: dict[str, dict] = {}
        self._timing: dict[str, object] = {}

    def cost(
        self, rules: dict[str, LearningRule], batch, baseline: str = BASELINE
    ) -> Markdown:
        """Count one whole step of each rule on `batch`, relative to the arm `baseline`.

        Step times are measured too, side by side, and go to the record only.
        """
        rules = {arm: rule.to(batch[0].device) for arm, rule in rules.items()}
        counted = {arm: costing.measure(rule, batch) for arm, rule in rules.items()}
        base = counted[baseline]
        for arm, found in counted.items():
            self._cost[arm] = found.as_dict() | {
                "flops_ratio": found.flops / base.flops,
                "live_ratio": found.live_bytes / base.live_bytes,
            }
        rounds = (9, 15) if self.profile == "quick" else timing.ROUNDS
        times = timing.step_times(rules, baseline, batch, rounds=rounds)
        self._timing.setdefault("step_time", {}).update(times)
        return tables.markdown(self.cost_rows(list(rules)))

    def cost_rows(self, arms: list[str]) -> list[dict]:
        """One row per arm for a table of counted costs."""
        return [
            {
                "arm": figures.label(arm),
                "FLOPs / BP": f"{self._cost[arm]['flops_ratio']:.2f}",
                "live bytes / BP": f"{self._cost[arm]['live_ratio']:.2f}",
                "forward passes": f"{self._cost[arm]['forward']:.2f}",
                "function evaluations": f"{self._cost[arm]['evaluations']:g}",
            }
            for arm in arms
        ]

    def counted(self, arm: str) -> dict:
        """What `cost` found for an arm: FLOPs, bytes, passes, and ratios."""
        return self._cost[arm]

    def audit(
        self, builds: dict[str, auditing.Build], batch, expect: dict[str, dict], **options
    ) -> dict[str, auditing.Audit]:
        """Audit each rule, compare with the stated rows, and put both in the record.

        expect: arm -> properties (see `Audit.row`); raises AuditMismatch on a difference.
        """
        audits = {arm: auditing.audit(b, batch, **options) for arm, b in builds.items()}
        for arm, stated in expect.items():
            audits[arm].expect(**stated)
        for arm, found in audits.items():
            self._audit[arm] = found.as_dict() | {"stated": expect.get(arm, {})}
        return audits

    def audit_table(self) -> Markdown:
        """One row of properties per audited rule."""
        return tables.markdown(
            [
                {"arm": figures.label(arm)}
                | {head: found[name] for name, head in AUDIT_COLUMNS.items()}
                for arm, found in self._audit.items()
            ]
        )

    def audit_figure(
        self, audits: dict[str, auditing.Audit], unit: str = "unit", note: str = ""
    ) -> None:
        """Show and keep what the audit found of dependence and weight transport.

        unit: what a reader calls a unit. note: sentences to end the caption.
        """
        figure = figures.audit_matrices(audits)
        caption = f"{figure.caption} {note}".replace("unit", unit)
        self.figure(figure, "audit", caption.strip())

    def memory_figure(self, audits: dict[str, auditing.Audit], note: str = "") -> None:
        """Show and keep how the live bytes of a step grow with the probe's depth."""
        figure = figures.memory_growth(audits, self.style)
        self.figure(figure, "memory", f"{figure.caption} {note}".strip())
