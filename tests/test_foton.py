"""FOTON: identities hold, defects are caught, the audit sees what it must."""

import pytest
import torch
from support import (
    assert_caught,
    assert_identities_hold,
    image_batch,
    image_sizes,
    take_steps,
)

from bpfree_common import sgd
from bpfree_common.errors import ContractError
from bpfree_common.former.audit import audit
from bpfree_common.former.cost import measure
from bpfree_common.learning.alignment import alignment

SLUG = "foton"
EXACT = "linear and orthogonal: the credit is the gradient"
FORMULA = "tanh: every hidden credit equals its formula"
BJORCK = "Bjorck finds the polar factor"
TRANSPOSE = "convolution: `transposed` is the transpose"

MUTATIONS = {
    "sign of the modulation": ("e, shown, alpha=-1", "e, shown, alpha=1", EXACT),
    "difference reversed": ("h[l + 1] - he, source", "he - h[l + 1], source", EXACT),
    "sum for mean": ("beta=0, alpha=1 / len(x)", "beta=0, alpha=1", EXACT),
    "modulated term": (
        "source = h[l] if self.clean else he",
        "source = he",
        EXACT,
    ),
    "clean term in spite of PEPITA": (
        "source = h[l] if self.clean else he",
        "source = h[l]",
        "the modulated presynaptic term breaks the equality",
    ),
    "weights backwards": ("v @ W if W.dim()", "v @ W * 2 if W.dim()", EXACT),
    "second pass without error": (
        "z = self.superpose(z, e, P",
        "self.superpose(z, e, P",
        EXACT,
    ),
    "no temperature in the error": (
        "F.log_softmax(self.T * self.units",
        "F.log_softmax(self.units",
        EXACT,
    ),
    "read-out reads the second pass": (
        "self.units[-1].teach(e, h[-1] if",
        "self.units[-1].teach(e, he if",
        EXACT,
    ),
    "second pass linear": ("= unit(he, masks[l])", "= unit.linear(he)", FORMULA),
    "probabilities for error": ("] -= 1", "] -= 0", EXACT),
    "fresh masks": (
        "unit.fire(z, masks[l])",
        "unit.fire(z, unit.mask(len(x)))",
        "both passes share their dropout masks",
    ),
    "feedback of the start ignored": (
        "if self.feedback is None",
        "if True",
        "both passes share their dropout masks: no feedback",
    ),
    "Bjorck without the cubic term": ("alpha=-0.5", "alpha=0.0", "Bjorck leaves"),
    "Bjorck without a bound": ("bound.clamp(min=1)", "bound.clamp(max=1)", BJORCK),
    "no projection": (
        "optimizer.register_step_post_hook",
        "(lambda hook: hook)",
        "after a step of the optimiser",
    ),
    "pooling as a sum": ("scale_factor=2) / 4", "scale_factor=2)", TRANSPOSE),
    "sum for mean in a convolution": (
        "W.shape, delta / len(x)",
        "W.shape, delta",
        "convolution: the credit is the product of delta and input",
    ),
}


def test_identities_of_foton_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_foton_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


def test_with_a_random_matrix_updates_are_locked_but_no_weights_are_transported(paper):
    def build(units):
        layers = paper.dense_units(image_sizes(units - 1))
        return paper.FOTON(layers, sgd(0.1), feedback=0.1 * torch.randn(10, 42))

    audit(build, image_batch()).expect(
        crossings=0,
        locking="full",
        weight_transport="none",
        memory="none",
        live_memory="linear",
        forward=round((1 + 10 / 6 + 2 + 2 + 1) / 4, 3),  # P's 10 rows, through unit 1
        backward=0,
    )


def test_the_product_of_the_weights_is_found_out_as_weight_transport(paper):
    def build(units):
        return paper.build_dense(image_sizes(units - 1), sgd(0.1))

    with pytest.raises(ContractError, match="its inputs cannot see"):
        audit(build, image_batch())


def test_the_product_costs_as_many_rows_as_there_are_classes(paper):
    sizes, batch = image_sizes(2), image_batch()
    weights = sum(i * o for i, o in zip(sizes, sizes[1:], strict=False))
    fresh = paper.FOTON(paper.dense_units(sizes), sgd(0.1))
    fixed = paper.FOTON(paper.dense_units(sizes), sgd(0.1), feedback=torch.rand(10, 42))
    extra = measure(fresh, batch).flops - measure(fixed, batch).flops
    assert extra == 2 * 10 * weights


def test_a_deep_tanh_network_starts_close_to_the_gradient(paper):
    torch.manual_seed(0)
    rule = paper.build_dense(image_sizes(9), sgd(0.1))
    assert min(alignment(rule, image_batch())) > 0.7


def test_weights_stay_orthogonal_while_a_network_learns(paper):
    rule = paper.build_dense([42, 32, 64, 10], sgd(0.5))  # shrinks, grows, shrinks
    take_steps(rule, image_batch(), 5)
    for unit in rule.units:
        values = torch.linalg.svdvals(unit.linear.weight.detach())
        assert (values - 1).abs().max() < 1e-4
