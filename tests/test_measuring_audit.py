"""The audit sees what a step does, and accuses no honest rule of any kind."""

import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bpfree_common import (
    Backprop,
    Frozen,
    LearningRule,
    adam,
    cnn,
    gcn,
    load_data,
    mlp,
    sgd,
)
from bpfree_common.data.tasks import knn_graph
from bpfree_common.errors import AuditMismatch, ContractError
from bpfree_common.measuring.audit import audit, dependence, fill, growth, transport
from bpfree_common.measuring.foreign import audit_step
from bpfree_common.measuring.influence import Influence
from bpfree_common.measuring.stepping import maker

NAN = float("nan")
X = torch.randn(5, 20, generator=torch.Generator().manual_seed(0))
PROBE = (X, torch.arange(5) % 4)
LOCAL = {"crossings": 0, "locking": "none", "weight_transport": "none"}
GLOBAL = {"crossings": 3, "locking": "full", "weight_transport": "full"}
FEEDBACK = {"crossings": 0, "locking": "full", "weight_transport": "none"}


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


class Transposed(Feedback):
    """Backpropagation by hand."""

    def matrix(self, n):
        return self.units[n][0].weight


class KolenPollack(Feedback):
    """Feedback that gets the weights' own changes, and so never sees the weights."""

    def credit(self, batch):
        logged = super().credit(batch)
        for n, unit in enumerate(self.units):
            self.matrix(n).sub_(0.1 * unit[0].weight.grad)
        return logged


class Periodic(Local):
    """Teaches even units in even steps, odd units in odd ones."""

    period = 2

    def __init__(self, *args):
        super().__init__(*args)
        self.register_buffer("turn", torch.zeros((), dtype=torch.long))

    def credit(self, batch):
        logged = super().credit(batch)
        for n, unit in enumerate(self.units):
            if n % 2 != int(self.turn) % 2:
                unit.zero_grad(set_to_none=True)
        self.turn += 1
        return logged


class ForwardGradient(LearningRule):
    """(grad f . v) v with one random v."""

    @torch.no_grad()
    def credit(self, batch):
        weights = {n: p.detach() for n, p in self.named_parameters()}
        v = {n: torch.randn_like(p) for n, p in weights.items()}

        def loss(w):
            scores = torch.func.functional_call(self, w, (batch[0],))
            return F.cross_entropy(scores, batch[1])

        slope = torch.func.jvp(loss, (weights,), (v,))[1]
        for n, p in self.named_parameters():
            p.grad = slope * v[n]
        return {}


class ZerothOrder(LearningRule):
    """Two evaluations at W + e v and W - e v (SPSA), the weights moved in place."""

    @torch.no_grad()
    def credit(self, batch):
        v = [torch.randn_like(p) for p in self.parameters()]

        def loss(size):
            for p, d in zip(self.parameters(), v, strict=True):
                p.add_(d, alpha=size)
            return F.cross_entropy(self(batch[0]), batch[1])

        up, down = loss(1e-3), loss(-2e-3)
        loss(1e-3)
        for p, d in zip(self.parameters(), v, strict=True):
            p.grad = (up - down) / 2e-3 * d
        return {}


def dense(kind, optimizer=None):
    return lambda depth: kind(mlp(sizes(depth)), optimizer or sgd(0.1))


def test_backprop_fills_the_upper_triangles_and_crosses_every_boundary():
    found = audit(dense(Backprop), PROBE)
    found.expect(**GLOBAL, live_memory="linear", forward=1, evaluations=1)
    assert [[v != 0 for v in line] for line in found.transport] == [
        [False, True, True, True],
        [False, False, True, True],
        [False, False, False, True],
        [False, False, False, False],
    ]
    assert all(v > 0 for line in found.dependence for v in line)
    assert found.alignment == pytest.approx([1] * 4)


def test_hand_written_and_automatic_backprop_have_the_same_row():
    auto, hand = (audit(dense(kind), PROBE) for kind in (Backprop, Transposed))
    assert auto.row() == hand.row()


@pytest.mark.parametrize("optimizer", [sgd(0.1, momentum=0.9), adam(0.01)])
@pytest.mark.parametrize(
    ("kind", "row"), [(Local, LOCAL), (Leaky, GLOBAL), (Feedback, FEEDBACK)]
)
def test_the_row_does_not_depend_on_the_optimiser(kind, row, optimizer):
    audit(dense(kind, optimizer), PROBE, depths=(2, 4)).expect(**row)


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        (Frozen, LOCAL),
        (Periodic, LOCAL),
        (KolenPollack, FEEDBACK),
        (ForwardGradient, FEEDBACK | {"evaluations": 2}),
        (ZerothOrder, FEEDBACK | {"evaluations": 3, "live_memory": "linear"}),
    ],
)
def test_honest_dense_rules_are_not_accused(kind, row):
    audit(dense(kind), PROBE).expect(**row)


def test_checkpointing_pays_forward_passes():
    def build(depth):
        return Backprop(mlp(sizes(depth)), sgd(0.1), checkpointing=True)

    audit(build, PROBE, depths=(2, 4)).expect(**GLOBAL, forward=1.75, evaluations=1)


