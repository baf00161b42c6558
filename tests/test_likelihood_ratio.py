"""The likelihood ratio: identities hold, defects are caught, the audit row is a fact."""

import pytest
import torch
from support import assert_caught, assert_identities_hold, small_batch, small_sizes

from bpfree_common.learning import opponents, sgd, textbook
from bpfree_common.measuring.audit import audit
from bpfree_common.measuring.cost import measure

SLUG = "likelihood_ratio"
QUADRATIC = "a quadratic loss: the mean over all noise is the gradient"
AGREE = "one noisy layer: layer-wise and all at once agree"
CONSTANT = "pairs and baseline: a constant in the loss changes nothing"
DRAWS = "every draw: mean 0, E[noise score] = 1, uncorrelated, fresh"
WEIGHTS = "weight noise: the mean over all noise is the gradient"
STEP = "a step neuron: the credit is the slope of Phi(v / sigma)"

MUTATIONS = {
    "a step uphill": ("loss[..., None] * score", "-loss[..., None] * score", QUADRATIC),
    "the scale of the noise is lost": ("score / self.sigma", "score", STEP),
    "a mean over copies only": (
        "delta.T @ h / loss.numel()",
        "delta.T @ h / len(loss)",
        QUADRATIC,
    ),
    "the bias gets the first copy": (
        "delta.sum(0) / loss.numel()",
        "delta[: len(delta) // 2].sum(0) / loss.numel()",
        QUADRATIC,
    ),
    "the noise goes on to the next layer": (
        "            h = phi(v)\n",
        "            h = phi(v + self.sigma * noise[0])\n",
        AGREE,
    ),
    "one layer above is skipped": (
        "self.units[l + 1 :]",
        "self.units[l + 2 :]",
        QUADRATIC,
    ),
    "pairs without a sign": (
        "torch.cat([noise, -noise])",
        "torch.cat([noise, noise])",
        DRAWS,
    ),
    "pairs whose score keeps its sign": (
        "torch.cat([score, -score])",
        "torch.cat([score, score])",
        CONSTANT,
    ),
    "the baseline is of another image": (
        "self.loss(self.predict(x), y) if",
        "self.loss(self.predict(x), y).roll(1, 1) if",
        AGREE,
    ),
    "QMC without a shift": ("points + shift", "points + 0 * shift", DRAWS),
    "QMC shrinks": ("(points + shift) % 1", "(points + shift) % 1 * 0.9", DRAWS),
    "QMC points are random": (
        "sobol.draw(K, dtype=like.dtype).to(like.device)[:, None]",
        "torch.rand(K, 1, n, dtype=like.dtype)",
        "QMC: in every dimension the points of a sample leave no gap above 2 / K",
    ),
    "Laplace noise with twice its score": (
        ".exponential_() * sign, sign",
        ".exponential_() * sign, 2 * sign",
        DRAWS,
    ),
    "weights forget their scale": ("score / scale))", "score))", WEIGHTS),
    "ties and errors change places": (
        "view(-1, len(y)) != y",
        "view(-1, len(y)) == y",
        "the 0-1 loss counts errors",
    ),
}


def test_identities_of_the_likelihood_ratio_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_the_likelihood_ratio_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


def test_every_unit_waits_for_the_loss_and_nothing_comes_back(paper):
    # few copies and samples, so that there are ways for weights to move unseen
    def build(units):
        sizes = [40] + [32] * (units - 1) + [3]
        pairs = paper.antithetic(paper.gaussian)
        return paper.LayerWise(textbook(sizes), sgd(0.1), 2, draw=pairs)

    torch.manual_seed(0)
    found = audit(build, (torch.randn(3, 40), torch.arange(3)))
    found.expect(crossings=0, locking="full", weight_transport="none", live_memory="flat")
    assert all(value > 0 for row in found.dependence for value in row)


@pytest.mark.parametrize("copies", [2, 10])
def test_copies_run_through_the_layers_above_the_noise_only(paper, copies):
    # unit m (from 0) sees the batch once and `copies` of it for each of m units below
    rule = paper.LayerWise(textbook(small_sizes(3)), sgd(0.1), copies)
    counted = measure(rule, small_batch())
    assert counted.evaluations == 1
    assert counted.forward == 1 + copies * 3 / 2


def test_all_at_once_is_one_pass_of_all_copies_whose_first_product_is_shared(paper):
    rule = paper.LikelihoodRatio(textbook(small_sizes(3)), sgd(0.1), 10)
    counted = measure(rule, small_batch())
    assert counted.forward == (1 + 3 * 10) / 4


def test_a_step_network_gets_credit_where_backpropagation_gives_none(paper):
    units = textbook(small_sizes(1))
    units[0][1] = paper.Step()
    batch = small_batch()
    rule = paper.LayerWise(units, sgd(0.1), draw=paper.antithetic(paper.gaussian))
    rule.credit(batch)
    assert float(units[0][0].weight.grad.abs().max()) > 0
    rule.zero_grad(set_to_none=True)
    opponents.Backprop(units, sgd(0.1)).credit(batch)
    assert units[0][0].weight.grad is None


def test_the_contest_gets_pairs_on_the_textbook_network(paper):
    rule = paper.build_dense([8, 5, 3], sgd(0.1))
    assert isinstance(rule, paper.LayerWise)
    noise, _ = rule.draw(4, torch.zeros(1, 2, 5))
    assert torch.equal(noise[:2], -noise[2:])
    assert rule.predict(torch.randn(2, 8)).shape == (2, 3)
