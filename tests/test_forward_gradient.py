"""Forward gradients: identities hold, defects are caught, the audit row is a fact."""

import pytest
import torch
from support import assert_caught, assert_identities_hold, small_batch, small_sizes

from bpfree_common.learning import mlp, opponents, sgd
from bpfree_common.measuring.audit import audit
from bpfree_common.measuring.cost import measure

SLUG = "forward_gradient"
DENSE = "d is autograd's gradient times v, through dense layers"
PRODUCT = "g = (grad f . v) v"
SIGNS = "signs: mean g is the gradient"
SAME = "the fast form writes the credit of the plain one"
SAMPLERS = "all samplers: mean 0, variance 1, uncorrelated"

MUTATIONS = {
    "the tangent of the input is lost": ("torch.addmm(dz, dh, W.T)", "dz + 0 * z", DENSE),
    "the data meet the weights twice": (
        "torch.cat([W, V])",
        "torch.cat([W, W])",
        DENSE,
    ),
    "the bias does not move": ("F.linear(h, V, u)", "F.linear(h, V)", DENSE),
    "every direction is the first": (
        "for u in v]",
        "for u in v[:1].expand_as(v)]",
        DENSE,
    ),
    "a step uphill": ("v.mul_(d)[0]", "v.mul_(-d)[0]", PRODUCT),
    "the slope is lost": ("v.mul_(d)[0]", "v[0]", PRODUCT),
    "a sum over directions": ("return d / len(d) @ v", "return d @ v", SIGNS),
    "the fast form halves its step": ("v.mul_(d)[0]", "v.mul_(d / 2)[0]", SAME),
    "bits for signs": ("bits.mul_(2).sub_(1)", "bits.mul_(2)", SIGNS),
    "the bit of the sign is never drawn": (
        "words.random_(-(2**63), None)",
        "words.random_()",
        SAMPLERS,
    ),
    "two bytes share their signs": (
        "torch.arange(256)[:, None]",
        "(torch.arange(256) // 2 * 2)[:, None]",
        "packed signs: bytes are equally likely",
    ),
    "clipped on one side": (
        "d.clamp(-self.clip, self.clip)",
        "d.clamp(max=self.clip)",
        "a clipped slope shortens the step and keeps its line",
    ),
    "a rising learning rate": (
        "math.exp(-k)",
        "math.exp(k)",
        "the learning rate after i steps is eta_0 exp(-i k)",
    ),
}


def test_identities_of_the_forward_gradient_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_the_forward_gradient_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


@pytest.fixture
def build(paper):
    """Makes probe networks of any depth under the rule, with one direction or more."""
    return lambda units, directions=1: paper.FastForwardGradient(
        mlp(small_sizes(units - 1)), sgd(0.1), directions
    )


@pytest.mark.parametrize("directions", [1, 5])
def test_values_run_once_and_tangents_once_per_direction(build, directions):
    # the data have no tangent: with four units, three products with weights carry one
    x, y = small_batch()
    counted = measure(build(4, directions), (x, y))
    assert counted.evaluations == 1
    assert counted.forward == 1 + directions * 3 / 4


def test_every_unit_waits_for_the_loss_and_nothing_comes_back(paper):
    def build(units):
        return paper.build_dense([40] + [32] * (units - 1) + [3], sgd(0.1))

    torch.manual_seed(0)
    found = audit(build, (torch.randn(6, 40), torch.arange(6) % 3))
    # tangents see weights as values do, in the forward direction
    found.expect(crossings=0, locking="full", weight_transport="none", live_memory="flat")
    assert all(value > 0 for row in found.dependence for value in row)


def test_one_direction_costs_the_arithmetic_of_backpropagation(build):
    batch = small_batch()
    baseline = opponents.Backprop(build(4).units, sgd(0.1))
    assert measure(build(4), batch).flops == measure(baseline, batch).flops


def test_one_direction_takes_no_memory_beside_its_credit(build, paper):
    # weights of 12 x 12 numbers and activities of 6 x 12: only the plain form keeps v
    batch = small_batch()
    fast = [measure(build(units), batch).live_bytes for units in (4, 16)]
    plain = [
        measure(paper.ForwardGradient(build(units).units, sgd(0.1)), batch).live_bytes
        for units in (4, 16)
    ]
    assert fast[1] == fast[0]
    assert plain[1] - plain[0] >= 4 * 12 * (12 * 12 + 12)


def test_the_contest_gets_the_fast_form(paper):
    dense = paper.build_dense([8, 5, 3], sgd(0.1))
    conv = paper.build_conv((1, 8, 8), [3, 4], 3, sgd(0.1))
    for rule, x in ((dense, torch.randn(2, 8)), (conv, torch.randn(2, 1, 8, 8))):
        assert isinstance(rule, paper.FastForwardGradient)
        assert rule.predict(x).shape == (2, 3)
