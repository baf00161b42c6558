"""Counts are exact: they are compared with arithmetic, not with what the code returns."""

import copy
import time

import pytest
import torch

from bpfree_common import Backprop, LearningRule, gcn, load_data, mlp, sgd
from bpfree_common.data.tasks import knn_graph
from bpfree_common.former.cost import measure, step_time_ratios

BATCH = (torch.randn(8, 20), torch.arange(8) % 3)
SIZES = [20, 16, 12, 3]
PRODUCTS = 20 * 16 + 16 * 12 + 12 * 3


def test_flops_of_backprop_are_three_forward_passes_less_one_product():
    counted = measure(Backprop(mlp(SIZES), sgd(0.1)), BATCH)
    assert counted.flops == 2 * 8 * (3 * PRODUCTS - 20 * 16)  # no gradient of the input


def test_saved_bytes_of_backprop_are_its_activations():
    saved = measure(Backprop(mlp(SIZES), sgd(0.1)), BATCH).saved_bytes
    # inputs of the three layers; a ReLU keeps its output, the next layer's input;
    # then log-probabilities, labels and the weight total of the cross-entropy
    activations = 8 * (20 + 16 + 12) * 4
    head = 8 * 3 * 4 + 8 * 8 + 4
    assert saved == activations + head


def test_a_view_of_a_large_tensor_counts_only_its_own_bytes():
    big = torch.randn(10_000, 20)
    rule = Backprop(mlp(SIZES), sgd(0.1))
    view = measure(rule, (big[:8], BATCH[1]))
    copy = measure(rule, (big[:8].clone(), BATCH[1]))
    assert view == copy


class Directional(LearningRule):
    """k directional derivatives in one batched forward-mode pass."""

    k = 1

    @torch.no_grad()
    def credit(self, batch):
        x, y = batch
        weights = {n: p.detach() for n, p in self.named_parameters()}
        v = {n: torch.randn(self.k, *p.shape) for n, p in weights.items()}

        def loss(w):
            out = torch.func.functional_call(self, w, (x,))
            return torch.nn.functional.cross_entropy(out, y)

        def slope(v):
            return torch.func.jvp(loss, (weights,), (v,))[1]

        slopes = torch.vmap(slope)(v)
        for n, p in self.named_parameters():
            p.grad = torch.tensordot(slopes, v[n], 1) / self.k
        return {}


@pytest.mark.parametrize("k", [1, 5])
def test_directional_derivatives_are_counted_and_save_nothing(k):
    rule = Directional(mlp(SIZES), sgd(0.1))
    rule.k = k
    counted = measure(rule, BATCH)
    assert (counted.forward, counted.jvp, counted.backward) == (1, k, 0)
    assert (counted.saved_bytes, counted.crossings) == (0, 0)
    rule.k = k + 1
    # one direction more: W t and v_W x in every layer but W t in the first, whose input
    # has no tangent; then the slope times the direction, for every weight and bias
    tangents = 2 * 8 * (2 * PRODUCTS - 20 * 16) + 2 * (PRODUCTS + 16 + 12 + 3)
    assert measure(rule, BATCH).flops - counted.flops == tangents


def test_stacked_positive_and_negative_data_are_two_passes():
    class Two(Backprop):
        def credit(self, batch):
            x, y = batch
            out = self(torch.cat([x, -x]))
            out.square().sum().backward()
            return {}

    counted = measure(Two(mlp(SIZES), sgd(0.1)), BATCH)
    assert (counted.forward, counted.backward) == (2, 2)


def test_passes_without_a_graph_are_function_evaluations():
    class Search(LearningRule):
        def credit(self, batch):
            with torch.no_grad():
                for _ in range(3):
                    self(batch[0])
            return {}

    counted = measure(Search(mlp(SIZES), sgd(0.1)), BATCH)
    assert (counted.forward, counted.evaluations, counted.backward) == (3, 3, 0)


def test_live_bytes_see_what_a_rule_keeps_in_plain_variables():
    class Hoarder(LearningRule):
        @torch.no_grad()
        def credit(self, batch):
            kept = [torch.ones(1000) for _ in range(7)]
            for p in self.parameters():
                p.grad = torch.zeros_like(p)
            return {"kept": kept[0].sum()}

    counted = measure(Hoarder(mlp(SIZES), sgd(0.1)), BATCH)
    assert counted.saved_bytes == 0
    assert 28_000 <= counted.live_bytes <= 28_100


