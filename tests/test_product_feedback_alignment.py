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

from bpfree_common import Backprop, mlp, sgd
from bpfree_common.former.audit import audit
from bpfree_common.former.cost import measure

SLUG = "product_feedback_alignment"
CLOSED = "the credits of PFA equal their closed form"
ORDER = "the circuit's order of products equals the computer's"
GRADIENT = "with W itself on the way back, credit is the gradient"
IDENTITY = "E[B B^T] = I"

MUTATIONS = {
    "sign of the path": ("down, dW = delta @ P,", "down, dW = -delta @ P,", GRADIENT),
    "bias averaged": ("db = delta.sum(", "db = delta.mean(", GRADIENT),
    "sign of dR": ("return delta_R @ R, delta.T @ x, delta_R.T",
                   "return delta_R @ R, delta.T @ x, -delta_R.T", ORDER),
    "R does not learn": ("dR = (factors[0].T @ dW.flatten(1))",
                         "dR = 0 * (factors[0].T @ dW.flatten(1))", CLOSED),
    "dR from half the error": ("dR = (factors[0].T", "dR = 0.5 * (factors[0].T", CLOSED),
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
    "path too strong": ("return layer.B, layer.R", "return layer.B, layer.R * 2",
                                  CLOSED),
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
        weight_transport="none",
        locking="full",
        crossings=3,
        memory="linear",
        live_memory="linear",
        forward=1.0,
        backward=1.0,
    )


def test_even_a_path_equal_to_the_forward_weights_is_no_transport(paper):
    def aligned(n):
        rule = paper.ProductFeedback(units(n), sgd(0.1), kind="identity")
        for layer in rule.layers:
            layer.R.data = layer.weight.detach().clone()
        return rule

    assert audit(aligned, small_batch()).weight_transport == "none"


def test_a_path_that_reads_the_forward_weights_is_caught():
    line = ("return layer.B, layer.R", "return layer.B, layer.B.T @ layer.weight")
    cheat = mutant(SLUG, *line)
    found = audit(lambda n: cheat.ProductFeedback(units(n), sgd(0.1)), small_batch())
    assert found.weight_transport == "full"


def test_fa_transports_nothing_and_w_itself_everything(paper):
    for kind, transport in (("FA", "none"), ("BP", "full")):
        found = audit(
            lambda n, k=kind: paper.FixedFeedback(units(n), sgd(0.1), k), small_batch()
        )
        assert found.weight_transport == transport


def test_pfa_saves_what_backprop_saves_without_its_weights(paper):
    batch = small_batch()
    ours = measure(paper.ProductFeedback(units(6), sgd(0.1)), batch).saved_bytes
    theirs = measure(Backprop(units(6), sgd(0.1)), batch).saved_bytes
    assert ours <= theirs + 4 * 6 * 3  # at most the scores on top


def test_the_strong_phase_removes_the_mismatch_as_much_as_it_says(paper):
    from bpfree_common import fit, load_data

    torch.manual_seed(0)
    task = load_data("digits").flat()
    sizes = [64, 16, 16, 10]
    rule = paper.ProductFeedback(
        mlp(sizes, "tanh", "xavier"), sgd(0.05, 0.5, 0.0), 3, folds=2.0, strong=0.5
    )

    def mismatch():
        return [x.R.detach() - x.B.T @ x.weight.detach() for x in rule.layers]

    before = mismatch()
    fit(rule, task, epochs=6, batch_size=16)
    for D, D0 in zip(mismatch(), before, strict=True):
        shrunk = D.norm() / D0.norm()
        assert 0.12 < shrunk < 0.15  # exp(-2) = 0.135, steps and momentum blur it
        assert torch.allclose(D, shrunk * D0, atol=1e-4)
