"""FOTON: identities hold, defects are caught, the audit sees what it must."""

import pytest
import torch
from support import assert_caught, assert_identities_hold

from bpfree_common import catalogue, loader, sgd
from bpfree_common.alignment import alignment
from bpfree_common.audit import audit
from bpfree_common.cost import measure
from bpfree_common.errors import ContractError

SLUG = "foton"
EXACT = "linear and orthogonal: the credit is the gradient"
FORMULA = "tanh: every hidden credit equals its formula"
BJORCK = "Bjorck finds the polar factor"
TRANSPOSE = "convolution: `transposed` is the transpose"

MUTATIONS = {
    "sign of the modulation": ("e, P, alpha=-1", "e, P, alpha=1", EXACT),
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
    "second pass without error": ("he = self.modulate(x, e)\n", "he = x\n", EXACT),
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
    "second pass linear": ("he = unit(he, masks[l])", "he = unit.linear(he)", FORMULA),
    "probabilities for error": ("] -= 1", "] -= 0", EXACT),
    "fresh masks": (
        "he = unit(he, masks[l])",
        "he = unit(he)",
        "both passes share their dropout masks",
    ),
    "feedback of the start ignored": (
        "if self.feedback is None",
        "if True",
        "both passes share their dropout masks: no feedback",
    ),
    "Bjorck without the cubic term": ("alpha=-0.5", "alpha=0.0", "Bjorck leaves"),
    "Bjorck without a bound": (".clamp(min=1).sqrt()", ".clamp(max=1)", BJORCK),
    "no projection": (
        "optimizer.register_step_post_hook",
        "(lambda hook: hook)",
        "after a step of the optimiser",
    ),
    "pooling as a sum": ("scale_factor=2) / 4", "scale_factor=2)", TRANSPOSE),
}


def test_identities_of_foton_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_foton_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


@pytest.fixture(scope="module")
def intact():
    return loader.build(catalogue.get(SLUG).path, "intact_foton")


def probe():
    torch.manual_seed(0)
    return torch.rand(8, 42), torch.arange(8)


def test_with_a_random_matrix_updates_are_locked_but_no_weights_are_transported(intact):
    def build(units):
        layers = intact.dense_units([42] + [32] * (units - 1) + [10])
        return intact.FOTON(layers, sgd(0.1), feedback=0.1 * torch.randn(10, 42))

    audit(build, probe()).expect(
        crossings=0,
        locking="full",
        weight_transport="none",
        memory="none",
        live_memory="linear",
        forward=1.75,
        backward=0,
    )


def test_the_product_of_the_weights_is_found_out_as_weight_transport(intact):
    def build(units):
        return intact.build_dense([42] + [32] * (units - 1) + [10], sgd(0.1))

    with pytest.raises(ContractError, match="its inputs cannot see"):
        audit(build, probe())


def test_the_product_costs_as_many_rows_as_there_are_classes(intact):
    sizes, (x, y) = [42, 32, 32, 10], probe()
    weights = sum(i * o for i, o in zip(sizes, sizes[1:], strict=False))
    fresh = intact.FOTON(intact.dense_units(sizes), sgd(0.1))
    fixed = intact.FOTON(intact.dense_units(sizes), sgd(0.1), feedback=torch.rand(10, 42))
    extra = measure(fresh, (x, y)).flops - measure(fixed, (x, y)).flops
    assert extra == 2 * 10 * weights


def test_a_deep_tanh_network_starts_close_to_the_gradient(intact):
    torch.manual_seed(0)
    rule = intact.build_dense([42] + [32] * 9 + [10], sgd(0.1))
    assert min(alignment(rule, probe())) > 0.7


def test_weights_stay_orthogonal_while_a_network_learns(intact):
    rule = intact.build_dense([42, 32, 64, 10], sgd(0.5))  # shrinks, grows, shrinks
    optimizer = rule.configure_optimizers()
    for _ in range(5):
        rule.credit(probe())
        optimizer.step()
    for unit in rule.units:
        values = torch.linalg.svdvals(unit.linear.weight.detach())
        assert (values - 1).abs().max() < 1e-4


@pytest.mark.parametrize("hidden", [0, 1, 4])
def test_dense_networks_of_any_depth_can_be_built_and_taught(intact, hidden):
    rule = intact.build_dense([12] + [8] * hidden + [3], sgd(0.1))
    rule.credit((torch.rand(5, 12), torch.tensor([0, 1, 2, 0, 1])))
    assert all(p.grad.isfinite().all() for p in rule.parameters())
    assert rule.predict(torch.rand(5, 12)).shape == (5, 3)


@pytest.mark.parametrize("channels", [[4], [4, 6]])
def test_convolutional_networks_of_any_depth_can_be_built_and_taught(intact, channels):
    rule = intact.build_conv((3, 8, 8), channels, 5, sgd(0.1))
    rule.credit((torch.rand(5, 3, 8, 8), torch.arange(5)))
    assert all(p.grad.shape == p.shape for p in rule.parameters())
    assert rule.predict(torch.rand(2, 3, 8, 8)).shape == (2, 5)
