"""Mono-Forward: identities hold, defects are caught, the audit sees what it must."""

import copy

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
from torch import nn

from bpfree_common.learning import adam, cnn, mlp, opponents
from bpfree_common.learning.alignment import compute_credit
from bpfree_common.measuring.audit import audit

SLUG = "mono_forward"
CLOSED_FORM = "the closed form equals automatic differentiation"

# one layer's turn with automatic differentiation, and the same without the cut
TURN = """a = unit(a.detach())  # nothing flows back from here
            loss = F.cross_entropy(unit.goodness(a), y)
            loss.backward()"""
LEAKY_TURN = """a = unit(a)
            loss = F.cross_entropy(unit.goodness(a), y)
            loss.backward(retain_graph=True)"""

MUTATIONS = {
    "uphill": (
        ".sub_(Y).div_(len(Y))",
        ".sub_(Y).div_(-len(Y))",
        CLOSED_FORM,
    ),
    "sum for mean": (".div_(len(Y))", "", CLOSED_FORM),
    "goodness for probabilities": ("torch.softmax(G, 1)", "G.clone()", CLOSED_FORM),
    "missing slope": (".mul_(a > 0)", "", CLOSED_FORM),
    "bias averaged": ("delta.sum(0)", "delta.mean(0)", CLOSED_FORM),
    "projection ascends": ("E.T @ a", "E.T @ -a", CLOSED_FORM),
    "feedback by signs": ("(E @ M)", "(E @ M.sign())", CLOSED_FORM),
    "missing detach": (TURN, LEAKY_TURN, CLOSED_FORM),
    "only the last loss": (
        "sum(losses).backward()",
        "losses[-1].backward()",
        "deep supervision: M and the last layer learn as in MF",
    ),
    "layers learn too long": (
        "// self.steps,",
        "// (2 * self.steps),",
        "greedy: only one layer learns",
    ),
    "projections not fixed": (
        "requires_grad_(learned)",
        "requires_grad_(True)",
        "fixed projections get no credit",
    ),
    "mean read-out": (
        "self.goodness(x).sum(0)",
        "self.goodness(x).mean(0)",
        "prediction:",
    ),
}


def test_identities_of_mono_forward_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_mono_forward_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


def probe():
    """Wide enough that every projection has inputs it has never seen."""
    torch.manual_seed(0)
    return torch.randn(6, 32), torch.arange(6) % 3


def probe_audit(paper, rule):
    def build(units):
        layers = paper.dense_layers([32] * (units + 1) + [3])
        return getattr(paper, rule)(layers, adam(1e-3))

    return audit(build, probe())


def test_layer_1_of_a_deep_network_is_a_network_with_one_hidden_layer(paper):
    torch.manual_seed(0)
    deep = paper.MonoForward(paper.dense_layers([12, 8, 7, 6, 4]), adam(1e-2)).double()
    body, M = copy.deepcopy((deep.units[0].body, deep.units[0].M))
    shallow = opponents.Backprop(nn.ModuleList([body, M]), adam(1e-2))
    batch = (torch.randn(9, 12).double(), torch.arange(9) % 4)
    for rule in (deep, shallow):
        take_steps(rule, batch, 30)
    ours = deep.units[0].goodness(deep.units[0](batch[0]))
    torch.testing.assert_close(ours, shallow.predict(batch[0]), rtol=0, atol=1e-10)


def test_layers_need_nothing_from_above_and_hold_nothing_for_later(paper):
    probe_audit(paper, "MonoForward").expect(
        **LOCAL, live_memory="flat", forward=1, evaluations=1
    )


def test_inside_a_layer_the_projection_carries_the_error_backward(paper):
    found = probe_audit(paper, "MonoForward")
    assert all(found.transport[l][l] > 0 for l in range(4))

    def backprop(units):
        return opponents.Backprop(mlp([32] * units + [3]), adam(1e-3))

    theirs = audit(backprop, probe())
    assert all(theirs.transport[l][l] == 0 for l in range(4))


def test_local_graphs_save_one_layer_at_any_depth(paper):
    probe_audit(paper, "LocalGraphs").expect(
        **LOCAL, live_memory="flat", forward=1, evaluations=1
    )


def test_deep_supervision_is_as_global_as_backprop(paper):
    probe_audit(paper, "DeepSupervision").expect(**GLOBAL, live_memory="linear")


def test_a_forgotten_detach_is_caught_by_the_audit():
    found = probe_audit(mutant(SLUG, TURN, LEAKY_TURN), "LocalGraphs")
    assert found.crossings == 3
    assert found.locking == "full"
    assert found.live_memory == "linear"


def test_convolutional_blocks_have_the_weights_of_the_baseline(paper):
    torch.manual_seed(0)
    rule = paper.build_conv((3, 16, 16), [4, 8, 8], 10, adam(1e-3))
    rule.check_contract()
    theirs = cnn((3, 16, 16), [4, 8, 8], 10)
    for ours, conv in zip(rule.units, theirs, strict=False):
        assert ours.body[0].weight.shape == conv[0].weight.shape
    assert rule.units[-1].M.weight.shape == theirs[-1][1].weight.shape
    assert rule.predict(torch.randn(2, 3, 16, 16)).shape == (2, 10)


def test_greedy_training_leaves_the_frozen_layers_alone(paper):
    torch.manual_seed(0)
    rule = paper.GreedyMonoForward(paper.dense_layers([12, 8, 8, 4]), adam(1e-2), steps=3)
    batch = (torch.randn(6, 12), torch.arange(6) % 4)
    optimizer = rule.configure_optimizers()
    moved = []
    for _ in range(6):
        before = [compute_vector(unit) for unit in rule.units]
        optimizer.zero_grad(set_to_none=True)
        rule.credit(batch)
        optimizer.step()
        after = [compute_vector(unit) for unit in rule.units]
        moved.append([not torch.equal(a, b) for a, b in zip(before, after, strict=True)])
    assert moved == [[True, False]] * 3 + [[False, True]] * 3


def compute_vector(unit):
    return torch.cat([p.detach().clone().flatten() for p in unit.parameters()])


def test_the_audit_may_ask_a_greedy_rule_twice(paper):
    torch.manual_seed(0)
    rule = paper.GreedyMonoForward(paper.dense_layers([12, 8, 8, 4]), adam(1e-2), steps=1)
    batch = (torch.randn(6, 12), torch.arange(6) % 4)
    first, again = compute_credit(rule, batch), compute_credit(rule, batch)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert rule.done == 0
