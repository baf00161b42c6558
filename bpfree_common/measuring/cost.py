"""What one training step costs: FLOPs, passes and bytes; counted, not timed.

Counted is the whole step: `credit`, the optimisers, their hooks, an overridden `step`.
All counts are exact and the same on every machine, and the same for an algorithm whether
its gradients are written by hand or by automatic differentiation:

forward
    rows that were multiplied with a unit's weights in the direction of a forward pass,
    over rows of the batch, averaged over the units used. Positive and negative data in
    one stacked batch are two passes; a tangent that is carried along is one more.
evaluations
    the same of the unit that was used least: how often the whole network was evaluated.
flops
    products of matrices and convolutions (`measuring.flops`).
live bytes
    peak bytes of all tensors that the steps made and that are alive at once, wherever
    they are kept; without credits and the state that an optimiser keeps for a parameter.
"""

import statistics
from dataclasses import asdict, dataclass, field

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves, tree_map

from bpfree_common.learning.rule import LearningRule
from bpfree_common.measuring.live import plain
from bpfree_common.measuring.meter import Meter
from bpfree_common.measuring.stepping import Observer, train


@dataclass(frozen=True)
class Cost:
    """The counted cost of one training step, averaged over a period of the rule."""

    flops: int
    live_bytes: int
    forward: float
    evaluations: float

    def as_dict(self) -> dict:
        """Plain numbers for the record."""
        return asdict(self)


def measure(rule: LearningRule, batch: tuple, seed: int = 0) -> Cost:
    """Count one training step of `rule` on `batch`.

    FLOPs and passes are means over `rule.period` steps, bytes are of the largest step.
    A copy of the rule takes the steps, one period to settle and one to count, and its
    weights are put back after each, so that all count where the rule stands.
    """
    rule = rule.clone()
    counter = _Counter()
    train(rule, [batch] * (2 * rule.period), counter, seed=seed)
    steps = counter.steps[rule.period :]
    passes = [_passes(step, counter, rule.rows(batch)) for step in steps]
    return Cost(
        flops=round(statistics.fmean(step["flops"] for step in steps)),
        live_bytes=max(step["live_bytes"] for step in steps),
        forward=statistics.fmean(p for p, _ in passes),
        evaluations=statistics.fmean(e for _, e in passes),
    )


def _passes(step: dict, counter: "_Counter", rows: int) -> tuple[float, float]:
    """Forward passes and evaluations of one step."""
    shares = {u: step["rows"][u] / counter.per_row.get(u, 1) for u in counter.weighted}
    shares = {u: n / rows for u, n in shares.items()}
    used = [n for n in shares.values() if n]
    return (statistics.fmean(used) if used else 0.0), min(shares.values(), default=0.0)


@dataclass
class _Counter(Observer):
    """Counts every step, and how many rows of products a row of each unit costs."""

    steps: list[dict] = field(default_factory=list)
    per_row: dict[int, float] = field(default_factory=dict)

    def before(self, rule: LearningRule, step: int, batch) -> None:
        if step == 0:
            self.meter, self._calls = Meter(rule.units), {}
            self._start = [p.detach().clone() for p in rule.parameters()]
            self._hooks = [
                unit.register_forward_pre_hook(self._note(index), with_kwargs=True)
                for index, unit in enumerate(rule.units)
            ]
            matrices = [w.unit for w in self.meter.weights if len(w.shape) > 1]
            self.weighted = sorted(set(matrices))

    def _note(self, index: int):
        def hook(unit, args, kwargs) -> None:
            if index not in self._calls:
                self._calls[index] = tree_map(_detached, (args, kwargs))

        return hook

    def during(self, rule: LearningRule, step: int, batch):
        return self.meter.step()

    def after(self, rule: LearningRule, step: int, batch) -> None:
        own = [o for o in getattr(rule, "rest", ()) if isinstance(o, Optimizer)]
        optimizers = [*rule.trainer.optimizers, *own]
        counts = {"flops": self.meter.flops, "rows": self.meter.passes()}
        self.steps.append(
            counts | {"live_bytes": self.meter.live_bytes(rule, optimizers)}
        )
        with torch.no_grad():
            for p, start in zip(rule.parameters(), self._start, strict=True):
                p.copy_(start)
        if step == 0:
            for hook in self._hooks:
                hook.remove()
            self._calibrate(rule)

    def _calibrate(self, rule: LearningRule) -> None:
        """Call each unit once more as it was called: a recurrent one multiplies often."""
        for index, (args, kwargs) in self._calls.items():
            unit = rule.units[index]
            state = {k: v.clone() for k, v in unit.state_dict().items()}
            meter = Meter(nn.ModuleList([unit]))
            with torch.random.fork_rng(), torch.no_grad(), meter:
                try:
                    out = unit(*args, **kwargs)
                except RuntimeError:  # it was called inside `torch.func`
                    continue
            unit.load_state_dict(state)
            rows = next((len(t) for t in tree_leaves(out) if torch.is_tensor(t)), 0)
            if rows and meter.passes()[0]:
                self.per_row[index] = meter.passes()[0] / rows
        self._calls.clear()


def _detached(x):
    return plain(x.detach()) if torch.is_tensor(x) else x
