"""DFA on modern tasks: its identities hold, defects and cheats are caught."""

import pytest
import torch
from support import assert_caught, assert_identities_hold

from bpfree_common import catalogue, loader
from bpfree_common.alignment import compute_credit
from bpfree_common.audit import audit
from bpfree_common.baselines import Backprop
from bpfree_common.cost import measure
from bpfree_common.networks import mlp
from bpfree_common.optim import adam

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
        seen = o.detach().requires_grad_()
        loss = self.loss(self.read(seen, x), y)
        (e,) = torch.autograd.grad(loss, seen)
        o.backward(e)"""
LEAK = CUT.replace(".detach()  # and", " * 1  # no").replace(
    "o.backward(e)", "o.backward(e, retain_graph=True)"
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
    "read-out too fast": ("o.backward(e)", "o.backward(2 * e)", ONE_POINT),
    "activity for gradient": ("else h.grad", "else h.detach()", HIDDEN),
    "ones for the identity": ("torch.eye(outputs", "torch.ones(outputs", HIDDEN),
}


def test_identities_of_dfa_modern_tasks_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_dfa_modern_tasks_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


# --- the audit -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rules():
    return loader.load_rule(SLUG)


def probe_batch():
    torch.manual_seed(0)
    return torch.randn(6, 16), torch.tensor([0, 1, 2, 0, 1, 2])


def sizes(units):
    return [16] + [12] * (units - 1) + [3]


def audited(build):
    return audit(build, probe_batch(), depths=(2, 4))


def test_feedback_from_the_output_is_clean_but_locked(rules):
    audited(lambda n: rules.build_dense(sizes(n), adam(1e-3))).expect(
        crossings=0, locking="full", weight_transport="none", forward=1, backward=1
    )


def test_feedback_from_the_read_outs_input_transports_the_read_out_and_no_more(rules):
    found = audited(
        lambda n: rules.DirectFeedback(
            mlp(sizes(n)), adam(1e-3), sizes(n)[1:], source="hidden"
        )
    )
    assert (found.crossings, found.weight_transport) == (1, "part")
    transport = torch.tensor(found.transport)
    assert (transport[:-1, -1] > 0).all()  # every hidden unit uses the read-out
    assert (transport[:-1, :-1].triu(1) == 0).all()  # and nothing else above it


def test_a_missing_cut_is_caught_by_the_audit():
    path = catalogue.get(SLUG).path
    mutant = loader.build(path, "leaking_dfa_modern_tasks", replace=(CUT, LEAK))
    found = audited(lambda n: mutant.build_dense(sizes(n), adam(1e-3)))
    assert (found.crossings, found.weight_transport) == (3, "full")


def test_the_shallow_control_trains_the_last_unit_alone(rules):
    torch.manual_seed(0)
    rule = rules.DirectFeedback(mlp(sizes(4)), adam(1e-3), sizes(4)[1:], mode="shallow")
    credits = compute_credit(rule, probe_batch())
    assert all(not c.any() for c in credits[:-1])
    assert credits[-1].any()
    (group,) = rule.configure_optimizers().param_groups
    assert len(group["params"]) == 2


def test_a_step_costs_no_more_than_backpropagation_plus_one_small_product(rules):
    n, batch = 5, probe_batch()
    ours = measure(rules.build_dense(sizes(n), adam(1e-3)), batch)
    theirs = measure(Backprop(mlp(sizes(n)), adam(1e-3)), batch)
    across = 2 * len(batch[1]) * (12 * 3 + 12 * 12 * (n - 2))  # BP's products with W^T
    assert ours.flops == theirs.flops - across + 2 * len(batch[1]) * 3 * 12


def test_dense_networks_of_any_depth_learn(rules):
    torch.manual_seed(0)
    rule = rules.build_dense([16, 32, 32, 32, 3], adam(1e-2))
    batch = probe_batch()
    optimizer = rule.configure_optimizers()
    before = float(rule.objective(batch).detach())
    for _ in range(50):
        optimizer.zero_grad()
        rule.credit(batch)
        optimizer.step()
    assert float(rule.objective(batch).detach()) < before / 5