IMAGES = (torch.randn(1, 6, 8, 8), torch.tensor([1]))


@pytest.mark.parametrize(
    ("kind", "row"), [(Local, LOCAL), (Backprop, {"locking": "full", "crossings": 2})]
)
def test_a_convolutional_network_is_audited(kind, row):
    def build(depth):
        return kind(cnn((6, 8, 8), [40] * (depth - 1), 4), sgd(0.1))

    audit(build, IMAGES, depth=3, depths=(2, 3)).expect(**row)


class Recurrent(nn.Module):
    """A recurrent unit over (batch, time, features)."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.cell = nn.GRUCell(inputs, outputs)

    def forward(self, x):
        h, hs = x.new_zeros(len(x), self.cell.hidden_size), []
        for now in x.unbind(1):
            h = self.cell(now, h)
            hs.append(h)
        return torch.stack(hs, 1)


class Last(nn.Linear):
    """Reads out the last moment."""

    def forward(self, x):
        return super().forward(x[:, -1])


@pytest.mark.parametrize(("kind", "row"), [(Local, LOCAL), (Backprop, {"crossings": 2})])
def test_a_recurrent_network_is_audited(kind, row):
    def build(depth):
        layers = [Recurrent(16, 16) for _ in range(depth - 1)]
        return kind(nn.ModuleList([*layers, Last(16, 3)]), sgd(0.1))

    batch = (torch.randn(2, 3, 16), torch.arange(2))
    audit(build, batch, depth=3, depths=(2, 3)).expect(forward=1, **row)


class OnGraph:
    """A rule on a whole graph; a batch holds nodes."""

    graph = None

    def forward(self, nodes):
        return super().forward(self.features())[nodes]

    def features(self):
        return self.graph.x.to(next(self.parameters()).dtype)

    def rows(self, batch):
        return len(self.graph.x)


class GraphBackprop(OnGraph, Backprop):
    """Backpropagation through graph convolutions."""


class GraphLocal(OnGraph, Local):
    """Every graph convolution raises its own sum of squares."""

    def credit(self, batch):
        return super().credit((self.features(), None))


@pytest.mark.parametrize(
    ("kind", "row"), [(GraphLocal, LOCAL), (GraphBackprop, {"locking": "full"})]
)
def test_a_graph_network_is_audited(kind, row):
    task = knn_graph(load_data("digits").take(30))

    class Here(kind):
        graph = task.graph

    def build(depth):
        return Here(gcn(task.graph, [64] + [16] * (depth - 1) + [10]), sgd(0.1))

    batch = (task.x_train[:6], task.y_train[:6])
    audit(build, batch, depth=3, depths=(2, 3), steps=2).expect(forward=1, **row)


class Words(nn.Module):
    """An embedding, averaged."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(30, 14)

    def forward(self, x):
        return self.table(x).mean(1)


def test_an_embedding_moves_where_no_word_looks():
    def build(depth):
        hidden = [nn.Linear(14, 14) for _ in range(depth - 2)]
        return Backprop(nn.ModuleList([Words(), *hidden, nn.Linear(14, 4)]), sgd(0.1))

    batch = (torch.arange(10).view(5, 2), torch.arange(5) % 4)
    found = audit(build, batch, depth=3, depths=(2, 3))
    assert found.transport[0][0] == 0  # not undefined: rows that no word looks up moved
    assert found.crossings == 2


def test_transport_is_undefined_where_the_inputs_span_the_space():
    many = (torch.randn(60, 20), torch.randint(0, 4, (60,)))
    rule = Backprop(mlp(sizes(3), "tanh"), sgd(0.1)).double()
    found = transport(rule, (many[0].double(), many[1]))
    assert all(v != v for line in found for v in line)
    assert fill(found) == "undefined"


def test_backprop_is_caught_where_only_silent_inputs_can_be_moved_unseen():
    # each rectifier is on for every sample or off for every one, and those that are on
    # are no more than the samples: unseen moves lie on silent inputs alone, whose
    # derivative hides them from the backward pass
    def half_asleep(depth):
        rule = Backprop(mlp([20] + [8] * (depth - 1) + [4]), sgd(0.1))
        with torch.no_grad():
            for unit in list(rule.units)[:-1]:
                unit[0].weight.mul_(0.01)
                unit[0].bias.copy_(torch.tensor([1.0, -1.0] * 4))
        return rule

    found = audit(half_asleep, PROBE)
    assert found.weight_transport == "undefined"  # not none
    assert (found.crossings, found.locking) == (3, "full")


def test_gains_have_no_null_space_and_read_undefined():
    def build(depth):
        layers = [
            nn.Sequential(nn.Linear(20, 20), nn.BatchNorm1d(20)) for _ in range(depth)
        ]
        return Backprop(nn.ModuleList(layers), sgd(0.1))

    influence = Influence(maker(build, 2), (X, PROBE[1]), torch.float64, steps=1)
    found = influence.transport([[1.0, 1.0], [1.0, 1.0]])
    assert found[1][1] != found[1][1]


