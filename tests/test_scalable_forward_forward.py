"""Scalable Forward-Forward: identities hold, defects are caught, blocks are isolated."""

import pytest
import torch
from support import (
    GLOBAL,
    LOCAL,
    assert_caught,
    assert_identities_hold,
    mutant,
    take_steps,
)

from bpfree_common.learning import adam
from bpfree_common.learning.opponents import Backprop
from bpfree_common.measuring.audit import audit
from bpfree_common.measuring.cost import measure

SLUG = "scalable_forward_forward"
SLOPE = "dg/dA = 2 A / (H W)"
LOSS = "the loss is cross-entropy"
ONE_BLOCK = "one block: SFF is backpropagation"

# One block's turn, and the same without the cut.
TURN = """loss.backward()  # ends at h_{k-1}, which has no history
        return normalise(u.detach()), loss.detach()"""
LEAKY_TURN = """loss.backward(retain_graph=True)
        return normalise(u), loss.detach()"""

MUTATIONS = {
    "missing cut": (TURN, LEAKY_TURN, "what a block hands on has no history"),
    "uphill": ("loss.backward()  # ends", "(-loss).backward()  # ends", ONE_BLOCK),
    "sum over space": ("-1).mean(2)", "-1).sum(2)", SLOPE),
    "absolute value": ("A.square()", "A.abs()", SLOPE),
    "no log-sum-exp": ("g.logsumexp(1)", "g.sum(1)", LOSS),
    "margin of the wrong label": ("gather(1, y[:", "gather(1, (y * 0)[:", LOSS),
    "normaliser keeps the offset": (
        "F.layer_norm(u,",
        "F.rms_norm(u,",
        "LayerNorm forgets scale and offset",
    ),
    "votes without normaliser": (
        "h = normalise(u)\n",
        "h = u\n",
        "the last block's credit is the same",
    ),
    "mean of the losses": (
        "torch.stack(losses).sum()",
        "torch.stack(losses).mean()",
        "the last block's credit is the same",
    ),
    "goodness instead of softmax": (
        "votes.softmax(2)",
        "votes * 2",
        "one loud block outvotes two firm ones",
    ),
    "linear inside the block": (
        "self.second(F.relu(self.first(h)))",
        "self.second(self.first(h))",
        "single layers are a residual block with a silent shortcut",
    ),
    "first block not read": (
        "votes).mean(0)",
        "votes)[1:].mean(0)",
        "all readings agree when there is one block",
    ),
}


def test_identities_of_scalable_forward_forward_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_scalable_forward_forward_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


def probe():
    torch.manual_seed(0)
    return torch.randn(4, 24, 2, 2), torch.arange(4)


def built(module, units, rule="ScalableForwardForward", bodies="residual_bodies"):
    made = getattr(module, bodies)(24, [24] * units, stride=1)[:units]
    heads = module.with_heads(made, [24] * units, 10)
    return getattr(module, rule)(heads, adam(1e-3))


@pytest.mark.parametrize("bodies", ["residual_bodies", "single_layers"])
def test_blocks_are_isolated_and_their_memory_is_flat(paper, bodies):
    audit(lambda n: built(paper, n, bodies=bodies), probe(), depths=(2, 4, 8)).expect(
        **LOCAL, live_memory="flat", forward=1
    )


def test_without_the_cut_every_property_is_lost(paper):
    whole = lambda n: built(paper, n, rule="DeepSupervision")  # noqa: E731
    audit(whole, probe(), depths=(2, 4, 8)).expect(**GLOBAL, live_memory="linear")


def test_a_forgotten_cut_is_caught_by_the_audit():
    leaky = mutant(SLUG, TURN, LEAKY_TURN)
    found = audit(lambda n: built(leaky, n), probe(), depths=(2, 4, 8))
    assert found.crossings == 3
    assert found.locking != "none"
    assert found.live_memory == "linear"


def test_with_four_equal_blocks_fewer_bytes_live_than_without_the_cuts(paper):
    rule = built(paper, 4)
    whole = built(paper, 4, rule="DeepSupervision")
    live = [measure(r, probe()).live_bytes for r in (rule, whole)]
    assert live[0] < live[1] / 1.5


def test_a_step_costs_less_than_backpropagation_of_the_same_losses(paper):
    flops = [
        measure(built(paper, 4, rule=r), probe()).flops
        for r in ("ScalableForwardForward", "DeepSupervision")
    ]
    assert flops[0] < flops[1]


def test_more_classes_cost_more(paper):
    def flops(classes):
        bodies = paper.residual_bodies(24, [24] * 2, stride=1)
        heads = paper.with_heads(bodies, [24] * 2, classes)
        return measure(paper.ScalableForwardForward(heads, adam(1e-3)), probe()).flops

    growth = [flops(c) for c in (10, 20, 40)]
    assert growth[2] - growth[1] == 2 * (growth[1] - growth[0]) > 0


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_dense_and_convolutional_networks_of_any_depth_learn(paper, depth):
    torch.manual_seed(0)
    y = torch.arange(12) % 3
    side = 2**depth
    cases = {
        "dense": (
            paper.build_dense([5] + [16] * depth + [3], adam(0.01)),
            torch.randn(12, 5),
        ),
        "conv": (
            paper.build_conv((2, side, side), [8] * depth, 3, adam(0.01)),
            torch.randn(12, 2, side, side),
        ),
    }
    for rule, x in cases.values():
        rule.check_contract()
        assert rule.predict(x).shape == (12, 3)
        before = rule.objective((x, y)).item()
        take_steps(rule, (x, y), 30)
        assert rule.objective((x, y)).item() < before


def test_one_block_without_shortcut_has_the_cost_of_backpropagation(paper):
    """Only the read-outs differ, so FLOPs agree to a few per cent."""
    torch.manual_seed(0)
    bodies = paper.residual_bodies(24, [24], stride=1)
    ours = paper.ScalableForwardForward(paper.with_heads(bodies, [24], 10), adam(1e-3))
    pool = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(24, 10)]
    theirs = Backprop(torch.nn.ModuleList([*bodies, torch.nn.Sequential(*pool)]), adam(1))
    a, b = (measure(rule, probe()).flops for rule in (ours, theirs))
    assert b < a < 1.1 * b
