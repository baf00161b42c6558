"""The audit sees what a rule does, whatever the rule says of itself."""

import pytest
import torch
from torch.nn import functional as F

from bpfree_common import Backprop, Frozen, LearningRule, cnn, mlp, sgd
from bpfree_common.errors import AuditMismatch, ContractError
from bpfree_common.former.audit import audit, dependence, transport
from bpfree_common.learning.alignment import alignment

X = torch.randn(5, 20, generator=torch.Generator().manual_seed(0))
PROBE = (X, torch.arange(5) % 4)


def sizes(depth):
    return [20] + [14] * (depth - 1) + [4]


class Local(LearningRule):
    """Each unit raises its own sum of squares; `detach` makes it local."""

    detach = True

    def credit(self, batch):
        h, _ = batch
        for unit in self.units:
            h = unit(h.detach() if self.detach else h)
            h.square().sum().backward(retain_graph=not self.detach)
        return {}


class Leaky(Local):
    """A local rule that forgot to detach."""

    detach = False


class Feedback(LearningRule):
    """Feedback alignment by hand, without autograd; `matrix` chooses the feedback."""

    def __init__(self, units, optimizer):
        super().__init__(units, optimizer)
        for n, unit in enumerate(units):
            self.register_buffer(f"B{n}", torch.randn(unit[0].weight.shape))

    def matrix(self, n):
        return getattr(self, f"B{n}")

    @torch.no_grad()
    def credit(self, batch):
        x, y = batch
        hs = [x]
        for unit in self.units:
            hs.append(unit(hs[-1]))
        delta = (torch.softmax(hs[-1], 1) - F.one_hot(y, hs[-1].shape[1])) / len(y)
        for n in reversed(range(len(self.units))):
            linear = self.units[n][0]
            linear.weight.grad, linear.bias.grad = delta.T @ hs[n], delta.sum(0)
            delta = (delta @ self.matrix(n)) * (hs[n] > 0)
        return {}


class Cheat(Feedback):
    """Says feedback alignment, uses the transposed forward weights."""

    def matrix(self, n):
        return self.units[n][0].weight


def build(rule, **options):
    return lambda depth: rule(mlp(sizes(depth)), sgd(0.1), **options)


def test_backprop_fills_the_upper_triangles_and_crosses_every_boundary():
    found = audit(build(Backprop), PROBE)
    row = found.row()
    assert (row["crossings"], row["locking"]) == (3, "full")
    assert row["weight_transport"] == "full"
    assert (row["forward"], row["backward"]) == (1, 1)
    assert [[v != 0 for v in line] for line in found.transport] == [
        [False, True, True, True],
        [False, False, True, True],
        [False, False, False, True],
        [False, False, False, False],
    ]
    assert all(v > 0 for line in found.dependence for v in line)
    assert found.alignment == pytest.approx([1] * 4)


def test_backprop_saves_the_same_bytes_for_every_further_layer():
    saved = audit(build(Backprop), PROBE).saved_bytes
    layer = 5 * 14 * 8  # samples x units x bytes of a float64
    assert saved[4] - saved[2] == 2 * layer
    assert saved[16] - saved[8] == 8 * layer


def test_checkpointing_pays_forward_passes():
    row = audit(build(Backprop, checkpointing=True), PROBE).row()
    assert row["forward"] == pytest.approx(1.75)
    assert (row["crossings"], row["weight_transport"]) == (3, "full")


def test_a_local_rule_shows_nothing_above_the_diagonal_and_flat_memory():
    found = audit(build(Local), PROBE)
    found.expect(crossings=0, locking="none", weight_transport="none", memory="flat")
    assert found.live_memory == "flat"


def test_a_local_rule_that_forgets_to_detach_is_caught():
    found = audit(build(Leaky), PROBE)
    assert found.crossings == 3
    assert found.locking == "full"
    with pytest.raises(AuditMismatch, match="crossings is 3, not 0"):
        found.expect(crossings=0)


def test_feedback_alignment_depends_on_later_units_but_not_on_their_weights():
    row = audit(build(Feedback), PROBE).row()
    assert (row["locking"], row["weight_transport"], row["crossings"]) == (
        "full",
        "none",
        0,
    )


def test_a_feedback_alignment_that_uses_the_transposed_weights_is_caught():
    found = audit(build(Cheat), PROBE)
    assert found.crossings == 0, "it hides from autograd"
    assert found.weight_transport == "full", "but not from the null spaces"


def test_a_rule_without_autograd_cannot_hide_what_it_stores():
    found = audit(build(Feedback), PROBE)
    assert found.memory == "none"
    assert found.live_memory == "linear"


def test_the_frozen_control_has_no_hidden_credit():
    found = audit(build(Frozen), PROBE)
    assert [any(line) for line in found.dependence] == [False, False, False, True]


def test_transport_is_undefined_where_the_inputs_span_the_space():
    many = (torch.randn(60, 20), torch.randint(0, 4, (60,)))
    rule = Backprop(mlp(sizes(3), "tanh"), sgd(0.1)).double()
    columns = transport(rule, (many[0].double(), many[1]))
    assert all(v != v for line in columns for v in line)


def test_a_convolutional_network_can_be_audited():
    rule = Backprop(cnn((6, 4, 4), [40], 4), sgd(0.1)).double()
    batch = (torch.randn(1, 6, 4, 4).double(), torch.tensor([1]))
    found = transport(rule, batch)
    assert found[0][1] > 0
    assert found[1][0] == 0


def test_an_impure_credit_is_refused():
    class Impure(Backprop):
        calls = 0

        def credit(self, batch):
            self.calls += 1
            out = super().credit(batch)
            self.units[0][0].weight.grad *= self.calls
            return out

    with pytest.raises(ContractError, match="two answers to one question"):
        dependence(Impure(mlp(sizes(2)), sgd(0.1)), PROBE)


def test_a_forward_pass_around_the_units_is_refused():
    class Around(Backprop):
        def forward(self, x):
            first = self.units[0][0]
            return self.units[1](torch.relu(x @ first.weight.T + first.bias))

    found = Around(mlp(sizes(2)), sgd(0.1)).double()
    batch = (PROBE[0].double(), PROBE[1])
    with pytest.raises(ContractError, match="call the unit as a module"):
        transport(found, batch)


def test_a_parameter_outside_the_units_is_refused():
    class Stray(Backprop):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.extra = torch.nn.Parameter(torch.zeros(1))

    with pytest.raises(ContractError, match="'extra' belongs to no unit"):
        Stray(mlp(sizes(2)), sgd(0.1)).check_contract()


class WithFeedback(Backprop):
    """Backpropagation whose units also decay weights that nothing else uses."""

    def __init__(self, units, optimizer):
        for unit in units:
            unit.register_parameter("feedback", torch.nn.Parameter(torch.ones(50)))
        super().__init__(units, optimizer)

    def credit(self, batch):
        logged = super().credit(batch)
        for unit in self.units:
            unit.feedback.grad = unit.feedback.detach()
        return logged


def test_alignment_leaves_out_what_the_objective_does_not_depend_on():
    torch.manual_seed(0)
    rule = WithFeedback(mlp([8, 6, 3]), sgd(0.1))
    found = alignment(rule, (torch.randn(5, 8), torch.arange(5) % 3))
    assert found == pytest.approx([1, 1])
