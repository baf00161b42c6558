"""Forward gradients: identities hold, defects are caught, the audit row is a fact."""

import pytest
from support import assert_caught, assert_identities_hold, small_batch, small_sizes

from bpfree_common import Backprop, mlp, sgd
from bpfree_common.former.audit import audit
from bpfree_common.former.cost import measure

SLUG = "forward_gradient"
DENSE = "d is autograd's gradient times v, through dense layers"
PRODUCT = "g = (grad f . v) v"
SIGNS = "signs: mean g is the gradient"

MUTATIONS = {
    "the tangent of the input is lost": ("torch.addmm(dz, dh, W.T)", "dz + 0 * z", DENSE),
    "the data meet the weights twice": (
        "torch.cat([W, V])",
        "torch.cat([W, W])",
        DENSE,
    ),
    "the bias does not move": ("F.linear(h, V, u)", "F.linear(h, V)", DENSE),
    "a step uphill": ("v *= d", "v *= -d", PRODUCT),
    "the slope is lost": ("v *= d", "v *= 1 + 0 * d", PRODUCT),
    "a sum over directions": (
        "(d / len(d))[None] @ v",
        "d[None] @ v",
        "an orthonormal basis times sqrt(n) averages to the gradient",
    ),
    "bits for signs": ("bits.mul_(2).sub_(1)", "bits.mul_(2)", SIGNS),
    "one direction for ever": (
        "if not self.fresh:",
        "if True:",
        "directions are fresh, unless the ablation asks for one for ever",
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
    return lambda units, directions=1: paper.ForwardGradient(
        mlp(small_sizes(units - 1)), sgd(0.1), directions
    )


@pytest.mark.parametrize("directions", [1, 5])
def test_one_forward_pass_k_tangent_passes_and_nothing_saved(build, directions):
    x, y = small_batch()
    counted = measure(build(4, directions).double(), (x.double(), y))
    assert (counted.forward, counted.jvp, counted.backward) == (1, directions, 0)
    assert counted.saved_bytes == 0
    assert counted.crossings == 0


def test_tangents_travel_through_the_weights_of_all_later_units(build):
    found = audit(build, small_batch(), depth=4)
    assert found.weight_transport == "full"
    assert found.locking == "full"
    # the data have no tangent, so that the first unit's weights meet none
    assert [row[0] for row in found.transport] == [0, 0, 0, 0]


def test_one_direction_costs_the_arithmetic_of_backpropagation_and_flat_memory(build):
    batch = small_batch()
    found = audit(build, batch, depth=4)
    baseline = audit(lambda u: Backprop(build(u).units, sgd(0.1)), batch, depth=4)
    assert found.flops == baseline.flops
    assert found.memory == "none"
    assert found.live_memory == "flat"
