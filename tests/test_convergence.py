"""Training to own convergence: when it ends, and how the rates fall."""

import pytest
import torch

from bpfree_common.data import Data
from bpfree_common.errors import ContractError
from bpfree_common.learning import mlp, sgd, training
from bpfree_common.learning.convergence import Converging
from bpfree_common.learning.opponents import Backprop

STEPS = 4  # per epoch


class Scripted(Backprop):
    """Backprop whose validation follows a script; notes the rate after each step."""

    def __init__(self, script):
        super().__init__(mlp([3, 4, 2]), self.noted)
        self.script, self.rates = script, []

    def noted(self, parameters):
        optimizer = sgd(1.0)(parameters)
        optimizer.register_step_post_hook(
            lambda o, *_: self.rates.append(o.param_groups[0]["lr"])
        )
        return optimizer

    def on_validation_epoch_end(self):
        super().on_validation_epoch_end()
        self.row["validation"] = self.script[self.current_epoch]


class Watched(Converging):
    """Notes the factor of every step."""

    def __init__(self, *given):
        super().__init__(*given)
        self.factors = []

    def _cool(self, optimizer, *more):
        super()._cool(optimizer, *more)
        self.factors.append(optimizer.param_groups[0]["lr"])


def fit(script, patience, tail, cap):
    torch.manual_seed(0)
    x, y = torch.randn(8 * STEPS, 3), torch.arange(8 * STEPS) % 2
    task = Data("toy", 2, x, y, x[:8], y[:8], x[:8], y[:8])
    rule, watch = Scripted(script), Watched(patience, tail)
    training.fit(rule, task, cap, 8, callbacks=[watch])
    return rule, watch


def test_it_cools_after_the_patience_and_ends_after_the_tail():
    script = [0.1, 0.5, 0.4, 0.5, 0.9, 0.9, 0.9, 0.9]
    rule, watch = fit(script, patience=2, tail=3, cap=20)
    assert watch.cooled_from == 4  # 0.4 and an equal 0.5 are no rise
    assert len(rule.history) == 7


def test_rates_are_constant_and_then_fall_linearly_to_one_step_above_zero():
    rule, watch = fit([0.5] * 9, patience=1, tail=2, cap=20)
    steps = 2 * STEPS
    falling = [1 - k / steps for k in range(steps)]
    assert watch.factors == pytest.approx([1.0] * 2 * STEPS + falling)
    assert watch.factors[-1] == pytest.approx(1 / steps)
    assert rule.rates == [1.0] * len(watch.factors)  # put back after every step


def test_a_rule_that_keeps_rising_is_cooled_in_time_for_the_cap():
    rule, watch = fit([k / 10 for k in range(9)], patience=2, tail=2, cap=6)
    assert watch.cooled_from == 4
    assert len(rule.history) == 6
    assert watch.factors[-1] == pytest.approx(1 / (2 * STEPS))


def test_numbers_that_leave_no_epoch_are_refused():
    with pytest.raises(ContractError, match="tail 0 must be 1 epoch or more"):
        Converging(2, 0)
    with pytest.raises(ContractError, match="a cap of 3 epochs leaves none"):
        fit([0.1] * 9, patience=1, tail=3, cap=3)
