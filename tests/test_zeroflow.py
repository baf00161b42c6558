"""ZeroFlow: identities hold, defects are caught, steps make the passes they should."""

import pytest
import torch
from support import assert_caught, assert_identities_hold
from torch import nn

from bpfree_common.learning import mlp, opponents, sgd
from bpfree_common.measuring.audit import audit
from bpfree_common.measuring.cost import measure

SLUG = "zeroflow"
SLOPE = "on a quadratic, p is the slope along z, whatever epsilon"
SAME = "the fast form takes the steps of the plain rules"
HISTORY = "averaged directions keep 1 - alpha of the signal"
METRICS = "Avg, Last, Fgt and Learned of three tasks, by hand"

MUTATIONS = {
    "half the distance": (
        "(plus - minus) / (2 * epsilon)",
        "(plus - minus) / epsilon",
        SLOPE,
    ),
    "one-sided": ("parameters, key, -2 * epsilon)", "parameters, key, -epsilon)", SLOPE),
    "the weights stay moved": (
        "# L(theta - eps z)\n    add_direction(parameters, key, epsilon)",
        "# L(theta - eps z)\n    add_direction(parameters, key, -epsilon)",
        "the weights are put back",
    ),
    "every tensor starts the direction anew": (
        "p.add_(gaussian_like(p, source), alpha=scale)",
        "p.add_(gaussian_like(p, generator(*key)), alpha=scale)",
        "one key is one direction, and its tensors are independent",
    ),
    "a sum over queries": ("p / self.queries)", "p)", SAME),
    "every query has one direction": ("(seed, 0, i), p /", "(seed, 0, 0), p /", SAME),
    "the sign is lost": ("p = (p > 0) - (p < 0)", "p = (p > 0) + (p < 0)", SAME),
    "Conserve takes the worst": ("min(found, key", "max(found, key", SAME),
    "Conserve may not stay": (
        "[theta, theta - rate * g, theta + rate * g]",
        "[theta - rate * g, theta - rate * g, theta + rate * g]",
        "Conserve never raises the batch loss",
    ),
    "the scalar sign keeps the size": (
        "p = p.sign()",
        "p = p.sign() * p.abs()",
        "the scalar sign sees of the loss only which side is lower",
    ),
    "directions hardly age": (
        'memory.get("z", z).lerp(z, 1 - arm.alpha)',
        'memory.get("z", z).lerp(z, arm.alpha)',
        HISTORY,
    ),
    "history multiplies estimates by directions": (
        'memory.get("g", g).lerp(g, 1 - arm.alpha)',
        "(1 - arm.alpha) * g",
        HISTORY,
    ),
    "a tangent that is the loss": (
        "unpack_dual(loss(dual)).tangent",
        "unpack_dual(loss(dual)).primal",
        "Forward-Grad and ZO-SGD are one on a quadratic",
    ),
    "an adapter that starts anywhere": (
        "add_direction([self.parts(theta)[0]],",
        "add_direction(self.parts(theta),",
        "a fresh adapter leaves the features as they are",
    ),
    "old tasks get the newest read-out": (
        "self.means[task]], -1)",
        "self.means[-1]], -1)",
        "with the adapter frozen, Fgt is zero",
    ),
    "forgetting counts from the first accuracy": (
        "a[..., k:, k].amax(-1)",
        "a[..., k, k]",
        METRICS,
    ),
    "the last task can be forgotten": (
        "for k in range(T - 1)",
        "for k in range(T)",
        METRICS,
    ),
    "similarities are no weights": (
        ".softmax(-1) @ there",
        " @ there",
        "EASE: a class that is certainly like one new class",
    ),
    "the fast form draws one query again": (
        "add_direction(adapter.parts(z[s, i]), (seed, step, i), 1.0)",
        "add_direction(adapter.parts(z[s, i]), (seed, step, 0), 1.0)",
        "the fast form draws the directions of its keys",
    ),
}


def test_identities_of_zeroflow_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_zeroflow_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


class Adapted(nn.Module):
    """A frozen dense layer, ReLU, and an adapter."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.frozen = nn.Linear(inputs, outputs).requires_grad_(False)
        self.down, self.up = nn.Linear(outputs, 4), nn.Linear(4, outputs)

    def forward(self, x):
        h = self.frozen(x).relu()
        return h + self.up(self.down(h).relu())


def network(units):
    layers = [Adapted(40 if n == 0 else 32, 32) for n in range(units - 1)]
    return nn.ModuleList([*layers, nn.Linear(32, 3)])


def batch():
    torch.manual_seed(0)
    return torch.randn(6, 40), torch.arange(6) % 3


@pytest.mark.parametrize("kind, queries, passes", [("ZeroFlow", 1, 2), ("ZeroFlow", 4, 8),
                                                   ("Conserve", 1, 5)])  # fmt: skip
def test_a_step_makes_the_forward_passes_of_its_losses(paper, kind, queries, passes):
    rule = getattr(paper, kind)(network(4), sgd(0.1), queries=queries)
    counted = measure(rule, batch())
    assert counted.forward == counted.evaluations == passes


def test_all_adapters_wait_for_one_number_and_nothing_comes_back(paper):
    found = audit(lambda units: paper.ZeroFlow(network(units), sgd(0.05)), batch(),
                  depths=(2, 4, 8))  # fmt: skip
    found.expect(crossings=0, locking="full", weight_transport="none", live_memory="flat")


def test_frozen_weights_get_no_credit_and_no_step(paper):
    rule = paper.ZeroFlow(network(3), sgd(0.1))
    before = [p.clone() for p in rule.parameters()]
    optimizer = rule.configure_optimizers()
    rule.credit(batch())
    optimizer.step()
    for p, old in zip(rule.parameters(), before, strict=True):
        assert p.requires_grad == (p.grad is not None)
        assert torch.equal(p, old) != p.requires_grad


def test_no_graph_is_kept(paper):
    rule, plain = paper.ZeroFlow(network(9), sgd(0.1)), opponents.Backprop
    assert (
        3 * measure(rule, batch()).live_bytes
        < measure(plain(network(9), sgd(0.1)), batch()).live_bytes
    )


def test_others_get_the_two_point_estimate(paper):
    theta = list(mlp([4, 3, 2]).parameters())
    before = [p.detach().clone() for p in theta]
    paper.add_direction(theta, (1, 2, 3), 0.5)
    paper.add_direction(theta, (1, 2, 3), -0.5)
    assert all(
        torch.allclose(p, old, atol=1e-6) for p, old in zip(theta, before, strict=True)
    )
    p = paper.two_point(lambda: theta[0].sum(), theta, (1, 2, 3), 1e-2)
    z = [torch.zeros_like(t) for t in before]
    paper.add_direction(z, (1, 2, 3), 1.0)
    assert isinstance(p, float)
    assert p == pytest.approx(float(z[0].sum()), abs=1e-3)


def test_the_metrics_of_a_learner_that_keeps_everything_are_its_accuracy(paper):
    a = torch.tril(torch.full((2, 4, 4), 0.75)).masked_fill(
        torch.ones(4, 4).triu(1).bool(), torch.nan
    )
    found = paper.continual(a)
    assert {name: v.tolist() for name, v in found.items()} == {
        "Avg": [0.75, 0.75], "Last": [0.75, 0.75], "Fgt": [0, 0], "Learned": [0.75, 0.75],
    }  # fmt: skip
