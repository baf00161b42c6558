"""PFA: identities hold, defects are caught, the audit finds no weight transport."""

import pytest
import torch
from support import (
    assert_caught,
    assert_identities_hold,
    mutant,
    small_batch,
    small_sizes,
)

from bpfree_common.data import load_data
from bpfree_common.learning import fit, mlp, sgd
from bpfree_common.learning.opponents import Backprop
from bpfree_common.measuring.audit import audit
from bpfree_common.measuring.cost import measure

SLUG = "product_feedback_alignment"
CLOSED = "the credits of PFA equal their closed form"
ORDER = "the circuit's order of products equals the computer's"
FAST = "the fast form gives the same credits as the plain one"
GRADIENT = "with W itself on the way back, credit is the gradient"
IDENTITY = "E[B B^T] = I"

MUTATIONS = {
    "sign of the path": ("delta = (delta_R @ layer.R)", "delta = -(delta_R @ layer.R)",
                         CLOSED),
    "no derivative": ("@ layer.R) * slope(below, self.units[l - 2][1])", "@ layer.R)",
                      CLOSED),
    "wrong derivative of tanh": ("return 1 - h**2", "return 1 - h", CLOSED),
    "wrong derivative of ReLU": ("else h > 0", "else h > -1", FAST),
    "sum for mean": (".shape[1])) / len(y)", ".shape[1]))", CLOSED),
    "dR from half the error": ("delta_R.T @ below  #", "0.5 * delta_R.T @ below  #",
                               CLOSED),
    "bias averaged": ("delta.T @ below, delta.sum(0)", "delta.T @ below, delta.mean(0)",
                      CLOSED),
    "fast: sign of the path": ("down, dW = delta @ P,", "down, dW = -delta @ P,",
                               GRADIENT),
    "fast: bias averaged": ("db = delta.sum(", "db = delta.mean(", GRADIENT),
    "fast: sign of dR": ("return delta_R @ R, delta.T @ x, delta_R.T",
                         "return delta_R @ R, delta.T @ x, -delta_R.T", ORDER),
    "fast: R does not learn": ("dR = (factors[0].T @ dW.flatten(1))",
                               "dR = 0 * (factors[0].T @ dW.flatten(1))", FAST),
    "fast: path too strong": ("return layer.B, layer.R\n",
                              "return layer.B, layer.R * 2\n", FAST),
    "kernel flipped": ("conv(delta, x, P,", "conv(delta, x, P.flip(-1),", GRADIENT),
    "B too large": ("(3 / (n_m * density))", "(6 / (n_m * density))", IDENTITY),
    "sparse B too small": ("(n_m * density)) ** 0.5", "(n_m * 1.0)) ** 0.5", IDENTITY),
    "wrong B for PFA-o": ("return nn.init.orthogonal_(torch.empty(n_o, n_o))",
                          "return torch.randn(n_o, n_o) / n_o**0.5",
                          "R = B^T W with orthogonal B: PFA is backpropagation"),
    "B is not I": ("return torch.eye(n_o)", "return 2 * torch.eye(n_o)",
                   "B = I and R = W at the start"),
    "masks forgotten": ("layer.R.grad *= layer.mask", "layer.R.grad *= 1",
                        "absent feedback synapses stay absent"),
    "sparse FA too weak": ("< density) / density**0.5", "< density) / 1",
                           "half of a fixed feedback's synapses"),
}  # fmt: skip


def test_identities_of_pfa_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_pfa_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


def units(n):
    return mlp(small_sizes(n - 1), "tanh", "xavier")


@pytest.mark.parametrize("kind", ["random", "orthogonal", "identity"])
def test_pfa_removes_weight_transport_and_nothing_else(paper, kind):
    audit(
        lambda n: paper.ProductFeedback(units(n), sgd(0.1), 2, kind), small_batch()
    ).expect(
        crossings=0,
        weight_transport="none",
        locking="full",
        live_memory="linear",
        forward=1.0,
    )


def test_the_plain_rule_is_audited_like_the_fast_one(paper):
    rows = [
        audit(lambda n, rule=rule: rule(units(n), sgd(0.1), 2), small_batch()).row()
        for rule in (paper.PlainPFA, paper.ProductFeedback)
    ]
    assert rows[0] == rows[1]


def test_even_a_path_equal_to_the_forward_weights_is_no_transport(paper):
    def aligned(n):
        rule = paper.ProductFeedback(units(n), sgd(0.1), kind="identity")
        for layer in rule.layers:
            layer.R.data = layer.weight.detach().clone()
        return rule

    assert audit(aligned, small_batch()).weight_transport == "none"


def test_a_path_that_reads_the_forward_weights_is_caught():
    line = ("return layer.B, layer.R\n", "return layer.B, layer.B.T @ layer.weight\n")
    cheat = mutant(SLUG, *line)
    found = audit(lambda n: cheat.ProductFeedback(units(n), sgd(0.1)), small_batch())
    assert found.weight_transport == "full"


def test_fa_transports_nothing_and_w_itself_everything(paper):
    for kind, transport in (("FA", "none"), ("BP", "full")):
        found = audit(
            lambda n, k=kind: paper.FixedFeedback(units(n), sgd(0.1), k), small_batch()
        )
        assert found.weight_transport == transport


def test_the_wide_population_is_held_for_one_layer_at_a_time(paper):
    def extra(n):
        ours = measure(paper.ProductFeedback(units(n), sgd(0.1)), small_batch())
        theirs = measure(Backprop(units(n), sgd(0.1)), small_batch())
        return ours.live_bytes - theirs.live_bytes

    assert extra(3) == extra(12)


@pytest.mark.parametrize("rule", ["PlainPFA", "ProductFeedback"])
def test_the_strong_phase_removes_the_mismatch_as_much_as_it_says(paper, rule):
    torch.manual_seed(0)
    task = load_data("digits").flat()
    sizes = [64, 16, 16, 10]
    units = mlp(sizes, "tanh", "xavier")
    rule = getattr(paper, rule)(units, sgd(0.05, 0.5, 0.0), 3, folds=2.0, strong=0.5)

    def mismatch():
        return [x.R.detach() - x.B.T @ x.weight.detach() for x, _ in units[1:]]

    before = mismatch()
    fit(rule, task, epochs=6, batch_size=16, cool=True)
    for D, D0 in zip(mismatch(), before, strict=True):
        shrunk = D.norm() / D0.norm()
        assert 0.12 < shrunk < 0.15  # exp(-2) = 0.135, steps and momentum blur it
        assert torch.allclose(D, shrunk * D0, atol=1e-4)
