"""ForwardGNN: identities hold, defects are caught, the audit sees what it should."""

import pytest
import torch
from support import GLOBAL, LOCAL, assert_caught, assert_identities_hold

from bpfree_common.errors import AuditMismatch
from bpfree_common.learning import sgd
from bpfree_common.learning.training import fit
from bpfree_common.measuring.audit import audit
from bpfree_common.papers import catalogue, loader

SLUG = "forward_gnn"
CLOSED_FORM = "the credit of the first layer equals its closed form"

LOOP_LA = "FF-LA on stacked copies equals a loop over labellings"
LINKED = "a virtual node is linked to the training nodes of its class and to no other"

MUTATIONS = {
    "one direction of the virtual links is missing": (
        "edges = [real, hears, hears.flip(0)] if both",
        "edges = [real, hears] if both",
        "the augmented graph has N + K nodes and |E| + 2|T| directed edges",
    ),
    "links to the wrong class": (
        "N + labels[copy, node]",
        "N + (labels[copy, node] + 1) % K",
        LINKED,
    ),
    "one-way links go the other way": (
        "else [real, hears]",
        "else [real, hears.flip(0)]",
        LINKED,
    ),
    "no normalisation": (
        "return H / (H.norm(dim=1, keepdim=True) + 1e-8)",
        "return H",
        "a layer is ReLU(D^-1/2 (A + I) D^-1/2 n(H) W + b)",
    ),
    "sign of the local loss": (
        "return F.cross_entropy(self.logits(Z, batch[0]), batch[1])",
        "return -F.cross_entropy(self.logits(Z, batch[0]), batch[1])",
        CLOSED_FORM,
    ),
    "virtual nodes get no gradient": (
        "Z[nodes] @ Z[self.N :].T",
        "Z[nodes] @ Z[self.N :].detach().T",
        CLOSED_FORM,
    ),
    "the next layer's input is not normalised": (
        "return n(Z.detach())",
        "return Z.detach()",
        "each layer's credit is the gradient of its own loss alone",
    ),
    "the gradient takes the matrix and not its transpose": (
        "ctx.A.transposed = ctx.A.t().to_sparse_csr()",
        "ctx.A.transposed = ctx.A",
        "the fast product has the value and gradient of A @ H",
    ),
    "sign of the negative goodness": (
        "F.softplus(g[1:])",
        "F.softplus(-g[1:])",
        "the FF loss is binary cross-entropy of |h|^2 - theta",
    ),
    "the true label is not first": (
        "task.y_train] = -1",
        "task.y_train] = 2",
        "every training node meets its true label once, then every wrong one once",
    ),
    "appended labels are not scaled": (
        "(S / length).flatten(0, 1)",
        "S.flatten(0, 1)",
        LOOP_LA,
    ),
    "a layer hears itself from above": (
        "above = states[l + 2 :]",
        "above = states[l + 1 :]",
        "Top-To-Loss is SF at the last layer, up to clipping",
    ),
    "top-down input from the layer itself": (
        "self.layer(l, states[l], states[l + 2])",
        "self.layer(l, states[l], states[l + 1])",
        "Top-To-Input multiplies [n(below), n(above)] by one matrix",
    ),
    "only the last layer votes": (
        "1) for Z in self.outputs())",
        "1) for Z in self.outputs()[-1:])",
        "the class probabilities of L layers sum to L",
    ),
    "the kept input is not normalised": (
        "self.following(self.layer(l, self.kept))",
        "self.layer(l, self.kept)",
        "greedy training of layer 2 gives it the credit of its turn",
    ),
}


def test_identities_of_forward_gnn_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_forward_gnn_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


@pytest.fixture(scope="module")
def paper():
    """The rule and check cells as a module; the latter make the toy graph."""
    path = catalogue.get(SLUG).path
    module = loader.build(path, "audited_forward_gnn")
    loader.run_checks(path, module)
    return module


SF_ROW = LOCAL | {"live_memory": "flat", "forward": 1}


def audited(paper, rule, steps=2):
    task = paper.toy(nodes=14, features=64)
    batch = (task.x_train, task.y_train)

    def build(units):
        return rule(task, 48, units, sgd(0.1))

    return audit(build, batch, depths=(2, 4, 8), steps=steps)


def test_single_forward_is_local_in_one_pass_and_flat_in_memory(paper):
    audited(paper, paper.SingleForward).expect(**SF_ROW)


@pytest.mark.parametrize("name", ["LabelAppending", "VirtualNodes"])
def test_forward_forward_needs_a_pass_per_class(paper, name):
    audited(paper, getattr(paper, name)).expect(**SF_ROW | {"forward": 3})


@pytest.mark.parametrize(("name", "steps"), [("TopToLoss", 2), ("TopToInput", 3)])
def test_a_top_down_layer_depends_on_all_above_it_through_what_is_stored(
    paper, name, steps
):
    found = audited(paper, getattr(paper, name), steps)
    found.expect(locking="full", live_memory="linear", forward=1)
    assert not any(v > 0 for row in found.transport for v in row)


def test_single_forward_that_forgets_to_detach_is_caught(paper):
    class Leaky(paper.SingleForward):
        def credit(self, batch):
            loss = sum(self.local_loss(Z, batch) for Z in self.outputs())
            loss.backward()
            return {"loss": loss.detach()}

    found = audited(paper, Leaky)
    with pytest.raises(AuditMismatch, match="crossings is 3"):
        found.expect(**SF_ROW)
    found.expect(**GLOBAL)


def test_a_greedy_run_trains_one_layer_at_a_time(paper):
    task = paper.toy()
    rule = paper.SingleForward(task, 6, 3, sgd(0.1), per_layer=2)
    rule.begin(1)
    rule.credit((task.x_train, task.y_train))
    trained = [unit.bias.grad is not None for unit in rule.units]
    assert trained == [False, True, False]
    assert len(rule.outputs()) == 2
    assert torch.equal(rule.kept, rule.following(rule.layer(0, rule.x)))


def test_a_step_from_above_stores_its_states_for_the_next(paper):
    task = paper.toy()
    rule = paper.TopToLoss(task, 6, 3, sgd(0.1))
    before = rule.states.clone()
    fit(rule, task, epochs=2, batch_size=len(task.y_train))
    assert torch.equal(rule.states, torch.stack(rule.fresh))
    assert not torch.equal(rule.states, before)
