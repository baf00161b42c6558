"""GHL: identities hold, defects are caught, the audit sees what it must."""

import pytest
import torch
from support import (
    GLOBAL,
    LOCAL,
    assert_caught,
    assert_fixed_but_saved,
    assert_identities_hold,
    mutant,
)

from bpfree_common.learning import cnn, mlp, sgd
from bpfree_common.measuring.audit import audit

SLUG = "hebbian_global_direction"
LOOPS = "H equals the loop over rows, units and weights"
CREDIT = "hidden credit is |H| times the gradient's sign"
PATCHES = "a convolution's H is that of its patches"
LAYOUT = "a step moves weights by rate times credit"

MUTATIONS = {
    "competition between rows": ("self.t * u, 1)", "self.t * u, 0)", LOOPS),
    "temperature upside down": ("softmax(self.t * u", "softmax(u / self.t", LOOPS),
    "decay grows": (
        "H -= (Y * u).sum(0)[:, None] * W",
        "H += (Y * u).sum(0)[:, None] * W",
        LOOPS,
    ),
    "not normalised": ("+ 1e-30)).reshape", "+ 1.0)).reshape", LOOPS),
    "places in reverse": ("u.flatten(2).mT", "u.flatten(2).flip(2).mT", PATCHES),
    "fast form without decay": (
        "H -= (Y * u).sum((0, 2, 3))",
        "H -= 0 * (Y * u).sum((0, 2, 3))",
        "the fast form of a convolution equals the plain one",
    ),
    "the whole gradient": (
        "def gradient_sign(G, H):\n    return G.sign()",
        "def gradient_sign(G, H):\n    return G",
        CREDIT,
    ),
    "Hebb's own sign": (
        "def oja_size(H):\n    return H.abs()",
        "def oja_size(H):\n    return H",
        CREDIT,
    ),
    "uphill": (
        "def gradient_sign(G, H):\n    return G.sign()",
        "def gradient_sign(G, H):\n    return -G.sign()",
        "the step descends",
    ),
    "another order in memory": (
        "W.grad.copy_(self.size(H) * self.direction(W.grad, H))",
        "W.grad = (self.size(H) * self.direction(W.grad, H)).contiguous()",
        LAYOUT,
    ),
    "the largest for the mean": (
        "H.abs().mean().expand_as(H)",
        "H.abs().max().expand_as(H)",
        "mean and shuffle keep every layer's mean step",
    ),
    "flips the others": ("rand_like(G) < p", "rand_like(G) > p", "a flipped sign"),
    "a number per unit": (
        "bits = (G * H).flatten(1).sum(1).sign()",
        "bits = (G * H).flatten(1).sum(1)",
        "one bit per unit",
    ),
    "layers ascend": (
        "H.sign() * (G * H).sum().sign()",
        "-H.sign() * (G * H).sum().sign()",
        "one bit per layer",
    ),
    "error added": (
        "- F.one_hot(y, scores.shape[1])",
        "+ F.one_hot(y, scores.shape[1])",
        "feedback equal to the read-out",
    ),
    "anti-Hebbian": (
        "copy_(-unit.plasticity(x, u))",
        "copy_(unit.plasticity(x, u))",
        "with minus the sign of H it is the local rule",
    ),
    "losers learn too": ("keepdim=True), Y, -Y)", "keepdim=True), Y, Y)", "SoftHebb"),
}

PLAIN_LINK = "x = unit.before(a.detach())"


def test_identities_of_hebbian_global_direction_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_hebbian_global_direction_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


def probe_audit(paper, rule):
    def build(units):
        network = paper.dense_units([32] * units + [3], norm=False)
        return getattr(paper, rule)(network, sgd(0.01))

    torch.manual_seed(0)
    return audit(build, (torch.randn(6, 32), torch.arange(6) % 3))


def test_the_sign_alone_carries_all_that_backprop_uses(paper):
    probe_audit(paper, "GHL").expect(**GLOBAL, live_memory="linear", forward=1)


def test_the_sign_of_feedback_alignment_transports_no_weight(paper):
    found = probe_audit(paper, "FeedbackSign")
    found.expect(crossings=0, locking="full", weight_transport="none")


def test_a_forgotten_detach_in_the_feedback_form_is_caught_by_the_audit():
    leaky = mutant(SLUG, PLAIN_LINK, "x = unit.before(a)")
    assert probe_audit(leaky, "FeedbackSign").weight_transport != "none"


def test_the_local_rule_needs_nothing_from_above(paper):
    probe_audit(paper, "Local").expect(**LOCAL, forward=1)


def test_feedback_is_fixed_and_saved(paper):
    torch.manual_seed(0)
    one, other = (
        paper.FeedbackSign(paper.dense_units([6, 5, 3]), sgd(0.1)) for _ in range(2)
    )
    assert_fixed_but_saved(one, other, "B0")


def test_read_out_and_hidden_weights_have_rates_and_decay_of_their_own(paper):
    units = paper.dense_units([6, 5, 3])
    rule = paper.GHL(units, sgd(0.1), head=0.7, decay=0.05)
    hidden, head = rule.configure_optimizers().param_groups
    assert [hidden["lr"], hidden["weight_decay"]] == [0.1, 0.05]
    assert [head["lr"], head["weight_decay"]] == [0.7, 0.0]
    assert {id(p) for p in head["params"]} == {id(p) for p in units[-1].parameters()}


def test_the_networks_of_the_championship_have_the_plain_shapes(paper):
    dense = paper.build_dense([12, 8, 7, 4], sgd(0.1))
    conv = paper.build_conv((3, 16, 16), [4, 8], 10, sgd(0.1))
    pairs = (dense, mlp([12, 8, 7, 4])), (conv, cnn((3, 16, 16), [4, 8], 10))
    for rule, plain in pairs:
        rule.check_contract()
        matrices = [p.shape for p in rule.parameters() if p.dim() > 1]
        assert matrices == [p.shape for p in plain.parameters() if p.dim() > 1]
    assert conv.predict(torch.randn(2, 3, 16, 16)).shape == (2, 10)
