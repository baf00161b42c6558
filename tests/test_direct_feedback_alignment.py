"""Direct feedback alignment: its identities hold, defects and cheats are caught."""

import pytest
import torch
from support import (
    assert_caught,
    assert_fixed_but_saved,
    assert_identities_hold,
    mutant,
    small_batch,
    small_sizes,
)
from torch import nn

from bpfree_common.learning.networks import mlp
from bpfree_common.learning.opponents import Backprop
from bpfree_common.learning.optim import sgd
from bpfree_common.measuring.audit import audit
from bpfree_common.measuring.cost import measure

SLUG = "direct_feedback_alignment"
CLOSED_FORM = "the hidden credits of DFA equal their closed form"
FAST = "the fast form gives the same credits as the plain one"
LOCAL = "local graphs give the same credits as the formulas"
CONVOLUTION = "a convolution's credit: the slope of <e B_l, h_l>"
NO_TRANSPORT = "with e fixed, DFA and FA do not read the weights above"
FA_IS_BP = "FA with B = W is backpropagation"
NORM = "normalised feedback: E |e B_l|^2 = |e|^2 / C at any width"
SIGNS_ONLY = "sign symmetry reads the signs of the weights above and nothing else"

MUTATIONS = {
    "flipped sign of the feedback": (
        "E = e @ self.B  #",
        "E = -e @ self.B  #",
        CLOSED_FORM,
    ),
    "no derivative": (
        "self.columns(E, l) * slope(h[l], self.units[l - 1][1])",
        "self.columns(E, l)",
        CLOSED_FORM,
    ),
    "wrong derivative of tanh": ("return 1 - h**2", "return 1 - h", CLOSED_FORM),
    "wrong derivative of ReLU": (
        "return h > 0 if isinstance",
        "return h > -1 if isinstance",
        FA_IS_BP,
    ),
    "wrong derivative in the fast form": (
        "threshold_backward(signal, h, 0)",
        "relu(signal)",
        FAST,
    ),
    "fast form reads the layer above": (
        "delta, h[-1])\n\n\ndef build_dense",
        "delta, h[-1] * 0)\n\n\ndef build_dense",
        FAST,
    ),
    "B redrawn at each step": (
        "e @ self.B  #",
        "e @ torch.randn_like(self.B)  #",
        CLOSED_FORM,
    ),
    "no rescaling of narrow layers": ("(n_max / n) ** 0.5", "1.0", CLOSED_FORM),
    "plain B passed off as normalised": (
        "-0.5 if normalised",
        "-0.0 if normalised",
        NORM,
    ),
    "FA forgets the activation": (
        "delta = back * slope(h[l - 1], self.units[l - 2][1])",
        "delta = back",
        FA_IS_BP,
    ),
    "sum for mean": ("e.div_(len(y))", "e", CLOSED_FORM),
    "missing detach": ("unit(h.detach())", "unit(h)", LOCAL),
    "convolutions taught twice": (
        "signals + [e]",
        "[2 * s for s in signals] + [e]",
        CONVOLUTION,
    ),
    "transposed forward weights": (
        'return getattr(self, f"B{l}")',
        "return self.units[l - 1][0].weight",
        NO_TRANSPORT,
    ),
    "magnitude of the weights leaks": ("W.sign() * (2 /", "W * (2 /", SIGNS_ONLY),
    "bias forgotten": ("delta.sum(0)", "0 * delta.sum(0)", CLOSED_FORM),
    "feedback of one sign": (
        "torch.randn(classes, n_max)",
        "torch.rand(classes, n_max)",
        NORM,
    ),
}


def test_identities_of_direct_feedback_alignment_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_direct_feedback_alignment_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


# --- the audit -------------------------------------------------------------------------


def units(n):
    return mlp(small_sizes(n - 1), "tanh", "xavier")


def audited(build):
    return audit(build, small_batch(), depths=(2, 4))


