"""Training through Lightning: the loop adds nothing, resumes bit for bit, scales out."""

import csv
import math
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from lightning.fabric.utilities import registry
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger

from bpfree_common import Backprop, adam, fit, knn_graph, load_data, lr_grid, mlp, sgd
from bpfree_common.errors import ContractError
from bpfree_common.learning import training
from bpfree_common.learning.batches import Batches
from bpfree_common.learning.training import evaluate, train, trainer

SIZES = [64, 24, 10]


class Noisy(Backprop):
    """Backpropagation with noise, to see whether randomness is keyed by step."""

    def credit(self, batch):
        out = super().credit(batch)
        for p in self.parameters():
            p.grad += 0.01 * torch.randn_like(p)
        return out


@pytest.fixture(scope="module")
def digits():
    return load_data("digits").flat()


def make(kind=Backprop, recipe=None):
    torch.manual_seed(3)
    return kind(mlp(SIZES), recipe or adam(3e-3))


def weights(rule):
    return torch.cat([p.detach().flatten() for p in rule.parameters()])


def test_the_trainer_does_what_a_bare_loop_does(digits):
    rule = fit(make(recipe=sgd(0.1, momentum=0.9)), digits, 2, 64, seed=5)
    bare = make()
    optimizer = torch.optim.SGD(bare.parameters(), lr=0.1, momentum=0.9)
    batches = Batches(digits.x_train, digits.y_train, 64, shuffle_seed=5)
    for epoch in range(2):
        batches.set_epoch(epoch)
        for x, y in batches:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(bare(x), y).backward()
            optimizer.step()
    assert torch.allclose(weights(rule), weights(bare), atol=1e-6)


def test_the_history_has_one_row_per_epoch_with_loss_and_validation(digits):
    rule = fit(make(), digits, epochs=3, batch_size=64)
    assert [row["epoch"] for row in rule.history] == [1, 2, 3]
    assert rule.history[-1]["loss"] < rule.history[0]["loss"]
    expected = evaluate(rule, digits.x_val, digits.y_val)
    assert rule.history[-1]["validation"] == pytest.approx(expected)


def test_alignment_is_tracked_without_touching_the_training(digits):
    plain = fit(make(Noisy), digits, 2, 64)
    tracked = fit(make(Noisy), digits, 2, 64, track_alignment=True)
    assert torch.equal(weights(plain), weights(tracked))
    assert [row["epoch"] for row in tracked.history] == [0, 1, 2]
    assert all(len(row["alignment"]) == 2 for row in tracked.history)


def test_equal_seeds_give_equal_weights_and_other_seeds_do_not(digits):
    one, two = (weights(fit(make(Noisy), digits, 1, 64, seed=1)) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, weights(fit(make(Noisy), digits, 1, 64, seed=2)))


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(digits, tmp_path):
    whole = fit(make(Noisy), digits, 4, 64)
    fit(make(Noisy), digits, 2, 64, checkpoint=tmp_path)  # interrupted after two epochs
    resumed = fit(make(Noisy), digits, 4, 64, checkpoint=tmp_path)
    assert torch.equal(weights(whole), weights(resumed))
    assert whole.history == resumed.history


def test_an_execution_of_no_step_is_refused_in_one_sentence(digits):
    with pytest.raises(ValueError, match="steps_per_execution is 0: give a number of 1"):
        fit(make(Noisy), digits, 1, 64, steps_per_execution=0)


def test_how_many_steps_lightning_starts_at_once_changes_nothing(digits):
    one, many = (
        fit(make(Noisy), digits, 2, 64, steps_per_execution=n) for n in (1, 1000)
    )
    assert torch.equal(weights(one), weights(many))
    assert one.history == many.history
    steps = len(digits.y_train) // 64
    assert one.steps_per_epoch == many.steps_per_epoch == steps
    assert one.global_step == many.global_step == 2 * steps


