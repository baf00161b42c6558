"""Emergent representations: identities, defects, and what each of the rules needs."""

import pytest
import torch
from support import (
    GLOBAL,
    LOCAL,
    assert_caught,
    assert_identities_hold,
    image_batch,
    image_sizes,
)

from bpfree_common import adam
from bpfree_common.former.audit import audit
from bpfree_common.former.cost import measure

SLUG = "emergent_representations"
GRADIENT = "FF's credit equals the gradient of each layer's own loss"
JOINT = "summed: the gradient of the joint loss"
SHARED = "the shared first layer equals"
PREDICTION = "prediction: per layer a softmax"
MEMBERS = "an ensemble: m_j exceeds"

MUTATIONS = {
    "sign of the error": (
        "(self.sign * torch.sigmoid",
        "(-self.sign * torch.sigmoid",
        GRADIENT,
    ),
    "sum for mean": (" / len(g)).view_as(g)", ").view_as(g)", GRADIENT),
    "goodness too high counts as right": (
        "sigmoid(self.excess(g))",
        "sigmoid(-self.excess(g))",
        GRADIENT,
    ),
    "squared goodness": (
        "else total) * h, *inputs",
        "else total) * h * g, *inputs",
        GRADIENT,
    ),
    "first layer's scale forgotten": (
        "x, labels, s, outputs=into",
        "x, labels, None, outputs=into",
        GRADIENT,
    ),
    "units that only push down are taken for silent": (
        "torch.logical_or(*a.aminmax(dim=0))",
        "a.amax(dim=0).clamp_min(0)",
        "leaving out silent units changes no credit",
    ),
    "length handed on": ("inputs = (h,)", "inputs = (g * h,)", GRADIENT),
    "sum of the goodness of two layers": (
        "in layers)\n        active",
        "in layers[1:])\n        active",
        JOINT,
    ),
    "label without its own length": (
        "length(codes).view(-1, len(x), 1).square()",
        "0 * length(codes).view(-1, len(x), 1)",
        SHARED,
    ),
    "label as bright as one": ("x.max() * self.codes", "self.codes", SHARED),
    "right label as wrong": (
        "(y + 1 + mark)",
        "(y + mark)",
        "wrong labels are never right",
    ),
    "softmax over layers": ("self.goodness(x), -1)", "self.goodness(x), 0)", PREDICTION),
    "unit compared with itself": ("m.shape[-1] - 1)", "m.shape[-1])", MEMBERS),
    "tau without the one": ("(1 + tau) * others", "tau * others", MEMBERS),
    "Hoyer without its root": ("(root - 1)", "root", "S is 0 for equal units"),
    "squared length in Hoyer": (
        "length(a)[..., 0])",
        "length(a)[..., 0] ** 2)",
        "S is 0 for equal units",
    ),
    "greedy backwards": ("in (-1, l)", "in (-1, 2 - l)", "greedy: layer 1"),
    "class sums for class means": (
        "codes.sum(0)[:, None].clamp_min(1)",
        "len(y)",
        "class means are means",
    ),
    "overlap with the other's complement": (
        "E.double().T",
        "(1 - E.double()).T",
        "overlap: symmetric",
    ),
}


def test_identities_of_the_three_rules_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_the_rules_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


def probe_audit(rule, **options):
    return audit(lambda n: rule(image_sizes(n), adam(1e-3), **options), image_batch())


def test_ff_with_norms_is_layer_local_and_its_memory_does_not_grow(paper):
    probe_audit(paper.GoodnessFF).expect(
        **LOCAL, memory="none", live_memory="flat", forward=2, backward=0
    )


def test_the_summed_error_locks_the_layers_but_transports_no_weight(paper):
    probe_audit(paper.GoodnessFF, summed=True).expect(
        crossings=0, locking="full", weight_transport="none", memory="none"
    )


def test_backpropagating_the_same_objective_needs_everything(paper):
    probe_audit(paper.GlobalFF).expect(**GLOBAL, memory="linear")


def test_the_first_layer_multiplies_by_the_image_as_often_as_backpropagation(paper):
    def flops(width):
        torch.manual_seed(0)
        rule = paper.GoodnessFF([500, width, 10], adam(1e-3))
        return measure(rule, (torch.rand(8, 500), torch.arange(8))).flops

    one_product = 2 * 8 * 490  # the image pixels, per unit
    assert 2 * one_product <= flops(64) / 64 < 2.2 * one_product


@pytest.mark.parametrize(("inputs", "replaced"), [(784, 10), (64, 0)])
def test_build_dense_overwrites_pixels_only_where_there_are_many(paper, inputs, replaced):
    rule = paper.build_dense([inputs, 20, 15, 10], adam(1e-3))
    assert rule.skip == replaced
    assert rule.predict(torch.rand(3, inputs)).shape == (3, 10)


def test_a_silent_layer_writes_zeros_and_not_nan(paper):
    rule = paper.GoodnessFF([42, 16, 16, 10], adam(1e-3))
    for p in rule.units[0].parameters():
        p.data.fill_(-1.0)
    rule.credit((torch.rand(4, 42), torch.arange(4)))
    assert all(torch.isfinite(p.grad).all() for p in rule.parameters())
    assert not rule.units[0].image.weight.grad.any()
