"""One byte per gradient: identities hold, defects are caught, bytes are counted."""

import pytest
import torch
from support import assert_caught, assert_identities_hold, small_batch, small_sizes
from torch import nn

from bpfree_common.learning import mlp, sgd
from bpfree_common.measuring.audit import audit
from bpfree_common.measuring.cost import measure

SLUG = "one_byte_gradients"
TEAM = "machines that exchange bytes step as the team's rule does"
SAME = "the fast form writes the credit of the plain one"
ROUNDING = "rounding errs by a factor e^(step / 2) at most"
WAY = "measuring on the way gives the scalar of moving and putting back"

MUTATIONS = {
    "a step uphill": ("-self.lr / math.sqrt(n)", "self.lr / math.sqrt(n)", TEAM),
    "an average": ("-self.lr / math.sqrt(n)", "-self.lr / n", TEAM),
    "all machines have one direction": (
        "keys = [(step, self.number, j) for j in range(len(batches))]",
        "keys = [(step, 0, j) for j in range(len(batches))]",
        TEAM,
    ),
    "the unquantised scalar is sent": (
        "return self.message.values(self.message.codes(p)).to(p.dtype)",
        "return p",
        TEAM,
    ),
    "scalars are applied as they arrive": (
        "return sorted(inbox)",
        "return list(inbox)",
        "replicas that never move their weights are equal bit for bit",
    ),
    "nothing is replayed": (
        "for past, each in self.heard.items():",
        "for past, each in [(step, inbox)]:",
        "after each 16th step a replaying machine",
    ),
    "what fills the last byte is applied": ("[: self.samples]", "[:8]", TEAM),
    "rounded down": (".round().clamp", ".floor().clamp", ROUNDING),
    "the sign is lost": (
        "(1 - 2 * (codes // self.levels))",
        "(1 - 0 * codes)",
        "rounding is odd, monotone",
    ),
    "a scalar of one side": (
        "ends = (loss_at(self.network, key, s * self.epsilon, batch) for s in (1, -1))",
        "ends = (loss_at(self.network, key, s * self.epsilon, batch) for s in (1, 0))",
        WAY,
    ),
    "one loss is not perturbed": ("losses(-self.epsilon)", "losses(0.0)", SAME),
    "bits in the wrong places": (
        "(1 << np.arange(bits))",
        "(1 << np.arange(bits)[::-1])",
        "messages keep them",
    ),
    "machines never come back": (
        "self.leave <= self.steps_taken < self.back",
        "self.leave <= self.steps_taken",
        "machines that are away send nothing; then all are back",
    ),
    "the rest is forgotten": (
        "self.unsent = waiting - sent",
        "self.unsent = g - sent",
        "top-k: what is sent and what waits add up",
    ),
    "no vote": ("g.sign().sum(0).sign()", "g.sum(0).sign()", "the majority of"),
}


def test_identities_of_one_byte_gradients_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_one_byte_gradients_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


@pytest.fixture
def build(paper):
    """Makes probe networks of any depth under the rule: two scalars of one machine."""
    return lambda units, samples=2: paper.OneByte(
        mlp(small_sizes(units - 1)), sgd(0.1), machines=1, samples=samples
    )


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_the_batch_is_evaluated_twice_however_many_scalars_share_it(build, samples):
    counted = measure(build(4, samples), small_batch())
    assert counted.evaluations == counted.forward == 2


def test_a_message_has_one_byte_for_each_scalar_whatever_the_size_of_the_network(paper):
    x, y = small_batch()
    for width in (4, 40):
        network = nn.Sequential(*mlp([16, width, 3]))
        machine = paper.Machine(0, network, lr=0.1, samples=5)
        assert len(machine.measure(0, [(x, y)] * 5)) == 5


def test_measuring_on_the_way_leaves_every_bit_of_the_weights(paper):
    network = nn.Sequential(*mlp(small_sizes(2)))
    before = [p.detach().clone() for p in network.parameters()]
    paper.Untouched(0, network, lr=0.1).measure(0, [small_batch()] * 3)
    assert all(map(torch.equal, before, network.parameters()))


def test_nothing_crosses_a_boundary_and_every_unit_waits_for_the_loss(paper):
    def build(units):
        sizes = [40] + [32] * (units - 1) + [3]
        return paper.OneByte(mlp(sizes), sgd(0.1), machines=1, samples=2)

    torch.manual_seed(0)
    found = audit(build, (torch.randn(6, 40), torch.arange(6) % 3))
    found.expect(crossings=0, locking="full", weight_transport="none", live_memory="flat")


def test_the_contest_gets_the_fast_form_and_it_steps_on_any_number_of_rows(paper):
    rule = paper.build_dense([8, 5, 3], sgd(0.1))
    assert isinstance(rule, paper.Batched)
    for rows in (3, 20, 23):
        rule.credit((torch.randn(rows, 8), torch.arange(rows) % 3))
        assert all(p.grad.isfinite().all() for p in rule.parameters())