def test_learning_rate_schedules_step_by_step_and_epoch(digits):
    class Scheduled(Backprop):
        interval = "step"

        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
            return [optimizer], [{"scheduler": schedule, "interval": self.interval}]

    steps = len(Batches(digits.x_train, digits.y_train, 256, shuffle_seed=0))
    for interval, count in (("step", 2 * steps), ("epoch", 2)):
        rule = make(Scheduled, sgd(1.0))
        rule.interval = interval
        fit(rule, digits, 2, 256)
        lr = rule.trainer.optimizers[0].param_groups[0]["lr"]
        assert lr == pytest.approx(0.5**count)


# --- cooling ----------------------------------------------------------------------------


def rates_of_a_run(digits, kind, recipe=None, epochs=3):
    """The rates of all optimiser steps of a cooled run, read inside of `step`."""
    torch.manual_seed(3)
    rule, seen = kind(mlp(SIZES), recipe or sgd(0.1)), []

    def look(optimizer, *_):
        seen.append(optimizer.param_groups[0]["lr"])

    class Look(Callback):
        """Registers after the cooling: what it sees is what the step uses."""

        def on_train_batch_start(self, trainer, rule, batch, batch_idx):
            if not seen:
                for optimizer in trainer.optimizers:
                    optimizer.register_step_pre_hook(look)

    fit(rule, digits, epochs, 256, cool=True, callbacks=[Look()])
    return rule, seen


def straight(steps):
    """Constant over the first half of so many steps, then linearly towards zero."""
    return [1.0 if s <= steps / 2 else (steps - s) / (steps / 2) for s in range(steps)]


