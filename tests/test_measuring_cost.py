"""Counts are exact: they are compared with arithmetic, not with what the code returns."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bpfree_common import (
    Backprop,
    LearningRule,
    adam,
    gcn,
    load_data,
    load_rule,
    mlp,
    sgd,
)
from bpfree_common.data.tasks import knn_graph
from bpfree_common.measuring.cost import measure

BATCH = (torch.randn(8, 20), torch.arange(8) % 3)
SIZES = [20, 16, 12, 3]
PRODUCTS = 20 * 16 + 16 * 12 + 12 * 3


class ByHand(LearningRule):
    """Backpropagation by hand, no autograd."""

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
            if n:
                delta = (delta @ linear.weight) * (hs[n] > 0)
        return {}


class AroundUnits(ByHand):
    """The same with products that call no unit."""

    def credit(self, batch):
        x, y = batch
        h = x
        for n, unit in enumerate(self.units):
            h = h @ unit[0].weight.T + unit[0].bias
            h = h.relu() if n < len(self.units) - 1 else h
        F.cross_entropy(h, y).backward()
        return {}


def counted(kind, optimizer=None, **options):
    return measure(kind(mlp(SIZES), optimizer or sgd(0.1), **options), BATCH)


def test_flops_of_backprop_are_three_forward_passes_less_one_product():
    expected = 2 * 8 * (3 * PRODUCTS - 20 * 16)  # no gradient of the input
    assert counted(Backprop).flops == expected


@pytest.mark.parametrize("kind", [ByHand, AroundUnits])
def test_hand_written_backprop_has_the_numbers_of_autograd(kind):
    auto, hand = counted(Backprop), counted(kind)
    assert (hand.flops, hand.forward, hand.evaluations) == (
        auto.flops,
        auto.forward,
        auto.evaluations,
    )


def test_checkpointing_pays_forward_passes_and_no_evaluation():
    found = counted(Backprop, checkpointing=True)
    assert found.forward == pytest.approx(5 / 3)  # all but the first unit twice
    assert found.evaluations == 1


def test_work_in_an_optimiser_hook_and_in_step_is_counted():
    class Hooked(Backprop):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            optimizer.register_step_post_hook(lambda *_: self.work() and None)
            return optimizer

        def step(self, batch):
            super().step(batch)
            self.work()

        def work(self):
            torch.ones(10, 20) @ torch.ones(20, 30)

    extra = counted(Hooked).flops - counted(Backprop).flops
    assert extra == 2 * (2 * 10 * 20 * 30)


def test_the_projection_of_foton_is_counted():
    sizes = [784, 128, 128, 128, 10]
    batch = (torch.rand(64, 784), torch.arange(64) % 10)
    whole = measure(load_rule("foton").build_dense(sizes, sgd(0.1)), batch).flops
    free = load_rule("foton").build_dense(sizes, sgd(0.1))
    free.iterations = 0
    base = measure(Backprop(mlp(sizes), sgd(0.1)), batch).flops
    assert whole / base == pytest.approx(5.91, abs=0.01)
    assert measure(free, batch).flops / base < 1.2


class Directional(LearningRule):
    """One directional derivative, in forward mode."""

    @torch.no_grad()
    def credit(self, batch):
        x, y = batch
        weights = {n: p.detach() for n, p in self.named_parameters()}
        v = {n: torch.randn_like(p) for n, p in weights.items()}

        def loss(w):
            return F.cross_entropy(torch.func.functional_call(self, w, (x,)), y)

        slope = torch.func.jvp(loss, (weights,), (v,))[1]
        for n, p in self.named_parameters():
            p.grad = slope * v[n]
        return {}


def test_a_tangent_is_one_more_pass():
    found = counted(Directional)  # PyTorch multiplies the data's zero tangent too
    assert (found.forward, found.evaluations) == (2, 2)


def test_stacked_positive_and_negative_data_are_two_passes():
    class Two(Backprop):
        def credit(self, batch):
            out = self(torch.cat([batch[0], -batch[0]]))
            out.square().sum().backward()
            return {}

    assert (counted(Two).forward, counted(Two).evaluations) == (2, 2)


def test_a_recurrent_unit_is_passed_once_however_long_the_sequence():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRUCell(5, 6)

        def forward(self, x):
            h = x.new_zeros(len(x), 6)
            for step in x.unbind(1):
                h = self.cell(step, h)
            return h

    units = nn.ModuleList([Reader(), nn.Linear(6, 3)])
    batch = (torch.randn(8, 7, 5), torch.arange(8) % 3)
    found = measure(Backprop(units, sgd(0.1)), batch)
    assert (found.forward, found.evaluations) == (1, 1)


@pytest.mark.parametrize("optimizer", [sgd(0.1), sgd(0.1, momentum=0.9), adam(0.1)])
def test_credits_and_the_state_of_an_optimiser_are_no_live_bytes(optimizer):
    assert counted(Backprop, optimizer).live_bytes == counted(Backprop).live_bytes


def hoard(where):
    """A rule that makes seven times 4,000 bytes and keeps them `where` says."""

    class Hoarder(LearningRule):
        kept = None

        @torch.no_grad()
        def credit(self, batch):
            new = [torch.ones(1000) for _ in range(7)]
            self.kept = where(new)
            for p in self.parameters():
                p.grad = torch.zeros_like(p)
            return {"kept": new[0].sum()}

    return counted(Hoarder).live_bytes


def test_live_bytes_see_what_a_step_holds_in_variables():
    assert 28_000 <= hoard(lambda new: None) <= 28_100


@pytest.mark.parametrize(
    "where",
    [
        list,
        lambda new: {"a": tuple(new)},
        lambda new: lambda: new,
        lambda new: [t.numpy() for t in new],
    ],
    ids=["list", "dict of a tuple", "closure", "arrays that share the memory"],
)
def test_live_bytes_see_what_the_last_step_parked(where):
    # the old ones are there until the new ones are made
    assert 56_000 <= hoard(where) <= 56_100


def test_arrays_copied_out_of_pytorch_count_as_held_to_the_end_of_the_step():
    def released(keep):
        class Copier(LearningRule):
            @torch.no_grad()
            def credit(self, batch):
                for _ in range(7):
                    keep(torch.ones(1000))
                return {"a": torch.ones(1)}

        return counted(Copier).live_bytes

    assert 4_000 <= released(lambda t: None) <= 8_100
    assert 28_000 <= released(lambda t: t.numpy().copy()) <= 28_100
    assert 28_000 <= released(lambda t: t.tolist()) <= 28_100


def test_sparse_products_count_their_nonzeros():
    task = knn_graph(load_data("digits"))
    nodes, nonzeros = len(task.graph.y), task.graph.edges.shape[1] + len(task.graph.y)

    class OnGraph(Backprop):
        def forward(self, rows):
            return super().forward(task.graph.x)[rows]

        def rows(self, batch):
            return nodes

    rule = OnGraph(gcn(task.graph, [64, 8, 10]), sgd(0.1))
    found = measure(rule, (task.x_train, task.y_train))
    dense = 2 * nodes * (64 * 8 * 2 + 8 * 10 * 3)  # no gradient of the features
    sparse = 2 * nonzeros * (8 * 2 + 10 * 2)
    assert (found.flops, found.forward) == (dense + sparse, 1)


class Alternating(Backprop):
    """Backpropagation on every second step, nothing on the others."""

    period = 2

    def __init__(self, *args):
        super().__init__(*args)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def credit(self, batch):
        self.steps += 1
        return super().credit(batch) if self.steps % 2 == 0 else {}


def test_a_period_averages_work_takes_the_peak_of_bytes_and_moves_no_counter():
    one, rule = counted(Backprop), Alternating(mlp(SIZES), sgd(0.1))
    two = measure(rule, BATCH)
    assert two.flops == one.flops / 2
    assert (two.forward, two.evaluations) == (one.forward / 2, one.evaluations / 2)
    assert one.live_bytes <= two.live_bytes <= one.live_bytes + 16
    assert rule.steps == 0


def test_counting_leaves_the_rule_as_it_is():
    rule = Backprop(mlp(SIZES), adam(0.1))
    before = [p.detach().clone() for p in rule.parameters()]
    measure(rule, BATCH)
    assert all(torch.equal(a, b) for a, b in zip(before, rule.parameters(), strict=True))
    assert all(p.grad is None for p in rule.parameters())


def test_products_by_elements_in_place_and_with_vectors_are_counted():
    class Odd(LearningRule):
        @torch.no_grad()
        def credit(self, batch):
            a, b, v = torch.ones(5, 7), torch.ones(7, 3), torch.ones(7)
            (a[:, :, None] * b).sum(1)  # 2 * 5 * 7 * 3
            torch.zeros(5, 3).addmm_(a, b)  # the same
            a @ v  # 2 * 5 * 7
            return {"a": v.sum()}

    assert counted(Odd).flops == 2 * (2 * 5 * 7 * 3) + 2 * 5 * 7
