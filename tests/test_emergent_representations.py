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
from torch import nn

from bpfree_common.learning import adam
from bpfree_common.measuring.audit import audit
from bpfree_common.measuring.cost import measure

SLUG = "emergent_representations"
GRADIENT = "FF norms' credit is -+sigmoid"
FAST = "the fast form of FF norms is FF norms"
FAST_BPFF = "the fast form of BP/FF is BP/FF"
ROWS = "a row is n(E(x, c))"
LABELS = "wrong labels are never right"
PREDICTION = "prediction: per layer a softmax"
MEMBERS = "an ensemble: m_j exceeds"

MUTATIONS = {
    "right rows are pushed down": (
        "[self.theta - right",
        "[right - self.theta",
        GRADIENT,
    ),
    "squared goodness": ("loss = self.loss(g)\n", "loss = self.loss(g**2)\n", GRADIENT),
    "length handed on": (
        "h = a / g.clamp_min(1e-12)  # h_l",
        "h = a  # h_l",
        GRADIENT,
    ),
    "sum for mean": (
        "wrong - self.theta])).mean()",
        "wrong - self.theta])).sum()",
        GRADIENT,
    ),
    "gradient between layers": (
        "self.climb(*self.pairs(batch), cut=True)",
        "self.climb(*self.pairs(batch))",
        "FF norms is isolated",
    ),
    "the mean over layers, not their sum": (
        "self.loss(sum(g for g, _ in self.climb(*self.pairs(batch))))",
        "self.loss(sum(g / 3 for g, _ in self.climb(*self.pairs(batch))))",
        "BP/FF's loss is that of the summed goodness",
    ),
    "label as bright as one": (
        "codes = x.max() * self.codes[torch.cat(labels)]  # as",
        "codes = self.codes[torch.cat(labels)]  # as",
        ROWS,
    ),
    "right label as wrong": ("(y + 1 + mark)", "(y + mark)", LABELS),
    "wrong labels of few kinds": ("% (self.classes - 1)", "% 2", LABELS),
    "softmax over layers": (
        "torch.softmax(g.mT, -1)",
        "torch.softmax(g.mT, 0)",
        PREDICTION,
    ),
    "fast: sign of the error": (
        "(self.sign * torch.sigmoid",
        "(-self.sign * torch.sigmoid",
        FAST,
    ),
    "fast: a label without its own length": (
        "length(codes).view(-1, len(x), 1).square()",
        "0 * length(codes).view(-1, len(x), 1)",
        FAST_BPFF,
    ),
    "fast: length handed on": ("inputs = (h,)", "inputs = (g * h,)", FAST),
    "price of a sum of squares": (
        "a.abs().sum(1).mean()",
        "a.square().sum(1).mean()",
        "the L1 arm",
    ),
    "unit compared with itself": ("m.shape[-1] - 1)", "m.shape[-1])", MEMBERS),
    "tau without the one": ("(1 + tau) * others", "tau * others", MEMBERS),
    "Hoyer without its root": ("(root - 1)", "root", "S is 0 for equal units"),
    "class sums for class means": (
        "codes.sum(0)[:, None].clamp_min(1)",
        "len(y)",
        "class means are means",
    ),
    "overlap with the other's complement": (
        "E.double().mT",
        "(1 - E.double()).mT",
        "overlap: symmetric",
    ),
}


def test_identities_of_the_rules_and_statistics_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_the_rules_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


def probe_audit(rule):
    return audit(lambda n: rule(image_sizes(n), adam(1e-3)), image_batch())


@pytest.mark.parametrize("form", ["FFNorms", "GoodnessFF"])
def test_ff_norms_is_layer_local_and_its_memory_does_not_grow(paper, form):
    found = probe_audit(getattr(paper, form))
    found.expect(**LOCAL, live_memory="flat", forward=2)


def test_backpropagating_the_same_goodness_needs_everything(paper):
    probe_audit(paper.FastBPFF).expect(**GLOBAL, live_memory="linear", forward=2)


def test_the_first_layer_multiplies_by_the_image_as_often_as_backpropagation(paper):
    def flops(width):
        torch.manual_seed(0)
        rule = paper.GoodnessFF([500, width, 10], adam(1e-3))
        return measure(rule, (torch.rand(8, 500), torch.arange(8))).flops

    one_product = 2 * 8 * 490  # the image pixels, per unit
    per_unit = (flops(128) - flops(64)) / 64
    assert 2 * one_product <= per_unit < 2.3 * one_product


@pytest.mark.parametrize(("inputs", "replaced"), [(784, 10), (64, 0)])
def test_build_dense_overwrites_pixels_only_where_there_are_many(paper, inputs, replaced):
    rule = paper.build_dense([inputs, 20, 15, 10], adam(1e-3))
    assert rule.skip == replaced
    assert rule.predict(torch.rand(3, inputs)).shape == (3, 10)


@pytest.mark.parametrize("form", ["FFNorms", "GoodnessFF"])
def test_a_silent_layer_writes_zeros_and_not_nan(paper, form):
    rule = getattr(paper, form)([42, 16, 16, 10], adam(1e-3))
    for p in rule.units[0].parameters():
        p.data.fill_(-1.0)
    rule.credit((torch.rand(4, 42), torch.arange(4)))
    assert all(torch.isfinite(p.grad).all() for p in rule.parameters())
    assert not any(p.grad.any() for p in rule.units[0].parameters())


def test_without_a_price_the_l1_arm_is_backpropagation(paper):
    units = nn.ModuleList([nn.Sequential(nn.Linear(6, 4), nn.ReLU()), nn.Linear(4, 3)])
    batch = torch.rand(5, 6), torch.tensor([0, 1, 2, 0, 1])
    free = paper.BackpropL1(units, adam(1e-3), 0.0)
    assert torch.allclose(free.objective(batch), paper.Backprop.objective(free, batch))
    dear = paper.BackpropL1(units, adam(1e-3), 0.5)
    assert dear.objective(batch) > free.objective(batch)