def test_sparse_products_count_their_nonzeros():
    task = knn_graph(load_data("digits"))
    nodes, nonzeros = len(task.graph.y), task.graph.edges.shape[1] + len(task.graph.y)

    class OnGraph(Backprop):
        def forward(self, rows):
            return super().forward(task.graph.x)[rows]

    rule = OnGraph(gcn(task.graph, [64, 8, 10]), sgd(0.1))
    counted = measure(rule, (task.x_train, task.y_train))
    dense = 2 * nodes * (64 * 8 * 2 + 8 * 10 * 3)  # no gradient of the features
    sparse = 2 * nonzeros * (8 * 2 + 10 * 2)
    assert counted.flops == dense + sparse


def test_timing_steps_leaves_the_rules_as_they_are():
    rules = {name: Backprop(mlp(SIZES), sgd(0.1)) for name in ("a", "backprop")}
    before = {n: copy.deepcopy(rule.state_dict()) for n, rule in rules.items()}
    ratios = step_time_ratios(rules, "backprop", BATCH, repeats=3)
    assert ratios["backprop"] == 1
    for name, rule in rules.items():
        for key, value in rule.state_dict().items():
            assert torch.equal(value, before[name][key])


@pytest.fixture
def one_thread():
    """As many notebooks at once run; a second thread would spin while it waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_time_on_a_processor_does_not_count_others_on_the_machine(one_thread):
    class Interrupted(Backprop):
        def credit(self, batch):
            time.sleep(0.02)  # as when another notebook has the core
            return super().credit(batch)

    rules = {"a": Backprop(mlp(SIZES), sgd(0.1)), "b": Interrupted(mlp(SIZES), sgd(0.1))}
    assert step_time_ratios(rules, "a", BATCH, repeats=3)["b"] < 10  # on the wall > 50


class Alternating(Backprop):
    """Backpropagation on every second step, nothing on the others."""

    period = 2

    def __init__(self, *args):
        super().__init__(*args)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def credit(self, batch):
        self.steps += 1
        return super().credit(batch) if self.steps % 2 == 0 else {}


def test_steps_are_timed_where_they_were_counted_even_with_a_schedule():
    def hurried(parameters):
        def before(optimizer, *_):
            optimizer.param_groups[0]["lr"] = 9.0

        optimizer = sgd(9.0, momentum=0.9)(parameters)
        optimizer.register_step_pre_hook(before)
        return optimizer

    seen = []

    class Watched(Backprop):
        def credit(self, batch):
            seen.append(next(self.parameters()).detach().clone())
            return super().credit(batch)

    step_time_ratios({"a": Watched(mlp(SIZES), hurried)}, "a", BATCH, repeats=2)
    assert len(seen) > 4
    assert all(torch.equal(weight, seen[0]) for weight in seen)


def test_a_rule_that_skips_its_first_step_can_be_timed_with_momentum():
    class TwoSpeeds(Alternating):
        def credit(self, batch):
            logged = super().credit(batch)
            if not logged:
                last = next(self.units[-1].parameters())
                last.grad = torch.ones_like(last)
            return logged

    rule = TwoSpeeds(mlp(SIZES), sgd(0.1, momentum=0.9))
    assert step_time_ratios({"a": rule}, "a", BATCH, repeats=1) == {"a": 1}


def test_a_period_averages_work_takes_the_peak_of_bytes_and_moves_no_counter():
    torch.manual_seed(0)
    always, half = (kind(mlp(SIZES), sgd(0.1)) for kind in (Backprop, Alternating))
    one, two = measure(always, BATCH), measure(half, BATCH)
    assert two.flops == one.flops / 2
    assert (two.forward, two.backward) == (one.forward / 2, one.backward / 2)
    assert (two.saved_bytes, two.crossings) == (one.saved_bytes, one.crossings)
    assert half.steps == 0


class Flat(torch.nn.Module):
    """A layer whose output is a view, as that of `flatten` is."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.linear = torch.nn.Linear(inputs, outputs)

    def forward(self, x):
        return self.linear(x[None]).flatten(0, 1)


class InPlace(Backprop):
    """Applies its activation in place, after the unit."""

    def forward(self, x):
        for unit in self.units:
            x = torch.relu_(unit(x))
        return x


def test_a_backward_pass_through_a_view_changed_in_place_is_counted():
    units = torch.nn.ModuleList([Flat(20, 16), Flat(16, 3)])
    counted = measure(InPlace(units, sgd(0.1)), BATCH)
    assert (counted.forward, counted.backward) == (1, 1)
