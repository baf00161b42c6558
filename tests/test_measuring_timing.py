"""Ratios of step times say how well they are known, and what no code can beat."""

import copy
import time

import pytest
import torch

from bpfree_common import Backprop, adam, mlp, sgd
from bpfree_common.learning.optim import adamw
from bpfree_common.measuring.timing import _Timed, spread, step_times

BATCH = (torch.randn(8, 20), torch.arange(8) % 3)
SIZES = [20, 16, 12, 3]


@pytest.fixture(autouse=True)
def one_thread():
    """As many notebooks at once run; a second thread would spin while it waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_timing_leaves_the_rules_as_they_are():
    rules = {name: Backprop(mlp(SIZES), sgd(0.1)) for name in ("a", "backprop")}
    before = {n: copy.deepcopy(rule.state_dict()) for n, rule in rules.items()}
    found = step_times(rules, "backprop", BATCH, rounds=(7, 7))
    assert (found["backprop"]["ratio"], found["backprop"]["spread"]) == (1, 0)
    for name, rule in rules.items():
        for key, value in rule.state_dict().items():
            assert torch.equal(value, before[name][key])


def test_rounds_end_at_the_bound_or_at_the_most():
    rules = {name: Backprop(mlp(SIZES), sgd(0.1)) for name in ("a", "b")}
    loose = step_times(rules, "a", BATCH, bound=1e9, rounds=(7, 50))
    strict = step_times(rules, "a", BATCH, bound=0, rounds=(7, 9))
    assert loose["b"]["rounds"] == 7
    assert strict["b"]["rounds"] == 9


def test_a_step_that_waits_does_not_count_and_work_beside_credit_does():
    class Interrupted(Backprop):
        def credit(self, batch):
            time.sleep(0.005)  # as when another notebook has the core
            return super().credit(batch)

    class Working(Backprop):
        def step(self, batch):
            super().step(batch)
            torch.ones(300, 300) @ torch.ones(300, 300)

    kinds = {"a": Backprop, "waits": Interrupted, "works": Working}
    rules = {name: kind(mlp(SIZES), sgd(0.1)) for name, kind in kinds.items()}
    found = step_times(rules, "a", BATCH, rounds=(7, 7))
    assert found["waits"]["ratio"] < 6  # on the wall more than ten
    assert found["works"]["floor"] > found["a"]["floor"]


def test_the_floor_is_below_the_step():
    found = step_times({"a": Backprop(mlp(SIZES), sgd(0.1))}, "a", BATCH, rounds=(7, 7))
    assert 0 < found["a"]["floor"] < 1


@pytest.mark.parametrize("recipe", [sgd(0.1, momentum=0.9), adam(1e-3), adamw(1e-3)])
def test_every_recipe_has_a_bare_step(recipe):
    found = step_times({"a": Backprop(mlp(SIZES), recipe)}, "a", BATCH, rounds=(7, 7))
    assert 0 < found["a"]["floor"] < 1


def test_what_no_file_keeps_is_given_back_before_the_clock_runs():
    class Counting(Backprop):
        def __init__(self, *args):
            super().__init__(*args)
            self.register_buffer("seen", torch.zeros(()), persistent=False)

        def credit(self, batch):
            self.seen += 1
            return super().credit(batch)

    rule = Counting(mlp(SIZES), sgd(0.1))
    timed = _Timed(rule, BATCH, time.process_time)
    assert float(timed.rule.seen) == float(rule.seen) == 0


def test_the_spread_is_half_the_order_statistics_interval_over_the_median():
    # of nine values the second and the eighth enclose the median with 96 %
    assert spread([1, 2, 3, 4, 5, 6, 7, 8, 9]) == pytest.approx((8 - 2) / 2 / 5)
    assert spread([1, 2, 3, 4, 5]) == float("inf")


def test_an_unknown_reference_is_named():
    with pytest.raises(ValueError, match="no rule is called 'b'"):
        step_times({"a": Backprop(mlp(SIZES), sgd(0.1))}, "b", BATCH)
