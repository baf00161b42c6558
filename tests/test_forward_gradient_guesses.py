"""Local guesses: identities hold, defects are caught, the audit row is a fact."""

import pytest
import torch
from support import assert_caught, assert_identities_hold, small_batch, small_sizes

from bpfree_common.learning import opponents, sgd, textbook
from bpfree_common.measuring.audit import audit
from bpfree_common.measuring.cost import measure

SLUG = "forward_gradient_guesses"
LINE = "<G^, G> = cos^2 |G|^2, |G^| = |cos| |G|, whatever the guess's length"
SLOPE = "s is autograd's <G, G~> of every image"
EXACT = "a guess that is the target is backpropagation"
LOCAL = "local target, local guess: local learning; so is the guess alone"
BLOCK = "a block learns G^T x_{j-1}, its head from its own loss alone"
DRAWN = "random heads: ntk draws one at every step, fixed-ntk keeps its own"
PARTS = "one bit: never uphill; signed: the guess's length; swapped: another's number"
ACTIVATIONS = "activations: the fast form writes the plain one's credit"
WEIGHTS = "weights: so does it, for every guess that knows something"
NUMBERS = "random weights: the numbers are <G, V> of weights and of bias"
ONE = "random weights: one image's credit is s V, with V h as pushed"
LENGTH = "random weights: V h is as long as its input makes it"
LAW = "random weights: their sum over images has its exact law, given V h"

MUTATIONS = {
    "divided by the length, not its square": (
        "v.flatten(1).square().sum(1) + eps",
        "v.flatten(1).norm(dim=1) + eps",
        LINE,
    ),
    "a slope of the sum, not the mean": (
        "make_dual(x, v), y)).tangent / len(y)",
        "make_dual(x, v), y)).tangent",
        SLOPE,
    ),
    "one block too few is run above": (
        "self.units[j + 1 :]",
        "self.units[j + 2 :]",
        SLOPE,
    ),
    "the last layer waits": (
        "loss = F.cross_entropy(self.units[-1](x.detach()), y)\n",
        "loss = 2 * F.cross_entropy(self.units[-1](x.detach()), y)\n",
        EXACT,
    ),
    "the local target is another head's": (
        "[self.units[j].head]",
        "[self.units[j].body, self.units[j].head]",
        LOCAL,
    ),
    "the head learns twice as fast": (
        "F.cross_entropy(self.head(x), y).backward()",
        "(2 * F.cross_entropy(self.head(x), y)).backward()",
        BLOCK,
    ),
    "ntk keeps its head": (
        'if kind == "ntk" else self.drawn',
        'if kind == "none" else self.drawn',
        DRAWN,
    ),
    "one bit keeps the uphill ones": (
        "(s > 0).to(v.dtype)",
        "(s < 0).to(v.dtype)",
        PARTS,
    ),
    "swapped with itself": ("coefficient(s, v).roll(1)", "coefficient(s, v)", PARTS),
    "tangents pass through units that are off": (
        "T = T @ layer.weight.T * on if len(T) else T",
        "T = T @ layer.weight.T if len(T) else T",
        ACTIVATIONS,
    ),
    "weights forget which units are off": (
        "return (v * on)[None]",
        "return v[None]",
        WEIGHTS,
    ),
    "the bias is paid by the weights' number": (
        "s[1] @ v[1]",
        "s[0] @ v[1]",
        ONE,
    ),
    "a second direction for the same weights": (
        "(s[:, None] * u / length).T @ e",
        "(s[:, None] * u).T @ e",
        ONE,
    ),
    "the weights' guess forgets its input": (
        "[v * h.norm(dim=1, keepdim=True), torch",
        "[v, torch",
        LENGTH,
    ),
    "images share one direction": (
        "along = Z @ r.T + z @",
        "along = Z @ r.T + 0 * z @",
        LAW,
    ),
}


def test_identities_of_local_guesses_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_local_guesses_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


@pytest.mark.parametrize(("form", "memory"), [("plain", "flat"), ("fast", "linear")])
def test_every_block_waits_for_the_loss_and_nothing_comes_back(paper, form, memory):
    kind = paper.GuessedGradient if form == "plain" else paper.DenseGuesses

    def build(units):
        return paper.on_dense([40] + [32] * (units - 1) + [3], sgd(0.1), kind)

    torch.manual_seed(0)
    found = audit(build, (torch.randn(6, 40), torch.arange(6) % 3), depths=(4, 8))
    found.expect(crossings=0, locking="full", weight_transport="none", live_memory=memory)
    assert all(value > 0 for row in found.dependence[:-1] for value in row)


def test_the_guess_alone_waits_for_nobody(paper):
    def build(units):
        sizes = [40] + [32] * (units - 1) + [3]
        return paper.on_dense(sizes, sgd(0.1), target="local")

    torch.manual_seed(0)
    found = audit(build, (torch.randn(6, 40), torch.arange(6) % 3), depths=(4, 8))
    found.expect(crossings=0, locking="none", weight_transport="none")


def test_the_plain_form_runs_later_blocks_anew_for_every_guess(paper):
    # with three hidden blocks and a last layer: block m (from 0) is run once, and for
    # each of the m guesses below it as value and as tangent
    rule = paper.on_dense(small_sizes(3), sgd(0.1), paper.GuessedGradient)
    assert measure(rule, small_batch()).forward == (1 + 3 + 5 + 7) / 4


def test_the_fast_form_runs_values_once_and_a_tangent_for_every_guess(paper):
    rule = paper.on_dense(small_sizes(3), sgd(0.1))
    assert measure(rule, small_batch()).forward == (1 + 2 + 3 + 4) / 4


def test_a_random_guess_points_uphill_as_often_as_down(paper):
    rule = paper.on_dense(small_sizes(2), sgd(0.1), paper.GuessedGradient, guess="random")
    x, y = torch.randn(4000, 16), torch.randint(3, (4000,))
    h = rule.units[0](x).detach()
    s = rule.slopes(0, h, y, rule.guessed(rule.units[0], h, y))
    assert abs(float((s > 0).float().mean()) - 0.5) < 0.05


def test_the_contest_gets_the_paper_s_main_cell_on_the_textbook_network(paper):
    torch.manual_seed(0)
    rule = paper.build_dense([8, 5, 3], sgd(0.1))
    assert (rule.target, rule.guess, rule.space) == ("global", "local", "activation")
    torch.manual_seed(0)
    plain = opponents.Backprop(textbook([8, 5, 3]), sgd(0.1))
    x = torch.randn(2, 8)
    assert torch.equal(rule.predict(x), plain.predict(x))
