"""Forward-Forward: identities hold, defects are caught, the audit sees what it must."""

import pytest
import torch
from support import (
    LOCAL,
    assert_caught,
    assert_identities_hold,
    image_batch,
    image_sizes,
    mutant,
)

from bpfree_common import Backprop, adam, mlp
from bpfree_common.audit import audit
from bpfree_common.cost import measure

SLUG = "forward_forward"
GRADIENT = "credit equals the gradient of each layer's own loss"
PEER = "the peer term reaches silent units"
WRONG = "wrong labels are never right"

# One layer's turn in the loop, and the same with autograd and without a detach.
TURN = """inputs = (self.hand_on(a, G, out=a),) if n else (x[:, self.skip :], labels)
            a = F.relu_(unit(*inputs))  # (k * batch, width): right, wrong (, neutral)
            G = goodness_of(a)
            undecided += self.teach(n, unit, inputs, a, G, len(y))"""
LEAKY_TURN = """
            with torch.enable_grad():
                inputs = (self.hand_on(a),) if n else (x[:, self.skip :], labels)
                a = F.relu(unit(*inputs))
                G = goodness_of(a)
                right, wrong = (G[: 2 * len(y)] - a.shape[1]).chunk(2)
                loss = F.softplus(-right).mean() + F.softplus(wrong).mean()
                (loss / 2).backward(retain_graph=True)"""

MUTATIONS = {
    "no wrong labels between lessons": (
        "wrong = uniform_labels(y, self.classes)",
        "wrong = y if self.readout > stacked else uniform_labels(y, self.classes)",
        "neutral rows change no hidden layer",
    ),
    "sign of the step": ("weight / -batch", "weight / batch", GRADIENT),
    "threshold": ("(theta - G)", "(2.0 - G)", GRADIENT),
    "sum for mean": ("(weight / -batch)", "-weight", GRADIENT),
    "right rows only": ("delta.sum(0), push", "delta[0], push", GRADIENT),
    "p for 1 - p": ("-torch.sigmoid(-wrong)", "-torch.sigmoid(wrong)", GRADIENT),
    "undecided rows skipped": ("torch.finfo(a.dtype).eps", "1e-3", GRADIENT),
    "missing detach": (TURN, LEAKY_TURN, "layers are isolated"),
    "length handed on": (
        "(G[..., None] /",
        "(a.norm(dim=-1, keepdim=True) /",
        "r forgets length",
    ),
    "label not normalised": (
        "self.label(s * labels)",
        "self.label(labels)",
        "the shared first layer equals",
    ),
    "gated peer term": (
        "(m - m.mean())[None]",
        "((m - m.mean()) * a[:batch].any(0))[None]",
        PEER,
    ),
    "reversed peer term": ("(m - m.mean())", "(m.mean() - m)", PEER),
    "peer term at one image": ("s[0].T @ x / len(x)", "s[0, 0] * x[:1]", PEER),
    "peer term of all rows": (
        "h[:batch].mean(0, True)",
        "h[: 2 * batch].mean(0, True)",
        PEER,
    ),
    "right label as wrong": ("randint(1,", "randint(0,", WRONG),
    "right label not struck out": ("o - 1000 *", "o - 0 *", WRONG),
    "read-out uphill": ("(error / len(y))", "(-error / len(y))", "the read-out's credit"),
    "first layer counted": ("(G[1:] if", "(G[:] if", "goodness mode equals"),
    "hard labels against the opinion": (
        "torch.softmax(o -",
        "torch.softmax(-o -",
        "hard labels follow the read-out's opinion",
    ),
    "neutral label read from the image": (
        "x.new_full((1, len(x), self.classes), 1 / self.classes)",
        "x[None, :, : self.classes]",
        "the read-out's credit",
    ),
}


def test_identities_of_forward_forward_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_forward_forward_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


def probe_audit(module, **options):
    """The notebook's probe: goodness near its threshold, a read-out with an opinion."""

    def build(units):
        hidden = units - options.get("readout", 1)
        rule = module.ForwardForward(image_sizes(hidden), adam(1e-3), **options)
        with torch.no_grad():
            if rule.readout:
                rule.units[-1].weight.normal_()
            for p in rule.units[:hidden].parameters():
                p *= 2**0.5
        return rule

    return audit(build, image_batch())


def test_uniform_negatives_are_layer_local(paper):
    probe_audit(paper).expect(**LOCAL, memory="none")


def test_hard_negatives_lock_layers_through_the_data_without_weight_transport(paper):
    probe_audit(paper, negatives="hard").expect(
        crossings=0, locking="full", weight_transport="none", memory="none"
    )


def test_nothing_is_saved_at_any_depth_while_saved_bytes_of_backprop_grow_linearly(paper):
    assert set(probe_audit(paper).saved_bytes.values()) == {0}
    theirs = audit(
        lambda units: Backprop(mlp(image_sizes(units - 1)), adam(1e-3)), image_batch()
    ).saved_bytes
    per_layer = (theirs[16] - theirs[2]) / 14
    assert per_layer == (theirs[4] - theirs[2]) / 2 > 0


def test_without_the_joint_readout_live_bytes_are_flat_too(paper):
    found = probe_audit(paper, readout=False)
    assert len(set(found.live_bytes.values())) == 1
    assert found.passes["forward"] == 2


def test_a_forgotten_detach_is_caught_by_the_audit():
    found = probe_audit(mutant(SLUG, TURN, LEAKY_TURN), peer=0)
    assert found.crossings > 0
    assert found.locking != "none"
    assert found.dependence[0][1] > 0
    assert found.memory == "linear"


def test_decided_rows_cost_nothing(paper):
    torch.manual_seed(0)
    rule = paper.ForwardForward([42, 128, 128, 128, 10], adam(1e-3), readout=False)
    # goodness far below the threshold: all wrong rows are decided
    decided = measure(rule, image_batch()).flops
    with torch.no_grad():
        for p in rule.parameters():
            p *= 2**0.5
    undecided = measure(rule, image_batch()).flops  # goodness near the threshold
    assert decided < 0.85 * undecided


def test_goodness_mode_is_differentiable_and_agrees_with_a_single_label(paper):
    torch.manual_seed(0)
    rule = paper.ForwardForward([12, 8, 8, 4], adam(1e-3))
    x = torch.rand(5, 12)
    rule.predict(x).sum().backward()
    assert all(p.grad is not None for p in rule.units[1].parameters())
    label = torch.nn.functional.one_hot(torch.tensor([2]), 4).float().expand(1, 5, -1)
    *_, last = rule.activities(x, label)
    assert torch.allclose(rule.goodness(x)[-1, :, 2], last.square().sum(1), atol=1e-5)
