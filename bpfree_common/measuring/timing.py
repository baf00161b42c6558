"""How long a training step takes, against a reference on the same machine.

Times are those of whole steps, taken through `LearningRule.step` with the optimisers and
hooks of a trainer. Beside each ratio stands how well it is known, and its floor: what the
rule's own matrix products and its optimiser would take alone, which no code can beat.
"""

import inspect
import statistics
import time
from collections.abc import Callable
from math import comb

import torch
from torch.utils._pytree import tree_leaves

from bpfree_common.learning.rule import LearningRule
from bpfree_common.measuring.meter import Meter
from bpfree_common.measuring.stepping import Observer, train

BOUND = 0.03  #: half-width of a ratio's interval at which repeating ends
ROUNDS = (9, 60)  #: least and most rounds
BLOCK = 0.004  #: seconds that one measurement lasts at least
CONFIDENCE = 0.95


def step_times(
    rules: dict[str, LearningRule],
    reference: str,
    batch: tuple,
    bound: float = BOUND,
    rounds: tuple[int, int] = ROUNDS,
) -> dict[str, dict[str, float]]:
    """arm -> {"ratio", "spread", "floor", "rounds"}, all ratios to `reference`'s step.

    ratio: median over rounds of the arm's time over the reference's in the same round.
    spread: half of the 95 % interval of that median (from order statistics) over it; the
        rounds end when no arm's is above `bound`, or at the most allowed.
    floor: time of the arm's matrix products, replayed, and of a bare optimiser step.
    A step is the mean over a rule's period. In its turn a rule repeats its period as in
    training, where no other rule's memory and code are in the caches: the first one is
    not timed. Copies are stepped at rate zero; the rules stay as they are. The clock is
    the process's where all runs on the CPU, so that others on the machine do not count,
    and the wall's where an accelerator works.
    """
    if reference not in rules:
        raise ValueError(f"no rule is called {reference!r}: give one of {list(rules)}")
    clock = _clock(batch)
    timed = {name: _Timed(rule, batch, clock) for name, rule in rules.items()}
    ratios: dict[str, list[float]] = {name: [] for name in rules}
    floors: dict[str, list[float]] = {name: [] for name in rules}
    for done in range(1, rounds[1] + 1):
        seconds = {name: arm.step() for name, arm in timed.items()}
        for name, arm in timed.items():
            ratios[name].append(seconds[name] / seconds[reference])
            if done <= rounds[0]:
                floors[name].append(arm.floor() / seconds[reference])
        if done >= rounds[0] and all(spread(r) <= bound for r in ratios.values()):
            break
    return {
        name: {
            "ratio": statistics.median(ratios[name]),
            "spread": spread(ratios[name]),
            "floor": statistics.median(floors[name]),
            "rounds": len(ratios[name]),
        }
        for name in rules
    }


def spread(values: list[float]) -> float:
    """Half-width of the interval of the median, relative to it; infinite if too few.

    The interval is that between two order statistics, symmetric in rank, that covers the
    median of the population with probability `CONFIDENCE`, whatever the distribution.
    """
    n, values = len(values), sorted(values)
    outside, rank = 0.0, 0
    while rank < n // 2:
        tail = outside + comb(n, rank) / 2**n
        if 2 * tail > 1 - CONFIDENCE:
            break
        outside, rank = tail, rank + 1
    if rank == 0:
        return float("inf")
    low, high = values[rank - 1], values[n - rank]
    return (high - low) / 2 / statistics.median(values)


class _Timed:
    """One arm: a copy of its rule on a trainer, its products and a bare optimiser."""

    def __init__(self, rule: LearningRule, batch: tuple, clock: Callable[[], float]):
        self.rule, self.batch, self.clock = rule.clone(), batch, clock
        self.period = rule.period
        self.products: list[tuple] = []
        train(self.rule, [batch] * self.period, _Replays(self.products))
        _restore(self.rule, rule)
        for optimizer in self.rule.trainer.optimizers:
            optimizer.register_step_pre_hook(_rest)
        self.bare = [_bare(o) for o in self.rule.trainer.optimizers]
        self._times = {}

    def step(self) -> float:
        """Seconds of one step, the mean over periods."""
        return self._seconds("step", self._period) / self.period

    def floor(self) -> float:
        """Seconds of one step's matrix products and bare optimiser steps."""
        return self._seconds("floor", self._least) / self.period

    def _period(self) -> None:
        with torch.enable_grad():
            for _ in range(self.period):
                self.rule.step(self.batch)
        self.rule._logged.clear()

    @torch.no_grad()
    def _least(self) -> None:
        for operation, args, kwargs in self.products:
            operation(*args, **kwargs)
        for _ in range(self.period):
            for optimizer in self.bare:
                optimizer.step()

    def _seconds(self, name: str, run: Callable[[], None]) -> float:
        """Of one run: after one that is not timed, as many as fill a block."""
        start = self.clock()
        run()
        once = max(self.clock() - start, 1e-7)
        times = self._times.setdefault(name, max(1, min(500, round(BLOCK / once))))
        start = self.clock()
        for _ in range(times):
            run()
        return (self.clock() - start) / times


class _Replays(Observer):
    """Keeps the products of every step, arguments and all."""

    def __init__(self, products: list):
        self.products = products

    def during(self, rule: LearningRule, step: int, batch):
        return Meter(rule.units, replays=self.products).step()


@torch.no_grad()
def _restore(copy: LearningRule, rule: LearningRule) -> None:
    """Give the copy the rule's parameters and buffers, those that no file keeps too."""
    for own, original in (
        (copy.named_parameters(), dict(rule.named_parameters())),
        (copy.named_buffers(), dict(rule.named_buffers())),
    ):
        for name, tensor in own:
            if tensor.layout == torch.strided:  # graphs are shared
                tensor.copy_(original[name])


def _bare(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """An optimiser of the same kind over the same sizes, at rate zero, without hooks."""
    groups = []
    for group in optimizer.param_groups:
        options = {k: v for k, v in group.items() if k != "params"}
        parameters = [torch.zeros_like(p).requires_grad_() for p in group["params"]]
        for p in parameters:
            p.grad = torch.ones_like(p)
        groups.append(options | {"params": parameters, "lr": 0.0})
    # AdamW's defaults hold an argument of Adam's, which its constructor does not take
    known = inspect.signature(type(optimizer)).parameters
    options = {k: v for k, v in optimizer.defaults.items() if k in known}
    return type(optimizer)(groups, **options)


def _rest(optimizer, *_) -> None:
    for group in optimizer.param_groups:
        group["lr"] = 0.0


def _clock(batch) -> Callable[[], float]:
    """What tells the seconds that work on tensors such as these has taken."""
    if all(t.device.type == "cpu" for t in tree_leaves(batch) if torch.is_tensor(t)):
        return time.process_time

    def wall() -> float:
        torch.accelerator.synchronize()  # its work is only queued so far
        return time.perf_counter()

    return wall
