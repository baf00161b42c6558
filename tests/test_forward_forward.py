"""Forward-Forward: identities hold, defects are caught, the audit sees what it must."""

import pytest
import torch
from support import (
    LOCAL,
    assert_caught,
    assert_identities_hold,
    image_batch,
    mutant,
)

from bpfree_common.learning.optim import adam
from bpfree_common.measuring.audit import audit
from bpfree_common.measuring.cost import measure

SLUG = "forward_forward"
GRADIENT = "credit equals the gradient of each layer's own loss"
PEER = "the peer term reaches silent units"
WRONG = "wrong labels are never right"
FAST = "the fast form gives the plain rule's credit"

# What a layer writes, and the same with autograd and without a detach.
ASCENT = """a = F.relu_(unit(*inputs))  # (k * batch, width): right, wrong (, neutral)
            G = goodness_of(a)"""
LEAKY_ASCENT = """
            with torch.enable_grad():
                inputs = (self.hand_on(a),) if n else inputs
                a = F.relu(unit(*inputs))
                G = goodness_of(a)
                right_G, wrong_G = (G[:both] - a.shape[1]).chunk(2)
                loss = F.softplus(-right_G).mean() + F.softplus(wrong_G).mean()
                (loss / 2).backward(retain_graph=True)
            if stacked and (n or self.hidden == 1):
                seen.append(normalise(a[both:]).detach())
            continue"""

MUTATIONS = {
    # the plain rule
    "sign of the step": ("grad = -(up.T @ h_pos", "grad = (up.T @ h_pos", GRADIENT),
    "threshold": ("goodness(a) - a.shape[1])", "goodness(a) - 2.0)", GRADIENT),
    "sum for mean": ("down.T @ h_neg) / len(y)", "down.T @ h_neg)", GRADIENT),
    "right rows only": ("down = delta(a_neg, 0)", "down = 0 * a_neg", GRADIENT),
    "p for 1 - p": ("(t - p)[:, None]", "(t + p - 1)[:, None]", GRADIENT),
    "length kept": ("keepdim=True) + eps).rsqrt()", "keepdim=True) + eps).pow(-0.25)",
                    "r forgets length"),
    "gated peer term": ("up = delta(a_pos, 1) + self.peer *",
                        "up = delta(a_pos, 1) + (a_pos > 0) * self.peer *", PEER),
    "reversed peer term": ("(layer.m.mean() - layer.m)", "(layer.m - layer.m.mean())",
                           PEER),
    "right label as wrong": ("randint(1,", "randint(0,", WRONG),
    "right label not struck out": ("o - 1000 *", "o - 0 *", WRONG),
    "hard labels against the opinion": (
        "torch.softmax(o - 1000", "torch.softmax(-o - 1000",
        "hard labels follow the read-out's opinion",
    ),
    "read-out uphill": ("(torch.softmax(o, 1) - Y).T", "(Y - torch.softmax(o, 1)).T",
                        "the read-out's credit"),
    "first layer counted": ("sum(map(goodness, a[1:]))", "sum(map(goodness, a))",
                            "goodness mode equals"),
    "neutral label read from the image": (
        "x.new_full((len(x), self.classes), 1 / self.classes)", "x[:, : self.classes]",
        "the neutral pass does not see",
    ),
    # its fast form
    "no wrong labels between lessons": (
        "wrong = uniform_labels(y, self.classes)",
        "wrong = y if self.readout > stacked else uniform_labels(y, self.classes)",
        "steps without a lesson",
    ),
    "undecided rows skipped": ("torch.finfo(a.dtype).eps", "1e-3", FAST),
    "missing detach": (ASCENT, LEAKY_ASCENT, FAST),
    "length handed on": (
        "normaliser_of(G, a.shape[-1], eps)", "normaliser_of(G.sqrt(), a.shape[-1], eps)",
        FAST,
    ),
    "label not normalised": (
        "G = goodness_of(labels).view(-1, len(x)) + goodness_of(x)",
        "G = 0 * goodness_of(labels).view(-1, len(x)) + goodness_of(x)",
        FAST,
    ),
    "peer term at one image": ("mean @ x, mean @ labels", "s[:1] * x[:1], mean @ labels",
                               FAST),
    "peer term of all rows": (
        "mean @ inputs[0][: len(a)]", "inputs[0][: 2 * len(a)].mean(0, True)", FAST,
    ),
    "first layer counted by the fast form": ("(G[1:] if", "(G[:] if",
                                             "the fast form predicts as"),
}  # fmt: skip


def test_identities_of_forward_forward_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_forward_forward_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


LABELS = 64  # more than a run shows: some weights from labels stay out of sight


def probe_audit(module, images=8, width=32, **options):
    """The notebook's probe: goodness near its threshold, a read-out with an opinion."""

    def build(units):
        hidden = units - options.get("readout", 1)
        sizes = [32 + LABELS] + [width] * hidden + [LABELS]
        rule = module.ForwardForward(sizes, adam(1e-3), **options)
        with torch.no_grad():
            if rule.readout:
                rule.units[-1].weight.normal_()
            for p in rule.units[:hidden].parameters():
                p *= 2**0.5
        return rule

    torch.manual_seed(0)
    probe = torch.rand(images, 32 + LABELS), torch.arange(images)
    return audit(build, probe, depths=(4, 32, 64))


def test_uniform_negatives_are_layer_local(paper):
    probe_audit(paper).expect(**LOCAL)


def test_hard_negatives_lock_layers_through_the_data_without_weight_transport(paper):
    probe_audit(paper, negatives="hard").expect(**LOCAL | {"locking": "full"})


def test_the_readout_makes_live_bytes_grow_by_one_copy_of_each_activity(paper):
    live = probe_audit(paper, negatives="hard").live_bytes
    activity = 8 * 32 * 4  # bytes of one unit: images, width, float32
    assert activity <= (live[64] - live[32]) / 32 < 1.25 * activity


def test_without_the_joint_readout_live_bytes_are_flat_too(paper):
    found = probe_audit(paper, readout=False)
    assert len(set(found.live_bytes.values())) == 1
    assert found.passes["forward"] == 2


def test_a_forgotten_detach_is_caught_by_the_audit():
    # two images: the rows of all steps leave weights that no forward pass sees
    leaky = mutant(SLUG, ASCENT, LEAKY_ASCENT)
    found = probe_audit(leaky, images=2, width=64, peer=0)
    assert found.crossings > 0
    assert found.locking != "none"
    assert found.dependence[0][1] > 0


def test_decided_rows_cost_nothing(paper):
    torch.manual_seed(0)
    rule = paper.ForwardForward([42, 40, 40, 40, 10], adam(1e-3), readout=False)

    def flops(bias):
        for unit in rule.units:
            unit.bias.data.fill_(bias)
        return measure(rule, image_batch()).flops

    far_below, near = flops(-9.0), flops(0.3)  # silent layers: wrong rows are decided
    assert far_below < 0.85 * near


def test_goodness_mode_is_differentiable_and_agrees_with_a_single_label(paper):
    torch.manual_seed(0)
    rule = paper.ForwardForward([12, 8, 8, 4], adam(1e-3))
    x = torch.rand(5, 12)
    rule.predict(x).sum().backward()
    assert all(p.grad is not None for p in rule.units[1].parameters())
    *_, last = rule.activities(x, torch.full((5,), 2))
    assert torch.allclose(rule.goodness(x)[-1, :, 2], last.square().sum(1), atol=1e-5)
