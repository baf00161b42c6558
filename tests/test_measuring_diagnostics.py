"""The diagnostics of a credit, held by cases whose values mathematics gives."""

import pytest
import torch

from bpfree_common import Backprop, adam, mlp, sgd
from bpfree_common.measuring.diagnostics import diagnose

X = torch.randn(6, 12, generator=torch.Generator().manual_seed(1))
BATCH = (X, torch.arange(6) % 3)


class Scaled(Backprop):
    """The gradient times a factor."""

    factor = 1.0

    def credit(self, batch):
        logged = super().credit(batch)
        for p in self.parameters():
            p.grad *= self.factor
        return logged


class Vanishing(Backprop):
    """An objective whose gradient is lost in the arithmetic of float32."""

    def objective(self, batch):
        return 1e-3 * ((super().objective(batch) + 1e7) - 1e7)


def rule(kind, factor=1.0, optimizer=None):
    torch.manual_seed(0)
    made = kind(mlp([12, 10, 3], "tanh"), optimizer or sgd(0.1))
    made.factor = factor
    return made


@pytest.mark.parametrize("optimizer", [sgd(0.1), adam(0.01)])
@pytest.mark.parametrize("factor", [1.0, 7.0])
def test_the_gradient_of_any_length_is_perfect(factor, optimizer):
    found = diagnose(rule(Scaled, factor, optimizer), BATCH)
    assert found.alignment == pytest.approx([1, 1])
    assert found.nudging == pytest.approx([1, 1])
    assert found.perturbation_correlation == pytest.approx([1, 1], abs=1e-3)
    assert all(floor < 1e-5 for floor in found.gradient_floor)


def test_the_gradient_with_the_sign_turned_does_harm():
    found = diagnose(rule(Scaled, -1.0), BATCH)
    assert found.alignment == pytest.approx([-1, -1])
    assert found.nudging == pytest.approx([-1, -1], abs=0.05)


def test_a_direction_across_the_gradient_neither_helps_nor_correlates():
    class Across(Backprop):
        def credit(self, batch):
            logged = super().credit(batch)
            generator = torch.Generator().manual_seed(2)
            for p in self.parameters():
                g = p.grad
                v = torch.randn(g.shape, generator=generator, dtype=g.dtype)
                p.grad = v - (v * g).sum() / (g * g).sum() * g
            return logged

    found = diagnose(rule(Across), BATCH)
    assert found.alignment == pytest.approx([0, 0], abs=1e-6)
    assert found.nudging == pytest.approx([0, 0], abs=0.05)
    assert all(abs(c) < 0.6 for c in found.perturbation_correlation)  # 32 directions


def test_a_unit_without_credit_has_no_diagnosis():
    class Last(Backprop):
        def credit(self, batch):
            logged = super().credit(batch)
            self.units[0].zero_grad(set_to_none=True)
            return logged

    found = diagnose(rule(Last), BATCH).as_dict()
    assert [values[0] for values in found.values()] == [None] * 4
    assert found["alignment"][1] == pytest.approx(1)


def test_the_rule_stays_as_it_is():
    one = rule(Backprop)
    before = [p.detach().clone() for p in one.parameters()]
    diagnose(one, BATCH)
    assert all(torch.equal(a, b) for a, b in zip(before, one.parameters(), strict=True))
