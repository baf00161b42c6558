"""A longer look at real training, without putting anything back.

The steps on which dependence is measured are few, and after each the weights go back.
Here the rule trains as it always does, for some epochs, on batches of two sizes, and is
validated in between. A step that does other work than any measured one gives away a rule
that behaves while it is measured; so do weights that move while no step is taken.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from bpfree_common.learning.rule import LearningRule
from bpfree_common.measuring.influence import Trace
from bpfree_common.measuring.meter import Meter
from bpfree_common.measuring.stepping import Observer, train

MORE_WORK = 1.5  #: times the FLOPs of any measured step that count as other work


@dataclass
class Watch(Observer):
    """Notes of every step what it did with the weights, and how much it computed."""

    used: list[frozenset] = field(default_factory=list)
    flops: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    exports: set[str] = field(default_factory=set)
    elsewhere: bool = False  #: whether something outside of units learned to predict
    strays: list[int] = field(default_factory=list)  #: steps before which weights moved
    rule: LearningRule | None = None  #: when the training is over
    _last: list[Tensor] | None = None

    def before(self, rule: LearningRule, step: int, batch) -> None:
        """See whether the weights are where the last step left them."""
        if step == 0:
            self.meter = Meter(rule.units)
        elif self._moved(rule):
            self.strays.append(step)

    def during(self, rule: LearningRule, step: int, batch):
        """Count the step."""
        return self.meter.step()

    def after(self, rule: LearningRule, step: int, batch) -> None:
        """Note what the step did."""
        self.used.append(frozenset(self.meter.used))
        self.flops.append(self.meter.flops)
        self.rows.append(len(batch[1]))
        self.exports |= self.meter.exports
        self._last = [p.detach().clone() for p in rule.parameters()]

    def _moved(self, rule: LearningRule) -> bool:
        pairs = zip(rule.parameters(), self._last, strict=True)
        return not all(torch.equal(p.nan_to_num(), q.nan_to_num()) for p, q in pairs)

    def finish(self, rule: LearningRule) -> None:
        """See whether the weights moved after the last step."""
        if self._moved(rule):
            self.strays.append(len(self.used))

    def novelty(self, measured: dict[int, Trace]) -> tuple[int, str] | None:
        """The first step that does what no measured step does, and what; None if none is.

        measured: the traces of measured steps, by rows of their batch.
        """
        known = frozenset().union(*(u for trace in measured.values() for u in trace.used))
        most = {rows: max(trace.flops) for rows, trace in measured.items()}
        for step, used in enumerate(self.used):
            if used - known:
                unit, use = min(used - known)
                return step, f"uses the weights of unit {unit} otherwise ({use})"
            limit = max(n * max(1, self.rows[step] / rows) for rows, n in most.items())
            if self.flops[step] > MORE_WORK * limit:
                return (
                    step,
                    f"computes {self.flops[step]} FLOPs, measured steps {limit:.0f}",
                )
        return None


def watch(rule: LearningRule, batches: list, epochs: int, steps: int, seed: int) -> Watch:
    """Train `rule` for epochs of `steps` steps on `batches` in turn; validate it."""
    seen = Watch()
    turns = [batches[i % len(batches)] for i in range(steps)]
    train(rule, turns, seen, epochs, seed, validation=batches[0])
    seen.finish(rule)
    seen.rule = rule
    return seen
