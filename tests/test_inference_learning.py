"""Inference learning: its identities hold, defects are caught, its audit is as stated."""

import pytest
import torch
from support import GLOBAL, assert_caught, assert_identities_hold

from bpfree_common.data.tasks import load_data
from bpfree_common.learning.networks import mlp
from bpfree_common.learning.optim import adam, sgd
from bpfree_common.learning.training import evaluate, fit
from bpfree_common.measuring.audit import audit
from bpfree_common.measuring.cost import measure

SLUG = "inference_learning"
RECURSION = "converged errors obey backpropagation's recursion"
FORWARD = "IL-prox: the next forward pass is the relaxed one, logits move by e_L"
ONE_LAYER = "IL-prox, one layer: the label's share is nu alpha / (1 + nu alpha)"
LIMITS = "alpha = 0 changes nothing; without end, the target is the label"
NO_INFERENCE = "without inference IL is the output layer's backpropagation, alone"
TRAVEL = "after T steps the layers below L - T have not heard of the error"
ENERGY = "F never rises while the activities relax (equal step sizes, output clamped)"
IMPLICIT = "the implicit step: theta+ - theta = -alpha grad L(theta+)"


def replicas(arm):
    return f"replicas: {arm} equals the plain form, five steps"


MUTATIONS = {
    "IL: activities pushed away from the label": (
        "h[l] - self.top * (h[l] - p[l]) + self.bottom * back",
        "h[l] - self.top * (h[l] - p[l]) - self.bottom * back",
        replicas("IL"),
    ),
    "IL: output error not halved": (
        "d[-1] = 0.5 * d[-1]",
        "d[-1] = 1.0 * d[-1]",
        replicas("IL"),
    ),
    "IL: weights climb": ("d[l + 1] / -len(y)", "d[l + 1] / len(y)", NO_INFERENCE),
    "IL: sum for mean": ("d[l + 1] / -len(y)", "-d[l + 1]", NO_INFERENCE),
    "IL: learned from the old activity": (
        "delta.T @ h[l], delta",
        "delta.T @ p[l], delta",
        replicas("IL"),
    ),
    "IL: one step too many": (
        "for _ in range(self.steps):\n            d = self.deltas",
        "for _ in range(self.steps + 1):\n            d = self.deltas",
        TRAVEL,
    ),
    "IL-prox: no bias in the norm": (
        "f.norm(dim=1).square().mean() + 1 + self.eps",
        "f.norm(dim=1).square().mean() + self.eps",
        FORWARD,
    ),
    "IL-prox: target without its denominator": (
        "(p[-1].softmax(1) + strength * Y) / (1 + strength)",
        "(p[-1].softmax(1) + strength * Y) / (2 + strength)",
        LIMITS,
    ),
    "IL-prox: strength of the wrong norm": (
        "strength = self.norm(f[-1]) * self.alpha",
        "strength = self.alpha",
        ONE_LAYER,
    ),
    "IL-prox: slope forgotten": (
        "(e[l + 1] @ linear.weight) * (h[l] > 0)",
        "(e[l + 1] @ linear.weight) * 1",
        RECURSION,
    ),
    "IL-prox: step not normalised": (
        "e[l + 1] / (-len(y) * self.norm(f[l]))",
        "e[l + 1] / -len(y)",
        FORWARD,
    ),
    "IL-prox: activities sent up without ReLU": (
        "f[1:] = [h_l.relu() for h_l in h[1:-1]]",
        "f[1:] = [h_l for h_l in h[1:-1]]",
        replicas("IL-prox"),
    ),
    "IL-prox: hidden errors of the wrong sign": (
        "h[l] - self.top * e[l] + self.bottom * back",
        "h[l] - self.top * e[l] - self.bottom * back",
        ENERGY,
    ),
    "fast IL: output error not halved": (
        "d = deltas(0.5)",
        "d = deltas(1.0)",
        replicas("IL"),
    ),
    "fast IL-prox: slope forgotten": (
        "torch.bmm(e[l + 1], net.W[l + 1].mT) * (h[l] > 0)",
        "torch.bmm(e[l + 1], net.W[l + 1].mT) * 1",
        replicas("IL-prox"),
    ),
    "fast backprop: slope forgotten": ("* (z[l - 1] > 0)", "* 1", replicas("backprop")),
    "fast backprop: biases climb": ("b += d_l", "b -= d_l", replicas("backprop")),
    "clipping by the square": (
        "clip / square.sqrt()",
        "clip / square",
        replicas("backprop with clipped steps"),
    ),
    "truncation at twice the loss": (
        "loss / square)",
        "2 * loss / square)",
        replicas("backprop with truncated steps"),
    ),
    "BP-prox multiplied by its norms": (
        "[d_l / n for d_l, n in zip(d, nu",
        "[d_l * n for d_l, n in zip(d, nu",
        replicas("BP-prox"),
    ),
    "the authors' BP-prox with the bias": (
        "n if bias else n - 1",
        "n if bias else n",
        replicas("the authors' BP-prox"),
    ),
    "implicit step: errors of the first layer unweighted": (
        "/ nu[..., 0] / 2",
        "/ 2",
        IMPLICIT,
    ),
}


def test_identities_of_inference_learning_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_inference_learning_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


# --- the audit -------------------------------------------------------------------------

STRIDES = {"bottom": 0.2, "top": 0.2}


def audited(rule, optimizer, **options):
    torch.manual_seed(0)
    batch = torch.rand(6, 80), torch.arange(6) % 3
    return audit(
        lambda n: rule(mlp([80] * n + [3]), optimizer, **STRIDES, **options),
        batch,
        depths=(2, 4),
    )


def test_relaxed_as_deep_as_it_is_il_needs_what_backpropagation_needs(paper):
    found = audited(paper.InferenceLearning, sgd(0.1), steps=4)
    found.expect(**GLOBAL, live_memory="linear", forward=4.0)
    found = audited(paper.ILProx, sgd(1.0), alpha=1.0, steps=4)
    found.expect(**GLOBAL, live_memory="linear", forward=4.0)


def test_one_step_of_inference_crosses_one_boundary(paper):
    found = audited(paper.InferenceLearning, sgd(0.1), steps=1)
    found.expect(crossings=1, locking="part", weight_transport="part")


@pytest.mark.parametrize("steps", [0, 5, 25])
def test_every_layer_but_the_first_runs_once_more_for_each_step(paper, steps):
    batch = torch.rand(6, 16), torch.arange(6) % 3
    rule = paper.InferenceLearning(mlp([16, 12, 12, 12, 3]), sgd(0.1), steps=steps)
    assert measure(rule, batch).forward == pytest.approx(1 + steps * 3 / 4)


# --- training --------------------------------------------------------------------------


def test_a_huge_rate_does_not_break_il_prox(paper):
    task = load_data("digits").flat().take(300)
    reached = {}
    for alpha in (1.0, 1e6):
        torch.manual_seed(0)
        rule = paper.ILProx(mlp([64, 24, 24, 10]), sgd(1.0), alpha=alpha)
        reached[alpha] = evaluate(fit(rule, task, 2, 1), task.x_test, task.y_test)
    assert min(reached.values()) > 0.5
    assert all(p.isfinite().all() for p in rule.parameters())


def test_the_championships_rule_learns_with_adam(paper):
    task = load_data("digits").flat()
    torch.manual_seed(0)
    rule = fit(paper.build_dense([64, 32, 32, 10], adam(3e-3)), task, 5, 50)
    assert evaluate(rule, task.x_test, task.y_test) > 0.7