def test_a_weight_that_is_normalised_before_its_product_reads_undefined_not_transported():
    class Normal(nn.Linear):
        def forward(self, x):
            return F.linear(x, self.weight / self.weight.norm(dim=1, keepdim=True))

    class Direct(Local):
        """Locked by a broadcast of the output, with no weights in it."""

        def credit(self, batch):
            out = self(batch[0]).detach().sum()
            logged = super().credit(batch)
            for p in self.parameters():
                p.grad *= out
            return logged

    def build(depth):
        return Direct(
            nn.ModuleList([Normal(20, 20, bias=False) for _ in range(2)]), sgd(0.1)
        )

    found = Influence(maker(build, 2), PROBE, torch.float64, steps=2)
    D = found.dependence()
    assert D[0][1] > 0
    assert found.transport(D)[0][1] != found.transport(D)[0][1]


def test_dependence_of_one_rule_leaves_it_as_it_is():
    rule = Backprop(mlp(sizes(3)), sgd(0.1)).double()
    before = [p.detach().clone() for p in rule.parameters()]
    found = dependence(rule, (X.double(), PROBE[1]))
    assert all(v > 0 for line in found for v in line)
    assert all(torch.equal(a, b) for a, b in zip(before, rule.parameters(), strict=True))


def test_a_step_that_looks_at_a_clock_of_its_own_is_refused():
    calls = []

    class Impure(Backprop):
        def credit(self, batch):
            calls.append(1)
            out = super().credit(batch)
            self.units[0][0].weight.grad *= len(calls)
            return out

    with pytest.raises(ContractError, match="ended equal steps in two ways"):
        audit(dense(Impure), PROBE)


def test_a_difference_from_the_stated_row_names_both_values():
    found = audit(dense(Leaky), PROBE, depths=(2, 4))
    with pytest.raises(AuditMismatch, match="crossings is 3, not 0"):
        found.expect(crossings=0)
    with pytest.raises(AuditMismatch, match="'no property', not 1"):
        found.expect(backward=1)


def test_a_finding_fails_the_row_unless_it_is_known():
    found = audit(dense(Local), PROBE, depths=(2, 4))
    found.expect(**LOCAL)
    found.findings.append("outside of PyTorch: a step starts a thread")
    with pytest.raises(AuditMismatch, match="starts a thread"):
        found.expect(**LOCAL)
    found.expect(**LOCAL, findings=("outside of PyTorch",))


def test_the_audit_goes_into_a_record():
    found = audit(dense(Backprop), PROBE, depths=(2, 4))
    text = json.dumps(found.as_dict(), allow_nan=False)
    assert json.loads(text)["weight_transport"] == "full"


def test_a_trained_rule_is_measured_as_it_is_now():
    trained = dense(Feedback)(4)
    with torch.no_grad():
        for n, unit in enumerate(trained.units):
            trained.matrix(n).copy_(unit[0].weight)  # aligned, but not the weights
    audit(dense(Feedback), PROBE, depths=(2, 4), trained=trained).expect(**FEEDBACK)


@pytest.mark.parametrize(
    ("held", "word"),
    [
        ({2: 0, 4: 0, 8: 0}, "none"),
        ({2: 8, 4: 10, 8: 10, 16: 10}, "flat"),
        ({2: 8, 4: 10, 8: 14, 16: 22}, "linear"),
        ({2: 8, 4: 8}, "flat"),
        ({2: 8, 4: 16}, "linear"),
    ],
)
def test_growth_of_bytes_in_words(held, word):
    assert growth(held) == word


def test_growth_needs_two_depths():
    with pytest.raises(ValueError, match="two depths or more"):
        growth({4: 8})


@pytest.mark.parametrize(
    ("entry", "word"), [(0.0, "none"), (1.0, "full"), (NAN, "undefined")]
)
def test_only_what_lies_above_the_diagonal_fills(entry, word):
    assert fill([[9.0, entry], [9.0, 9.0]]) == word


def test_one_undefined_entry_forbids_none():
    assert fill([[0, 0, NAN], [0, 0, 0.0], [0, 0, 0]]) == "undefined"
    assert fill([[0, 1, NAN], [0, 0, 0.0], [0, 0, 0]]) == "part"


def test_a_training_loop_of_ones_own_is_audited_in_ten_lines():
    def model(depth):
        layers = [nn.Sequential(nn.Linear(20, 20), nn.Tanh()) for _ in range(depth - 1)]
        net = nn.Sequential(*layers, nn.Linear(20, 4))
        return net, torch.optim.Adam(net.parameters(), 0.01)

    def step(net, optimizer, batch):
        optimizer.zero_grad()
        F.cross_entropy(net(batch[0]), batch[1]).backward()
        optimizer.step()

    found = audit_step(model, step, PROBE)
    found.expect(**GLOBAL, live_memory="linear", forward=1)
    assert found.alignment == pytest.approx([1] * 4)
