"""PEPITA: identities hold, defects are caught, the audit sees what it must."""

import pytest
import torch
from support import (
    assert_caught,
    assert_identities_hold,
    image_batch,
    image_sizes,
    mutant,
)

from bpfree_common import sgd
from bpfree_common.errors import ContractError
from bpfree_common.former.audit import audit
from bpfree_common.former.cost import measure

SLUG = "pepita"
FORMULA = "the credit of PEPITA equals its formula"
MASKS = "both passes share their dropout masks"
FIRST_ORDER = "(PEPITA - AFA) / size of F"
LOCAL = "time-local: one credit equals two plain SGD steps"

MUTATIONS = {
    "sign of the modulation": ("return self.sign *", "return -self.sign *", FORMULA),
    "second pass without error": ("he = self.modulate(x, e)\n", "he = x\n", FORMULA),
    "difference reversed": ("h[l + 1] - he, source", "he - h[l + 1], source", FORMULA),
    "sum for mean": ("delta / len(x)", "delta / 1", FORMULA),
    "clean input": ("if self.clean_input else he\n", "if True else he\n", FORMULA),
    "fresh masks": ("(he, masks[l])", "(he, dropout_mask(he, self.keep))", MASKS),
    "probabilities for error": ("y[:, None], -1,", "y[:, None], 0,", FORMULA),
    "no slope": (
        "threshold_backward(delta, h[l + 1], 0)",
        "threshold_backward(delta, h[l + 1] + 1, 0)",
        FIRST_ORDER,
    ),
    "feedback doubled": ("-self.push(e) @", "-2 * self.push(e) @", FIRST_ORDER),
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
    "echo of its own noise": ("unit(xi) / rows", "unit(xi)", "the echo"),
    "B decays the wrong way": (
        "keep, echo = 1 - self",
        "keep, echo = 1 + self",
        "one round",
    ),
    "F not rescaled": ("copy_(gain * product)", "copy_(product)", "rescaling sets"),
    "sum over positions": ("delta[0, 0].numel()", "1", "a convolution's credit"),
    "one sign for both modulations": (
        "return self.sign *",
        "return -1 *",
        "plus with F and minus with -F: the same bits",
    ),
}


def test_identities_of_pepita_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_pepita_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


def probe_audit(module, kind, **options):
    def build(units):
        layers = module.dense_units(image_sizes(units - 1))
        if kind == "Mirrored":
            return module.Mirrored(layers, sgd(0.1), dropout=0, **options)
        F = module.random_feedback(42, 10, 0.5)
        return getattr(module, kind)(layers, sgd(0.1), F, dropout=0, **options)

    return audit(build, image_batch())


def test_pepita_locks_updates_without_gradients_or_weight_transport(paper):
    probe_audit(paper, "PEPITA").expect(
        crossings=0, locking="full", weight_transport="none", memory="none", backward=0
    )


def test_mirroring_learns_the_weights_without_transporting_them(paper):
    found = probe_audit(paper, "Mirrored", rounds=5, rows=6)
    found.expect(crossings=0, weight_transport="none", memory="none")
    shown = [1 + 10 / 6, 2, 2, 1]  # passes of units; to the first also 10 columns of F
    assert found.passes["forward"] == pytest.approx(1 + sum(shown) / 4)  # 1 of noise


def test_copying_the_transposed_weights_instead_of_mirroring_them_is_found_out():
    one = "torch.eye(len(W)).to(W) + 0 * unit(xi)[:1, :1]"
    echo = ("return xi.T, unit(xi) / rows", f"return W.T, {one}")
    cheat = mutant(SLUG, *echo)
    with pytest.raises(ContractError, match="its inputs cannot see"):
        probe_audit(cheat, "Mirrored", rounds=5, rows=6)


@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_dropout_masks_are_independent_draws_of_the_right_probability(paper, keep):
    torch.manual_seed(0)
    h = torch.zeros(999, 1001, dtype=torch.float64)  # an odd number of entries
    mask = paper.dropout_mask(h, keep)
    assert (mask.shape, mask.dtype) == (h.shape, h.dtype)
    assert mask.unique().tolist() == pytest.approx([0, 1 / keep])
    spread = 5 * ((1 - keep) / keep / h.numel()) ** 0.5  # of the mean, five sigma
    assert mask.mean().item() == pytest.approx(1, abs=spread)
    flat = mask.flatten() - 1
    for lag in (1, 2, 1001):  # two entries come from the same 64 bits
        product = (flat[lag:] * flat[:-lag]).mean().item()
        assert abs(product) < 5 * (1 - keep) / keep / h.numel() ** 0.5
    torch.manual_seed(0)
    assert torch.equal(mask, paper.dropout_mask(h, keep))
    assert not torch.equal(mask, paper.dropout_mask(h, keep))
    assert paper.dropout_mask(h, 1) is None


def test_the_hebbian_forms_need_no_memory_that_grows_and_pepita_does(paper):
    assert probe_audit(paper, "PEPITA").live_memory == "linear"
    assert probe_audit(paper, "Hebbian").live_memory == "flat"
    assert probe_audit(paper, "Hebbian", fast=0.1).live_memory == "flat"


def test_the_hebbian_form_pays_with_a_second_outer_product(paper):
    sizes, batch = image_sizes(2), image_batch()
    F = paper.random_feedback(42, 10)
    plain, form = (
        measure(kind(paper.dense_units(sizes), sgd(0.1), F, dropout=0), batch).flops
        for kind in (paper.PEPITA, paper.Hebbian)
    )
    products = 2 * 6 * sum(i * o for i, o in zip(sizes, sizes[1:], strict=False))
    second_pass = 2 * 6 * 42 * 32  # of layer 1, in full
    superposed = 2 * 10 * 42 * 32 + 2 * 6 * 10 * 32  # W_1 F, and that times e
    assert form - plain == products + second_pass - superposed
