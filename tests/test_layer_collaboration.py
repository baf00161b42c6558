"""Layer collaboration: identities hold, defects are caught, the audit sees the lock."""

import pytest
import torch
from support import assert_caught, assert_identities_hold

from bpfree_common.learning import adam
from bpfree_common.measuring.audit import audit

SLUG = "layer_collaboration"
OWN = "each layer ascends its own p_i, gamma from a frozen copy"
PREDICTS = "prediction sums the goodness of all layers"
FAST = "the fast form gives the plain rule's credit"
TURN = "in turn: one layer per step"

MUTATIONS = {
    # the plain rule
    "p for 1 - p": ("up = (1 - self.p(G_right, i))", "up = self.p(G_right, i)", OWN),
    "wrong rows pulled": ("down = -self.p(", "down = self.p(", OWN),
    "sign of the step": ("grad = -(up.T @ h + ", "grad = (up.T @ h + ", OWN),
    "gamma of right rows for all": ("self.p(G_wrong, i)", "self.p(G_right, i)", OWN),
    "below hears the layer above": (
        '"below": range(i + 1)',
        '"below": range(i + 2)',
        OWN,
    ),
    "threshold of one layer": (
        "theta = self.theta * sum(self.widths[t] for t in counted)",
        "theta = self.theta * self.widths[i]",
        OWN,
    ),
    "slope of the sum alone": (
        "torch.sigmoid((total - theta) / self.slope)",
        "torch.sigmoid(total / self.slope - theta)",
        OWN,
    ),
    "length kept": (
        "keepdim=True) + eps).rsqrt()",
        "keepdim=True) + eps).pow(-0.25)",
        OWN,
    ),
    "first layer not read": (
        "sum(goodness(a) for _, a in row)",
        "sum(goodness(a) for _, a in [*row][1:])",
        PREDICTS,
    ),
    "always the first layer's turn": (
        "self.turn.copy_((self.turn + 1) % self.period)",
        "self.turn.copy_((self.turn + 0) % self.period)",
        TURN,
    ),
    "entropy without its mean": (
        "- torch.xlogy(mean, mean)",
        "- 0 * mean",
        "Ent(h) >= 0, and 0 for a constant h",
    ),
    # the fast form
    "sign of gamma": ("(own + gamma) / slope", "(own - gamma) / slope", FAST),
    "own goodness counted twice": ("return total - own", "return total", FAST),
    "below includes itself": ("return below if", "return below + own if", FAST),
    "slope forgotten": ("t, theta / slope)", "t, theta)", FAST),
    "input not normalised": ("(normalise(a, G),) if n", "(a,) if n", FAST),
    "right and wrong swapped in one ascent": (
        "own in self.layers(x, shown)",
        "own in self.layers(x, shown.roll(len(x)))",
        FAST,
    ),
    "fast form reads too little": (
        "self.goodness(x).sum(0)",
        "self.goodness(x)[1:].sum(0)",
        "the fast form predicts as the plain rule does",
    ),
    "fast form stays with one layer": (
        "(self.turn + 1) % len(self.units)",
        "(self.turn + 0) % len(self.units)",
        "the fast form in turn does the same",
    ),
    "loss without its slope": (
        "return -self.slope * (F.logsigmoid(right)",
        "return -(F.logsigmoid(right)",
        "the last layer's credit is the true gradient",
    ),
}


def test_identities_of_layer_collaboration_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_layer_collaboration_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


LABELS, WIDTH = 40, 64


def audited(module, rule="LayerCollaboration", **options):
    """Goodness near its threshold, fewer rows than units, labels that no row shows."""

    def build(units):
        sizes = [32 + LABELS, *[WIDTH] * units, LABELS]
        made = getattr(module, rule)(sizes, adam(1e-3), **options)
        with torch.no_grad():
            for p in made.parameters():
                p *= 2**0.5
        return made

    torch.manual_seed(0)
    probe = (torch.rand(6, 32 + LABELS), torch.arange(6))
    return audit(build, probe, depths=(2, 4, 8), steps=4)


NO_GRADIENT = {"crossings": 0, "weight_transport": "none"}
MEAN = {"slope": float(WIDTH)}  # goodness as a mean of squares


def test_all_layers_lock_each_other_through_a_number_without_weight_transport(paper):
    found = audited(paper, **MEAN)
    found.expect(**NO_GRADIENT, locking="full", live_memory="linear", forward=2)


def test_a_second_ascent_buys_flat_memory(paper):
    found = audited(paper, recompute=True, **MEAN)
    found.expect(**NO_GRADIENT, locking="full", live_memory="flat", forward=4)


@pytest.mark.parametrize("gamma", ["below", "none"])
def test_layers_below_need_nothing_from_above_and_keep_nothing(paper, gamma):
    found = audited(paper, gamma=gamma, **MEAN)
    found.expect(**NO_GRADIENT, locking="none", live_memory="flat", forward=2)


def test_letting_the_gradient_through_is_backpropagation(paper):
    found = audited(paper, "BackpropPairwise", **MEAN)
    found.expect(
        findings=("disagreement: transport",),
        crossings=3,
        locking="full",
        weight_transport="full",
        live_memory="linear",
    )


def test_the_plain_rule_in_turn_teaches_every_layer_once_in_a_round(paper):
    torch.manual_seed(0)
    rule = paper.PlainInTurn([12, 8, 8, 8, 4], adam(1e-3))
    taught = []
    for _ in range(rule.period):
        rule.zero_grad()
        rule.credit((torch.rand(6, 12), torch.arange(6) % 4))
        taught.append([u.weight.grad is not None for u in rule.units])
    assert taught == torch.eye(3).bool().tolist()


def test_the_dense_builder_makes_a_network_that_learns_and_predicts(paper):
    torch.manual_seed(0)
    for inputs in (20, 800):  # the label is appended, or replaces the first pixels
        rule = paper.build_dense([inputs, 16, 16, 4], adam(1e-3))
        rule.credit((torch.rand(6, inputs), torch.arange(6) % 4))
        assert all(p.grad is not None for p in rule.parameters())
        assert rule.predict(torch.rand(5, inputs)).shape == (5, 4)