def test_dfa_is_clean_of_weight_transport_and_crossings_but_locked(paper):
    for rule in (paper.DirectFeedbackAlignment, paper.LocalGraphs):
        found = audited(lambda n, rule=rule: rule(units(n), sgd(0.1), (16,)))
        assert (found.weight_transport, found.crossings) == ("none", 0)
        assert found.locking == "full"


def test_feedback_alignment_has_no_weight_transport(paper):
    found = audited(lambda n: paper.FeedbackAlignment(units(n), sgd(0.1)))
    assert (found.weight_transport, found.locking) == ("none", "full")


def test_sign_symmetry_is_found_to_transport_weights(paper):
    found = audited(lambda n: paper.FeedbackAlignment(units(n), sgd(0.1), "uSF"))
    assert found.weight_transport in ("part", "full")


def test_feedback_alignment_that_uses_the_forward_weights_is_caught():
    cheat = mutant(SLUG, *MUTATIONS["transposed forward weights"][:2])
    found = audited(lambda n: cheat.FeedbackAlignment(units(n), sgd(0.1)))
    assert found.weight_transport == "full"


def test_dfa_whose_feedback_follows_the_forward_weights_is_caught(paper):
    class Cheat(paper.DirectFeedbackAlignment):
        """B is the last weight matrix of this very step."""

        def teach(self, h, e):
            self.B.copy_(self.units[-1][0].weight)
            super().teach(h, e)

    found = audited(lambda n: Cheat(units(n), sgd(0.1), (16,)))
    transport = torch.tensor(found.transport)
    assert found.weight_transport == "part"
    assert (transport[:-1, -1] > 0).all()  # every hidden layer uses the read-out
    assert (transport[:-1, :-1] == 0).all()


def test_a_local_graph_that_leaks_is_caught():
    leak = mutant(SLUG, "unit(h.detach())", "unit(h)")
    found = audited(lambda n: leak.LocalGraphs(units(n), sgd(0.1), (16,)))
    assert (found.weight_transport, found.crossings) == ("full", 3)


def conv_units(n):
    hidden = [
        nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Tanh()) for _ in range(n - 1)
    ]
    return nn.ModuleList([*hidden, nn.Sequential(nn.Flatten(), nn.Linear(128, 3))])


def audited_on_images(rule):
    images = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    return audit(
        lambda n: rule(conv_units(n), sgd(0.1), (8, 4, 4)),
        (images, torch.tensor([0, 1])),
        depth=3,
        depths=(2, 3),
    )


def test_dfa_is_clean_in_a_convolutional_network_too(paper):
    found = audited_on_images(paper.LocalGraphs)
    assert (found.weight_transport, found.crossings) == ("none", 0)
    assert found.locking == "full"


def test_a_local_graph_that_leaks_in_a_convolutional_network_is_caught():
    found = audited_on_images(mutant(SLUG, "unit(h.detach())", "unit(h)").LocalGraphs)
    assert (found.weight_transport, found.crossings) == ("full", 2)


# --- memory ----------------------------------------------------------------------------


def test_dfa_keeps_one_tensor_per_hidden_layer_just_as_backprop_does(paper):
    batch = small_batch()
    layer = 4 * len(batch[0]) * 12  # bytes of one hidden layer's outputs, float32

    def live(build, n):
        return measure(build(n), batch).live_bytes

    def dfa(n):
        return paper.DirectFeedbackAlignment(units(n), sgd(0.1), (16,))

    def backprop(n):
        return Backprop(units(n), sgd(0.1))

    for build in (dfa, backprop):
        grown = [live(build, n) for n in (4, 5, 9)]
        assert grown[1] - grown[0] == layer
        assert grown[2] - grown[0] == 5 * layer


def test_feedback_matrices_are_buffers_and_survive_a_checkpoint(paper):
    torch.manual_seed(0)
    one = paper.DirectFeedbackAlignment(units(4), sgd(0.1), (16,))
    other = paper.DirectFeedbackAlignment(units(4), sgd(0.1), (16,))
    assert_fixed_but_saved(one, other, "B")