STEPS = 3 * (1083 // 256)  # three epochs of digits in whole batches


def test_cooled_rates_are_constant_and_then_fall_linearly_to_a_positive_one(digits):
    rule, seen = rates_of_a_run(digits, Backprop)
    assert seen == pytest.approx([0.1 * f for f in straight(STEPS)])
    assert seen[: STEPS // 2] == [0.1] * (STEPS // 2)
    assert seen[-1] == pytest.approx(0.1 * 2 / STEPS)
    assert rule.trainer.optimizers[0].param_groups[0]["lr"] == 0.1


def test_cooling_multiplies_what_a_rules_own_schedule_and_hooks_set(digits):
    class Scheduled(Backprop):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            optimizer.register_step_pre_hook(self.double)
            optimizer.register_step_post_hook(self.halve)
            schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

        def double(self, optimizer, *_):
            optimizer.param_groups[0]["lr"] *= 2

        def halve(self, optimizer, *_):
            optimizer.param_groups[0]["lr"] /= 2

    _, seen = rates_of_a_run(digits, Scheduled)
    own = [0.2 * 0.9**s for s in range(STEPS)]
    assert seen == pytest.approx(
        [r * f for r, f in zip(own, straight(STEPS), strict=True)]
    )


def test_each_group_cools_from_its_own_rate_in_every_optimiser(digits):
    class Two(Backprop):
        def configure_optimizers(self):
            first, last = self.units[0].parameters(), self.units[1].parameters()
            return [torch.optim.SGD(first, lr=0.4), torch.optim.Adam(last, lr=0.001)]

    _, seen = rates_of_a_run(digits, Two)
    assert seen[::2] == pytest.approx([0.4 * f for f in straight(STEPS)])
    assert seen[1::2] == pytest.approx([0.001 * f for f in straight(STEPS)])


def test_optimiser_steps_within_one_training_step_cool_alike(digits):
    class Twice(Backprop):
        def step(self, batch):
            super().step(batch)
            self.optimizers().step()

    _, seen = rates_of_a_run(digits, Twice)
    assert seen[::2] == seen[1::2]
    assert seen[::2] == pytest.approx([0.1 * f for f in straight(STEPS)])


@pytest.mark.parametrize("steps_per_execution", [1, 5, 1000])
def test_a_cooled_run_that_was_interrupted_ends_as_if_it_had_not(
    digits, tmp_path, steps_per_execution
):
    class Fails(Noisy):
        def on_train_epoch_start(self):
            if self.current_epoch == 3:
                raise InterruptedError

    options = {"cool": True, "steps_per_execution": steps_per_execution}
    whole = fit(make(Noisy), digits, 4, 64, cool=True)
    with pytest.raises(InterruptedError):
        fit(make(Fails), digits, 4, 64, checkpoint=tmp_path, **options)
    resumed = fit(make(Noisy), digits, 4, 64, checkpoint=tmp_path, **options)
    assert resumed.steps_taken == 4 * (len(digits.y_train) // 64) - 1
    assert torch.equal(weights(whole), weights(resumed))
    assert whole.history == resumed.history
    assert not torch.equal(weights(whole), weights(fit(make(Noisy), digits, 4, 64)))


def test_a_run_of_another_length_or_rate_does_not_go_on_from_a_cooled_one(
    digits, tmp_path
):
    for epochs, cool in ((1, True), (2, True), (2, False)):
        kept = fit(make(), digits, epochs, 256, cool=cool, checkpoint=tmp_path)
        plain = fit(make(), digits, epochs, 256, cool=cool)
        assert torch.equal(weights(kept), weights(plain))


def test_global_step_counts_steps_so_that_limits_and_checkpoints_work(digits):
    rule = make()
    loop = trainer(1)
    loop.fit(rule, Batches(digits.x_train, digits.y_train, 64, shuffle_seed=0))
    assert loop.global_step == len(digits.y_train) // 64


def test_a_hook_before_optimiser_steps_is_called_for_each_and_changes_nothing(digits):
    class Listener(Callback):
        heard = 0

        def on_before_optimizer_step(self, trainer, rule, optimizer):
            self.heard += 1

    class Own(Noisy):
        heard = 0

        def on_before_optimizer_step(self, optimizer):
            self.heard += 1

    listener = Listener()
    plain = fit(make(Noisy), digits, 2, 64)
    heard = fit(make(Noisy), digits, 2, 64, callbacks=[listener])
    own = fit(make(Own), digits, 2, 64)
    assert listener.heard == own.heard == 2 * (len(digits.y_train) // 64)
    for rule in (heard, own):
        assert torch.equal(weights(plain), weights(rule))
        assert rule.global_step == plain.global_step


def test_packages_are_asked_for_callbacks_once(digits, monkeypatch):
    asked = []
    monkeypatch.setattr(registry, "entry_points", lambda group: asked.append(group) or [])
    for _ in range(3):
        fit(make(), digits, 1, 64)
    assert asked == ["lightning.pytorch.callbacks_factory"]


def test_a_rule_with_a_stray_parameter_is_refused_before_training(digits):
    rule = make()
    rule.stray = torch.nn.Parameter(torch.zeros(2))
    with pytest.raises(ContractError, match="'stray' belongs to no unit"):
        fit(rule, digits, 1, 64)


def test_an_attribute_that_hides_a_method_is_named_before_training(digits):
    rule = make()
    rule.rows = 5
    with pytest.raises(ContractError, match="sets `self.rows`, which hides the method"):
        fit(rule, digits, 1, 64)


def test_a_rule_without_units_or_without_trainable_parameters_is_refused(digits):
    empty = Backprop(mlp([64]), adam(3e-3))
    with pytest.raises(ContractError, match="Backprop has no unit: a network needs one"):
        fit(empty, digits, 1, 64)
    rule = make()
    rule.requires_grad_(False)
    with pytest.raises(ContractError, match="Backprop has no parameter to train"):
        fit(rule, digits, 1, 64)


# --- runs -------------------------------------------------------------------------------


def run(digits, kind=Backprop, build=None, **options):
    def made(lr):
        return kind(mlp(SIZES), sgd(lr))

    return train("arm", build or made, {"lr": 0.1}, digits, 7, 2, 64, **options)


def test_a_run_keeps_what_was_trained_and_how_well_it_does(digits):
    done = run(digits)
    assert (done.arm, done.seed, done.hyper) == ("arm", 7, {"lr": 0.1})
    assert done.updates == 2 * (len(digits.y_train) // 64)
    for split in ("val", "test"):
        x, y = digits.split(split)
        right = (done.rule(x).argmax(1) == y).float().mean()
        found = done.test if split == "test" else done.validation
        assert found == pytest.approx(float(right))
    assert done.history[-1]["validation"] == done.validation
    assert done.seconds > 0


def test_runs_cool_unless_told_otherwise(digits):
    for options, cool in (({}, True), ({"cool": False}, False)):
        torch.manual_seed(7)
        rule = fit(Backprop(mlp(SIZES), sgd(0.1)), digits, 2, 64, seed=7, cool=cool)
        assert torch.equal(weights(rule), weights(run(digits, **options).rule))


def test_a_tuning_run_is_the_reporting_run_without_the_test_split(digits):
    class Untouched:
        """Stands for a test split: any use but hiding it is an error."""

        def __getitem__(self, index):
            return torch.empty(0)

    hidden = replace(digits, x_test=Untouched(), y_test=Untouched())
    tuning, reporting = run(hidden, test=False), run(digits)
    assert math.isnan(tuning.test)
    assert torch.equal(weights(tuning.rule), weights(reporting.rule))
    assert tuning.validation == reporting.validation


def test_the_test_split_is_out_of_reach_while_a_rule_trains(digits, monkeypatch):
    handed = []

    def spy(rule, data, *arguments, **options):
        handed.append(data)
        return fit(rule, data, *arguments, **options)

    monkeypatch.setattr(training, "fit", spy)
    done = run(digits)
    (data,) = handed
    assert len(data.x_test) == len(data.y_test) == 0
    assert not math.isnan(done.test)


def test_updates_count_the_steps_of_each_optimiser_once(digits):
    class Two(Backprop):
        def configure_optimizers(self):
            return [self.recipe(unit.parameters()) for unit in self.units]

    class Thrice(Two):
        def step(self, batch):
            super().step(batch)
            for optimizer in 2 * self.optimizers():
                optimizer.step()

    batches = 2 * (len(digits.y_train) // 64)
    assert run(digits, Two).updates == batches
    assert run(digits, Thrice).updates == 3 * batches


@pytest.mark.parametrize("what", ["weight", "buffer", "gradient"])
@pytest.mark.parametrize("where", ["while it trains", "afterwards"])
def test_a_rule_that_learns_while_it_is_measured_is_refused(digits, what, where):
    class Cheat(Backprop):
        """Changes itself in `score`."""

        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.register_buffer("seen", torch.zeros(()))

        def score(self, batch):
            validating = self.trainer.state.stage == "validate"
            if (where == "while it trains") == validating:
                if what == "weight":
                    self.units[0][0].weight.data += 1
                elif what == "buffer":
                    self.seen += 1
                else:
                    self.units[0][0].weight.grad = torch.ones(24, 64)
            return super().score(batch)

    with pytest.raises(ContractError, match="measuring Cheat changed its"):
        run(digits, Cheat)


def test_measuring_a_rule_that_diverged_is_no_change(digits):
    def build(lr):
        return Backprop(mlp(SIZES), sgd(1e30))

    assert not weights(run(digits, build=build).rule).isfinite().all()


def test_measuring_a_rule_with_statistics_and_dropout_is_no_change(digits):
    def build(lr):
        hidden = torch.nn.Sequential(
            torch.nn.Linear(64, 24), torch.nn.BatchNorm1d(24), torch.nn.Dropout()
        )
        return Backprop(torch.nn.ModuleList([hidden, torch.nn.Linear(24, 10)]), sgd(lr))

    assert run(digits, build=build).test > 0.5


@pytest.mark.parametrize("name", ["graph", "table"])
def test_hiding_the_test_split_hides_its_labels_and_nothing_else(digits, name):
    whole = knn_graph(digits) if name == "graph" else digits
    hidden = whole.without_test()
    assert len(hidden.x_test) == len(hidden.y_test) == 0
    for split in ("train", "val"):
        for one, other in zip(whole.split(split), hidden.split(split), strict=True):
            assert torch.equal(one, other)
    if whole.graph is not None:
        assert (hidden.graph.y[whole.x_test] == -1).all()
        seen = torch.cat([whole.x_train, whole.x_val])
        assert torch.equal(hidden.graph.y[seen], whole.graph.y[seen])
        assert torch.equal(whole.graph.y[whole.x_test], whole.y_test)


def test_the_grid_surrounds_its_centre():
    assert lr_grid(0.01, 3) == [0.00333, 0.01, 0.03]
    assert lr_grid(0.01, 1) == [0.01]


RANKS = """
import sys, torch
from bpfree_common import Backprop, load_data, mlp, sgd
from bpfree_common.learning import training
from bpfree_common.learning.batches import Batches
from bpfree_common.learning.training import trainer
torch.manual_seed(3)
rule = Backprop(mlp([64, 24, 10]), sgd(0.1))
data = load_data("digits").flat()
loop = trainer(1, devices=2, strategy="ddp")
batches = Batches(data.x_train, data.y_train, 64, 0, loop.global_rank, 2)
loop.fit(rule, batches, Batches(data.x_val, data.y_val, 500))
if loop.global_rank == 0:
    torch.save(rule.state_dict(), sys.argv[1])
"""


def test_two_ranks_do_what_one_rank_does(digits, tmp_path):
    script = tmp_path / "ranks.py"
    script.write_text(RANKS)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "BPFREE_DEVICE": "cpu"}
    subprocess.run(
        [sys.executable, str(script), str(tmp_path / "two.pt")],
        env=environment, check=True, timeout=300, capture_output=True,
    )  # fmt: skip
    one = fit(make(recipe=sgd(0.1)), digits, 1, 64)
    two = torch.load(tmp_path / "two.pt")
    for name, value in one.state_dict().items():
        assert torch.allclose(value, two[name], atol=1e-5), name


def test_a_logger_is_given_every_row_of_the_history(digits, tmp_path):
    """What has a value per unit stands under the unit's number."""
    logger = CSVLogger(tmp_path, name="mine", version="seed-5")
    rule = fit(make(), digits, 2, 64, seed=5, track_alignment=True, logger=logger)
    with (tmp_path / "mine/seed-5/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    trained = [row for row in rule.history if row["epoch"] > 0]
    assert [int(row["epoch"]) for row in rows] == [1, 2]
    for row, seen in zip(trained, rows, strict=True):
        assert float(seen["validation"]) == pytest.approx(row["validation"])
        assert float(seen["alignment/1"]) == pytest.approx(row["alignment"][1])


def test_a_logger_changes_nothing_about_the_run(digits, tmp_path):
    plain = fit(make(), digits, 1, 64, seed=5)
    logged = fit(make(), digits, 1, 64, seed=5, logger=CSVLogger(tmp_path))
    assert torch.equal(weights(plain), weights(logged))
    assert plain.history == logged.history


class Transposed(Backprop):
    """Backpropagation whose credits lie in memory column by column."""

    def credit(self, batch):
        out = super().credit(batch)
        for p in self.parameters():
            if p.dim() == 2:
                p.grad = p.grad.T.contiguous().T
        return out


def test_a_credit_in_another_order_of_memory_is_refused_and_not_misread(digits):
    """Fused SGD takes such numbers in the wrong order and says nothing."""
    with pytest.raises(ContractError, match="'units.0.*lies in memory otherwise"):
        fit(make(Transposed, sgd(0.1)), digits, 1, 64)
