"""DFA on modern tasks: its identities hold, defects and cheats are caught."""

import pytest
import torch
from support import (
    assert_caught,
    assert_identities_hold,
    mutant,
    small_batch,
    small_sizes,
    take_steps,
)

from bpfree_common.former.audit import audit
from bpfree_common.former.cost import measure
from bpfree_common.learning.alignment import compute_credit
from bpfree_common.learning.baselines import Backprop
from bpfree_common.learning.networks import mlp
from bpfree_common.learning.optim import adam

SLUG = "dfa_modern_tasks"
CLOSED_FORM = "the hidden credits equal their closed form"
ONE_POINT = "one point below a linear read-out, B = W"
NORM = "E |signal_i|^2 = n_i / (3 n_max) |g|^2"
ROWS = "r rows for one output: each gets the signal over sqrt(r)"
HIDDEN = "source `hidden`, B = 1"

# The cut below a point, and the same without one.
CUT = """            h = points[-1].detach()  # and a cut after it
        if self.source == "hidden":
            h.requires_grad_()
        o = self.units[-1](h)
        o.retain_grad()
        loss = self.loss(self.read(o, x), y)
        loss.backward()"""
LEAK = CUT.replace(".detach()  # and", " * 1  # no").replace(
    "loss.backward()", "loss.backward(retain_graph=True)"
)

MUTATIONS = {
    "flipped sign": (
        "g.flatten(0, -2) @ self.B",
        "-g.flatten(0, -2) @ self.B",
        CLOSED_FORM,
    ),
    "B redrawn": ("-2) @ self.B", "-2) @ torch.rand_like(self.B)", CLOSED_FORM),
    "rows mixed up": ("g.flatten(0, -2) @", "g.flatten(0, -2).flip(0) @", CLOSED_FORM),
    "missing detach": (CUT, LEAK, CLOSED_FORM),
    "half the range": ("(2 * torch.rand(", "(1 * torch.rand(", NORM),
    "no normalisation": (" - 1) / widest**0.5", " - 1)", NORM),
    "last columns": ("P[:, :n], x", "P[:, -n:], x", CLOSED_FORM),
    "sum over rows": (" / r**0.5", "", ROWS),
    "rows out of order": ("signal.repeat_interleave(r, 0)", "signal.repeat(r, 1)", ROWS),
    "read-out too fast": (
        "loss.backward()  #",
        "loss.backward(), [p.grad.mul_(2) for p in self.units[-1].parameters()]  #",
        ONE_POINT,
    ),
    "activity for gradient": ("else h.grad", "else h.detach()", HIDDEN),
    "ones for the identity": ("torch.eye(outputs", "torch.ones(outputs", HIDDEN),
    "baseline twice as fast": (
        "loss = self.objective(batch)",
        "loss = 2 * self.objective(batch)",
        "without cuts and feedback the rule is backpropagation",
    ),
}


def test_identities_of_dfa_modern_tasks_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_dfa_modern_tasks_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


# --- the audit -------------------------------------------------------------------------


def audited(build):
    return audit(build, small_batch(), depths=(2, 4))


def test_feedback_from_the_output_is_clean_but_locked(paper):
    audited(lambda n: paper.build_dense(small_sizes(n - 1), adam(1e-3))).expect(
        crossings=0, locking="full", weight_transport="none", forward=1, backward=1
    )


def test_feedback_from_the_read_outs_input_transports_the_read_out_and_no_more(paper):
    def build(n):
        sizes = small_sizes(n - 1)
        return paper.DirectFeedback(mlp(sizes), adam(1e-3), sizes[1:], source="hidden")

    found = audited(build)
    assert (found.crossings, found.weight_transport) == (1, "part")
    transport = torch.tensor(found.transport)
    assert (transport[:-1, -1] > 0).all()  # every hidden unit uses the read-out
    assert (transport[:-1, :-1].triu(1) == 0).all()  # and nothing else above it


def test_a_missing_cut_is_caught_by_the_audit():
    leaky = mutant(SLUG, CUT, LEAK)
    found = audited(lambda n: leaky.build_dense(small_sizes(n - 1), adam(1e-3)))
    assert (found.crossings, found.weight_transport) == (3, "full")


def test_the_shallow_control_trains_the_last_unit_alone(paper):
    torch.manual_seed(0)
    sizes = small_sizes(3)
    rule = paper.DirectFeedback(mlp(sizes), adam(1e-3), sizes[1:], mode="shallow")
    credits = compute_credit(rule, small_batch())
    assert all(not c.any() for c in credits[:-1])
    assert credits[-1].any()
    (group,) = rule.configure_optimizers().param_groups
    assert len(group["params"]) == 2


def test_a_step_costs_no_more_than_backpropagation_plus_one_small_product(paper):
    sizes, (x, y) = small_sizes(4), small_batch()
    ours = measure(paper.build_dense(sizes, adam(1e-3)), (x, y))
    theirs = measure(Backprop(mlp(sizes), adam(1e-3)), (x, y))
    across = 2 * len(y) * (12 * 3 + 12 * 12 * 3)  # BP's products with W^T
    assert ours.flops == theirs.flops - across + 2 * len(y) * 3 * 12


def test_a_deep_dense_network_learns(paper):
    torch.manual_seed(0)
    rule = paper.build_dense([16, 32, 32, 32, 3], adam(1e-2))
    batch = small_batch()
    before = float(rule.objective(batch).detach())
    take_steps(rule, batch, 50)
    assert float(rule.objective(batch).detach()) < before / 5
