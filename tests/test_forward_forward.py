"""Forward-Forward: identities hold, defects are caught, the audit sees what it must."""

import pytest
import torch
from support import assert_caught, assert_identities_hold

from bpfree_common import Backprop, adam, catalogue, loader, mlp
from bpfree_common.audit import audit
from bpfree_common.cost import measure

SLUG = "forward_forward"
GRADIENT = "credit equals the gradient of each layer's own loss"
PEER = "the peer term reaches silent units"
WRONG = "wrong labels are never right"

# One layer's turn in the loop, and the same with autograd and without a detach.
TURN = """inputs = (self.hand_on(a, out=a),) if n else (x[:, self.skip :], labels)
            a = F.relu_(unit(*inputs))  # (k * batch, width): right, wrong (, neutral)
            undecided += self.teach(n, unit, inputs, a, len(y))"""
LEAKY_TURN = """
            with torch.enable_grad():
                inputs = (self.hand_on(a),) if n else (x[:, self.skip :], labels)
                a = F.relu(unit(*inputs))
                G = (a[: 2 * len(y)].square().sum(1) - a.shape[1]).view(2, -1)
                loss = F.softplus(-G[0]).mean() + F.softplus(G[1]).mean()
                (loss / 2).backward(retain_graph=True)"""

MUTATIONS = {
    "sign of the step": ("push[None]]).neg_()", "push[None]])", GRADIENT),
    "threshold": ("(a.shape[1] - goodness_of", "(2.0 - goodness_of", GRADIENT),
    "sum for mean": ("weight[rows, None] / batch", "weight[rows, None]", GRADIENT),
    "p for 1 - p": ("-torch.sigmoid(-wrong)", "-torch.sigmoid(wrong)", GRADIENT),
    "undecided rows skipped": ("torch.finfo(a.dtype).eps", "1e-3", GRADIENT),
    "missing detach": (TURN, LEAKY_TURN, "layers are isolated"),
    "length handed on": (
        "goodness_of(a)[..., None]",
        "a.norm(dim=-1, keepdim=True)",
        "r forgets length",
    ),
    "label not normalised": (
        "self.label(s * labels)",
        "self.label(labels)",
        "the shared first layer equals",
    ),
    "gated peer term": ("(m.mean() - m)", "(m.mean() - m) * a[:batch].any(0)", PEER),
    "reversed peer term": ("(m.mean() - m)", "(m - m.mean())", PEER),
    "peer term of all rows": (
        "h[:batch].mean(0, True)",
        "h[: 2 * batch].mean(0, True)",
        PEER,
    ),
    "right label as wrong": ("randint(1,", "randint(0,", WRONG),
    "right label not struck out": ("o - 1000 *", "o - 0 *", WRONG),
    "read-out uphill": ("(error / len(y))", "(-error / len(y))", "the read-out's credit"),
    "first layer counted": ("(G[1:] if", "(G[:] if", "goodness mode equals"),
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
        rule = module.ForwardForward([42] + [32] * hidden + [10], adam(1e-3), **options)
        with torch.no_grad():
            if rule.readout:
                rule.units[-1].weight.normal_()
            for p in rule.units[:hidden].parameters():
                p *= 2**0.5
        return rule

    return audit(build, probe())


def probe():
    torch.manual_seed(0)
    return torch.rand(8, 42), torch.arange(8)


@pytest.fixture(scope="module")
def intact():
    return loader.build(catalogue.get(SLUG).path, "intact_forward_forward")


def test_uniform_negatives_are_layer_local(intact):
    probe_audit(intact).expect(
        crossings=0, locking="none", weight_transport="none", memory="none"
    )


def test_hard_negatives_lock_layers_through_the_data_without_weight_transport(intact):
    probe_audit(intact, negatives="hard").expect(
        crossings=0, locking="full", weight_transport="none", memory="none"
    )


def test_nothing_is_saved_at_any_depth_while_saved_bytes_of_backprop_grow_linearly(
    intact,
):
    assert set(probe_audit(intact).saved_bytes.values()) == {0}
    theirs = audit(
        lambda units: Backprop(mlp([42] + [32] * (units - 1) + [10]), adam(1e-3)), probe()
    ).saved_bytes
    per_layer = (theirs[16] - theirs[2]) / 14
    assert per_layer == (theirs[4] - theirs[2]) / 2 > 0


def test_without_the_joint_readout_live_bytes_are_flat_too(intact):
    found = probe_audit(intact, readout=False)
    assert len(set(found.live_bytes.values())) == 1
    assert found.passes["forward"] == 2


def test_a_forgotten_detach_is_caught_by_the_audit():
    path = catalogue.get(SLUG).path
    leaky = loader.build(path, "leaky_forward_forward", replace=(TURN, LEAKY_TURN))
    found = probe_audit(leaky, peer=0)
    assert found.crossings > 0
    assert found.locking != "none"
    assert found.dependence[0][1] > 0
    assert found.memory == "linear"


def test_decided_rows_cost_nothing(intact):
    torch.manual_seed(0)
    rule = intact.ForwardForward([42, 128, 128, 10], adam(1e-3), readout=False)
    decided = measure(
        rule, probe()
    ).flops  # goodness far below: all wrong rows are decided
    with torch.no_grad():
        for p in rule.parameters():
            p *= 2**0.5
    undecided = measure(rule, probe()).flops  # goodness near the threshold
    assert decided < 0.85 * undecided


def test_goodness_mode_is_differentiable_and_agrees_with_a_single_label(intact):
    torch.manual_seed(0)
    rule = intact.ForwardForward([12, 8, 8, 4], adam(1e-3))
    x = torch.rand(5, 12)
    rule.predict(x).sum().backward()
    assert all(p.grad is not None for p in rule.units[1].parameters())
    label = torch.nn.functional.one_hot(torch.tensor([2]), 4).float().expand(1, 5, -1)
    *_, last = rule.activities(x, label)
    assert torch.allclose(rule.goodness(x)[-1, :, 2], last.square().sum(1), atol=1e-5)
