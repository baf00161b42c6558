"""FOTON: identities hold, defects are caught, the audit sees what it must."""

import pytest
import torch
from support import (
    assert_caught,
    assert_identities_hold,
    image_batch,
    image_sizes,
    take_steps,
)
from torch import nn

from bpfree_common.learning import sgd
from bpfree_common.learning.alignment import alignment, compute_credit
from bpfree_common.measuring.audit import audit
from bpfree_common.measuring.cost import measure
from bpfree_common.papers.loader import load_rule

SLUG = "foton"
EXACT = "linear and orthogonal: the credit is the gradient"
FORMULA = "tanh: every credit equals its formula"
BJORCK = "Bjorck finds the polar factor"
PROJECTED = "after a step of the optimiser the weights are orthogonal"
FAST = "the fast form takes the same steps as the plain one"
TRANSPOSE = "convolution: `transposed` is the transpose"

MUTATIONS = {
    "sign of the modulation": ("below = x - e @ P", "below = x + e @ P", EXACT),
    "difference reversed": ("(h[l + 1] - above).T", "(above - h[l + 1]).T", EXACT),
    "sum for mean": (".T @ source / B", ".T @ source", EXACT),
    "modulated term": ("h[l] if self.clean else below\n", "below\n", EXACT),
    "clean term in spite of PEPITA": (
        "source = h[l] if self.clean else below",
        "source = h[l]",
        "the modulated presynaptic term breaks the equality",
    ),
    "P without the read-out": (
        "P = self.units[-1].linear.weight\n",
        "P = 2 * self.units[-1].linear.weight\n",
        EXACT,
    ),
    "no temperature in the error": (
        "torch.softmax(self.T * scores, 1) - F",
        "torch.softmax(scores, 1) - F",
        EXACT,
    ),
    "read-out reads the second pass": (
        "e.T @ (h[-1] if self.clean else below)",
        "e.T @ (below)",
        EXACT,
    ),
    "second pass linear": (
        "above = unit(below)\n",
        "above = unit.linear(below)\n",
        FORMULA,
    ),
    "feedback of the start ignored": (
        "P = self.product() if self.feedback is None else self.feedback\n"
        "        # x~ = x - e P",
        "P = self.product()\n        # x~ = x - e P",
        "no feedback, no hidden credit",
    ),
    "Bjorck without the cubic term": (
        "W = 1.5 * W - 0.5 * W @ W.T @ W",
        "W = 1.5 * W",
        "Bjorck leaves",
    ),
    "Bjorck without a bound": ("bound.clamp(min=1)\n", "bound.clamp(max=1)\n", BJORCK),
    "no projection": (
        "optimizer.register_step_post_hook",
        "(lambda hook: hook)",
        PROJECTED,
    ),
    "fast: another sign of the modulation": (
        "e, shown, alpha=-1",
        "e, shown, alpha=1",
        FAST,
    ),
    "fast: sum for mean": ("beta=0, alpha=1 / len(x)", "beta=0, alpha=1", FAST),
    "fast: one iteration fewer": (
        "range(iterations - 1)",
        "range(iterations - 2)",
        "the fast projection is the plain iteration",
    ),
    "fast: probabilities for error": ("] -= 1", "] -= 0", FAST),
    "pooling as a sum": ("scale_factor=2) / 4", "scale_factor=2)", TRANSPOSE),
    "sum for mean in a convolution": (
        "W.shape, delta / len(x)",
        "W.shape, delta",
        "convolution: the credit is the product of delta and input",
    ),
}


def test_identities_of_foton_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_foton_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


def test_with_random_feedback_free_weights_and_the_modulated_term_foton_is_pepita(paper):
    pepita, sizes, batch = load_rule("pepita"), [42, 24, 16, 10], image_batch()
    F = pepita.random_feedback(42, 10)
    theirs = pepita.PEPITA(pepita.dense_units(sizes), sgd(0.1), F, dropout=0).double()
    ours = paper.FOTON(
        paper.dense_units(sizes, "relu"),
        sgd(0.1),
        feedback=F.T.contiguous(),
        clean=False,
        iterations=0,
    ).double()
    weights = [p for unit in theirs.units for p in unit.parameters()]
    for unit, W in zip(ours.units, weights, strict=True):
        unit.linear.weight.data.copy_(W.data)
    batch = (batch[0].double(), batch[1])
    for a, b in zip(
        compute_credit(theirs, batch), compute_credit(ours, batch), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def free(paper, sizes, feedback):
    """FOTON's fast form without projection; feedback: fresh, first or random."""
    units = paper.dense_units(sizes, layer=paper.FastLayer)
    rule = paper.FastFOTON(units, sgd(0.1), T=5.0, iterations=0)
    if feedback == "first":
        rule.feedback = rule.product().detach().clone()
    if feedback == "random":
        rule.feedback = nn.init.orthogonal_(torch.empty(sizes[-1], sizes[0]))
    return rule


@pytest.mark.parametrize(
    ("feedback", "transport", "crossings"),
    [("fresh", "full", 3), ("first", "none", 0), ("random", "none", 0)],
)
def test_only_a_product_of_todays_weights_transports_weights(
    paper, feedback, transport, crossings
):
    found = audit(
        lambda units: free(paper, image_sizes(units - 1), feedback), image_batch()
    )
    found.expect(
        crossings=crossings,
        locking="full",
        weight_transport=transport,
        live_memory="linear",
    )


def test_the_product_costs_as_many_rows_as_there_are_classes(paper):
    sizes, batch = image_sizes(2), image_batch()
    weights = sum(i * o for i, o in zip(sizes, sizes[1:], strict=False))
    fresh = measure(free(paper, sizes, "fresh"), batch).flops
    fixed = measure(free(paper, sizes, "random"), batch).flops
    assert fresh - fixed == 2 * 10 * weights


def test_the_projection_is_counted_with_the_step(paper):
    batch = image_batch()
    one, many = (
        paper.FastFOTON(
            paper.dense_units([42, 32, 32, 10], layer=paper.FastLayer),
            sgd(0.1),
            iterations=count,
        )
        for count in (1, 3)
    )
    # in the square layer alone: two iterations more, two products of 2 * 32^3 each
    assert measure(many, batch).flops > measure(one, batch).flops + 2 * 2 * 2 * 32**3


def test_a_deep_tanh_network_starts_close_to_the_gradient(paper):
    torch.manual_seed(0)
    rule = paper.build_dense(image_sizes(9), sgd(0.1))
    assert min(alignment(rule, image_batch())) > 0.7


def test_weights_stay_orthogonal_while_a_network_learns(paper):
    rule = paper.build_dense([42, 32, 64, 10], sgd(0.5))  # shrinks, grows, shrinks
    take_steps(rule, image_batch(), 5)
    for unit in rule.units:
        values = torch.linalg.svdvals(unit.linear.weight.detach())
        assert (values - 1).abs().max() < 1e-4
