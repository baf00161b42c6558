"""PEPITA: identities hold, defects are caught, the audit sees what it must."""

import pytest
import torch
from support import assert_caught, assert_identities_hold

from bpfree_common import catalogue, loader, sgd
from bpfree_common.audit import audit
from bpfree_common.cost import measure
from bpfree_common.errors import ContractError

SLUG = "pepita"
FORMULA = "the credit of PEPITA equals its formula"
MASKS = "both passes share their dropout masks"
FIRST_ORDER = "(PEPITA - AFA) / size of F"
LOCAL = "time-local: one credit equals two plain SGD steps"

MUTATIONS = {
    "sign of the modulation": ("alpha=self.sign", "alpha=-self.sign", FORMULA),
    "second pass without error": ("he = self.modulate(x, e)\n", "he = x\n", FORMULA),
    "difference reversed": ("h[l + 1] - he, source", "he - h[l + 1], source", FORMULA),
    "sum for mean": ("delta / len(x)", "delta / 1", FORMULA),
    "clean input": ("if self.clean_input else he\n", "if True else he\n", FORMULA),
    "fresh masks": ("unit(he), masks[l])", "unit(he), self.mask(h[l + 1]))", MASKS),
    "probabilities for error": ("] -= 1", "] -= 0", FORMULA),
    "no slope": (
        "threshold_backward(delta, h[l + 1], 0)",
        "threshold_backward(delta, h[l + 1] + 1, 0)",
        FIRST_ORDER,
    ),
    "feedback doubled": ("-self.sign * e @", "-2 * self.sign * e @", FIRST_ORDER),
    "FA follows the weights": (
        "W0 = None if adaptive",
        "W0 = None if True",
        "FA starts as AFA",
    ),
    "Hebbian term subtracted": (
        "teach(-h, source",
        "teach(h, source",
        "no error, no credit",
    ),
    "target in both passes": ("teach(e + t, h)", "teach(t, h)", "Hebbian form"),
    "not time-local": ("z = z - F.linear(x, step)", "z = z", LOCAL),
    "time-local step uphill": ("z - F.linear(x, step)", "z + F.linear(x, step)", LOCAL),
    "echo of its own noise": ("xi.T @ unit(xi) / rows", "xi.T @ unit(xi)", "the echo"),
    "B decays the wrong way": ("/ self.decay, self.rate", ", self.rate", "one round"),
    "F not rescaled": ("copy_(gain * product)", "copy_(product)", "rescaling sets"),
    "sum over positions": ("delta[0, 0].numel()", "1", "a convolution's credit"),
}


def test_identities_of_pepita_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_pepita_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


@pytest.fixture(scope="module")
def intact():
    return loader.build(catalogue.get(SLUG).path, "intact_pepita")


def probe():
    torch.manual_seed(0)
    return torch.rand(8, 42), torch.arange(8)


def probe_audit(module, kind, **options):
    def build(units):
        sizes = [42] + [32] * (units - 1) + [10]
        layers = module.dense_units(sizes)
        if kind == "Mirrored":
            return module.Mirrored(layers, sgd(0.1), dropout=0, **options)
        F = module.random_feedback(42, 10, 0.5)
        return getattr(module, kind)(layers, sgd(0.1), F, dropout=0, **options)

    return audit(build, probe())


def test_pepita_locks_updates_without_gradients_or_weight_transport(intact):
    probe_audit(intact, "PEPITA").expect(
        crossings=0, locking="full", weight_transport="none", memory="none", backward=0
    )


def test_mirroring_learns_the_weights_without_transporting_them(intact):
    found = probe_audit(intact, "Mirrored", rounds=5, rows=8)
    found.expect(crossings=0, weight_transport="none", memory="none")
    assert found.passes["forward"] == 2.75


def test_copying_the_transposed_weights_instead_of_mirroring_them_is_found_out():
    path = catalogue.get(SLUG).path
    echo = ("return xi.T @ unit(xi) / rows", "return W.T + 0 * (xi.T @ unit(xi))")
    cheat = loader.build(path, "cheating_pepita", replace=echo)
    with pytest.raises(ContractError, match="its inputs cannot see"):
        probe_audit(cheat, "Mirrored", rounds=5, rows=8)


def test_the_hebbian_forms_need_no_memory_that_grows_and_pepita_does(intact):
    assert probe_audit(intact, "PEPITA").live_memory == "linear"
    assert probe_audit(intact, "Hebbian").live_memory == "flat"
    assert probe_audit(intact, "Hebbian", fast=0.1).live_memory == "flat"


def test_the_hebbian_form_pays_with_a_second_outer_product(intact):
    layers = [42, 32, 32, 10]
    F = intact.random_feedback(42, 10)
    plain, form = (
        measure(kind(intact.dense_units(layers), sgd(0.1), F, dropout=0), probe()).flops
        for kind in (intact.PEPITA, intact.Hebbian)
    )
    products = 2 * 8 * sum(i * o for i, o in zip(layers, layers[1:], strict=False))
    assert form - plain == products


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
