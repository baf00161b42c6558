"""PEPITA: identities hold, defects are caught, the audit sees what it must."""

import pytest
import torch
from support import (
    assert_caught,
    assert_identities_hold,
    image_batch,
    image_sizes,
)

from bpfree_common.learning import sgd
from bpfree_common.measuring.audit import audit
from bpfree_common.measuring.cost import measure

SLUG = "pepita"
FORMULA = "the credit of PEPITA equals its formula"
MASKS = "both passes share their dropout masks"
FIRST_ORDER = "(PEPITA - AFA) / size of F"
HEBBIAN = "Hebbian form minus PEPITA"
LOCAL = "time-local: one credit equals two plain SGD steps"
FAST = "the fast form takes the same steps as the plain one"
UNSEEN = "the echo knows weights through their answers alone"

MUTATIONS = {
    "sign of the modulation": ("below = x - e @", "below = x + e @", FORMULA),
    "second pass without error": (
        "below = x - e @ self.feedback.T",
        "below = x",
        FORMULA,
    ),
    "difference reversed": (
        "(h[l + 1] - above).T @ below",
        "(above - h[l + 1]).T @ below",
        FORMULA,
    ),
    "sum for mean": ("- above).T @ below / B", "- above).T @ below", FORMULA),
    "clean input": ("- above).T @ below / B", "- above).T @ h[l] / B", FORMULA),
    "fresh masks": ("unit(below), masks[l]", "unit(below), self.mask(h[l + 1])", MASKS),
    "probabilities for error": (" - F.one_hot(y, scores.shape[1])", "", FORMULA),
    "no slope": (" * (h[l + 1] > 0) * masks[l]", " * masks[l]", FIRST_ORDER),
    "feedback doubled": ("delta = e @", "delta = 2 * e @", FIRST_ORDER),
    "FA follows the weights": (
        "W0 = None if adaptive",
        "W0 = None if True",
        "FA starts as AFA",
    ),
    "Hebbian term subtracted": ("W.grad -= a.T", "W.grad += a.T", HEBBIAN),
    "target in both passes": ("(e + t).T @ h / B", "t.T @ h / B", HEBBIAN),
    "not time-local": ("W - self.rate * W.grad", "W", LOCAL),
    "time-local step uphill": ("W - self.rate * W", "W + self.rate * W", LOCAL),
    "echo of its own noise": ("unit(xi) / rows", "unit(xi)", "the echo of noise"),
    "the weights for their echo": (
        "return xi.T @ unit(xi) / rows",
        "return 0.005 * unit.linear.weight.T",
        UNSEEN,
    ),
    "B decays the wrong way": ("- 0.5 * B)", "+ 0.5 * B)", "one round"),
    "F not rescaled": ("copy_(gain * product)", "copy_(product)", "rescaling sets"),
    "activity not normalised": (
        "return F.normalize(h, dim=1)",
        "return h",
        "normalised: the size of hidden weights",
    ),
    "sum over positions": ("delta[0, 0].numel()", "1", "a convolution's credit"),
    "fast: another sign of the modulation": (
        "torch.addmm(flat, -e, shown",
        "torch.addmm(flat, e, shown",
        FAST,
    ),
    "fast: sum for mean": (
        "x, delta, W = self.before(x), delta / len(x)",
        "x, delta, W = self.before(x), delta",
        FAST,
    ),
}


def test_identities_of_pepita_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_pepita_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


def probe_audit(module, kind, **options):
    def build(units):
        layers = module.dense_units(image_sizes(units - 1), module.FastLayer)
        if kind == "Mirrored":
            return module.Mirrored(layers, sgd(0.1), dropout=0, **options)
        F = module.random_feedback(42, 10, 0.5)
        return getattr(module, kind)(layers, sgd(0.1), F, dropout=0, **options)

    return audit(build, image_batch())


@pytest.mark.parametrize("kind", ["PEPITA", "FastPEPITA"])
def test_pepita_locks_updates_without_gradients_or_weight_transport(paper, kind):
    probe_audit(paper, kind).expect(
        crossings=0, locking="full", weight_transport="none", live_memory="linear"
    )


def test_mirroring_costs_a_pass_of_noise(paper):
    found = probe_audit(paper, "Mirrored", rounds=5, rows=6)
    # six rows of noise for six images, then two passes of all units but the last
    found.expect(locking="full", forward=2.75)


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


def test_the_hebbian_forms_need_no_memory_that_grows(paper):
    assert probe_audit(paper, "Hebbian").live_memory == "flat"
    assert probe_audit(paper, "Hebbian", rate=0.1).live_memory == "flat"


def test_the_hebbian_form_pays_with_a_second_outer_product(paper):
    sizes, batch = image_sizes(2), image_batch()
    F = paper.random_feedback(42, 10)
    plain, form = (
        measure(kind(paper.dense_units(sizes), sgd(0.1), F, dropout=0), batch).flops
        for kind in (paper.PEPITA, paper.Hebbian)
    )
    products = 2 * 6 * sum(i * o for i, o in zip(sizes, sizes[1:], strict=False))
    assert form - plain == products


def test_superposition_spares_most_of_the_second_pass_of_layer_1(paper):
    sizes, F = [42, 32, 10], paper.random_feedback(42, 10)
    x, y = torch.rand(40, 42), torch.arange(40) % 10
    plain, fast = (
        measure(kind(units, sgd(0.1), F, dropout=0), (x, y)).flops
        for kind, units in (
            (paper.PEPITA, paper.dense_units(sizes)),
            (paper.FastPEPITA, paper.dense_units(sizes, paper.FastLayer)),
        )
    )
    spared = 2 * 40 * 42 * 32  # of all images through layer 1
    shown = 2 * 10 * 42 * 32 + 2 * 40 * 10 * 32  # the columns of F, and their sum
    assert plain - fast == spared - shown
