"""Target projection: its identities hold, defects and cheats are caught."""

import pytest
import torch
from support import (
    LOCAL,
    assert_caught,
    assert_fixed_but_saved,
    assert_identities_hold,
    small_batch,
    small_sizes,
)
from torch import nn

from bpfree_common.data.tasks import load_data
from bpfree_common.learning.networks import mlp
from bpfree_common.learning.opponents import Backprop
from bpfree_common.learning.optim import sgd
from bpfree_common.learning.training import fit
from bpfree_common.measuring.audit import audit
from bpfree_common.measuring.cost import measure

SLUG = "target_projection"
TPSGD = "tpSGD is the gradient of |Y P - h|^2 / 2 in each layer"
DRTP = "DRTP is the gradient of <Y P, h> in each layer"
VARIANTS = "the l1 and logistic variants are gradients of their losses"
FAST = "the fast form gives the same credits as the plain one"
SIGNS = "l1 with targets beyond tanh's range is DRTP with sign targets, bit by bit"
READ_OUT = "the read-out has the true gradient of its own weights"
CONV = "convolutions: the gradient of the mean over positions"
SAME_NETWORK = "the convolutional network is the one that backpropagation trains"
MEANS = "map means: the gradient of |T - mean of h|^2 / 2"
EVERY = "recurrent, every step: delta_t = (h_t - Y P)(1 - h_t^2)"
WINDOW = "recurrent, whole window: BPTT of the layer's own loss"
GREEDY = "greedy: only the unit whose turn it is changes, and as in tpSGD"
UNIFORM = "DRTP's targets are uniform within sqrt(6 / n)"

MUTATIONS = {
    "flipped sign of the residual": (
        '"l2": lambda h, T: h - T,',
        '"l2": lambda h, T: T - h,',
        TPSGD,
    ),
    "no slope": ("isinstance(f, nn.Tanh) else 1", "False else 1", TPSGD),
    "sum for mean": ("* slope / len(y)", "* slope", TPSGD),
    "targets of the wrong class": ("T = Y @ ", "T = Y.roll(1, 1) @ ", TPSGD),
    "bias forgotten": (
        "linear.bias.grad = delta.sum(0)",
        "linear.bias.grad = 0 * delta.sum(0)",
        TPSGD,
    ),
    "DRTP sees its own output": (
        '"inner": lambda h, T: T,',
        '"inner": lambda h, T: T - h,',
        DRTP,
    ),
    "DRTP that stops": (
        '"inner": lambda h, T: T,',
        '"inner": lambda h, T: 0 * T,',
        DRTP,
    ),
    "l1 without the sign": ("(h - T).sign()", "(h - T)", VARIANTS),
    "logistic with the slope": ("(h - T) / (1 - h**2)", "(h - T)", VARIANTS),
    "error of the read-out is a sum": (
        "(scores.softmax(1) - Y) / len(y)",
        "(scores.softmax(1) - Y)",
        READ_OUT,
    ),
    "fast form without the slope": (
        "not isinstance(activation, nn.Tanh)",
        "True",
        FAST,
    ),
    "fast form of the wrong class": ("select(0, y)", "select(0, (y + 1) % 3)", FAST),
    "fast logistic with the slope": ('if loss == "logistic" or', "if", FAST),
    "fast l1 without the sign": ("signal.sign_()", "signal", SIGNS),
    "sum over positions": ("* h.shape[2:].numel())", "* 1)", CONV),
    "averages in place of maxima": (
        "units[l].pop(2)",
        "units[l].pop(2) and nn.AvgPool2d(2)",
        SAME_NETWORK,
    ),
    "map means of each position": (
        "delta = (mean - T)",
        "delta = (h - T)",
        MEANS,
    ),
    "taught at the last step only": ("if always or t == last:", "if t == last:", EVERY),
    "state forgotten between steps": ("self.W(h)", "self.W(0 * h)", EVERY),
    "window of one step": ("t > last - self.window", "t > last - 1", WINDOW),
    "greedy trains a finished unit": (
        "self.learn(self.phase, h, y)",
        "self.learn(self.phase, h, y), self.learn(0, batch[0], y)",
        GREEDY,
    ),
    "greedy changes what is frozen": (
        "h = unit(joint(h))  # frozen",
        "h = 0.5 * unit(joint(h))",
        GREEDY,
    ),
    "bound of the wrong initialisation": ("(6 / shape", "(3 / shape", UNIFORM),
}


def test_identities_of_target_projection_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_target_projection_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


# --- the audit -------------------------------------------------------------------------


def audited(paper, **options):
    def build(n):
        return paper.build_dense(small_sizes(n - 1), sgd(0.1), **options)

    return audit(build, small_batch(), depths=(2, 4, 8))


@pytest.mark.parametrize("loss", ["l2", "l1", "logistic", "inner"])
def test_target_projection_is_clean_in_every_column(paper, loss):
    audited(paper, loss=loss).expect(**LOCAL, live_memory="flat", forward=1.0)


def test_the_plain_rule_is_local_too(paper):
    def build(n):
        units = mlp(small_sizes(n - 1), "tanh", "xavier")
        return paper.PlainTargetProjection(units, sgd(0.1), (16,))

    audit(build, small_batch(), depths=(2, 4)).expect(**LOCAL, forward=1.0)


@pytest.mark.parametrize("rule", ["TargetProjection", "MapMeans"])
def test_convolutions_are_taught_locally(paper, rule):
    def build(n):
        convs = [
            nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Tanh()) for _ in range(n - 1)
        ]
        units = nn.ModuleList([*convs, nn.Sequential(nn.Linear(128, 3))])
        joints = [nn.Identity() for _ in convs] + [nn.Flatten()]
        options = {"joints": nn.ModuleList(joints)}
        return getattr(paper, rule)(units, sgd(0.1), (8, 4, 4), **options)

    images = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    found = audit(build, (images, torch.tensor([0, 1])), depth=3, depths=(2, 4, 8))
    found.expect(**LOCAL, live_memory="flat", forward=1.0)


def test_a_rule_that_peeks_at_the_prediction_is_caught(paper):
    class Cheat(paper.TargetProjection):
        """Learns the more the worse the prediction, as an error-driven rule would."""

        @torch.no_grad()
        def credit(self, batch):
            log = super().credit(batch)
            for unit in self.units[:-1]:
                unit[0].weight.grad.mul_(log["loss"])
            return log

    assert audited(paper, rule=Cheat).locking == "full"


def test_a_rule_that_keeps_its_activities_is_caught(paper):
    class Hoarder(paper.TargetProjection):
        """Runs the whole network first, as a locked rule must."""

        @torch.no_grad()
        def credit(self, batch):
            kept = self.outputs(batch[0])
            log = super().credit(batch)
            return log if len(kept) else {}

    assert audited(paper, rule=Hoarder).live_memory == "linear"


def test_a_step_holds_three_layers_at_any_depth(paper):
    batch = (torch.randn(100, 64), torch.arange(100) % 10)
    layer = 4 * 100 * 64  # bytes of one layer's outputs, float32
    for depth in (4, 8, 16):
        equal = [64] * depth + [10]
        held = measure(paper.build_dense(equal, sgd(0.1)), batch).live_bytes
        assert held // layer == 3  # and a few bytes of numbers to log
        theirs = measure(Backprop(mlp(equal, "tanh"), sgd(0.1)), batch).live_bytes
        assert theirs >= (depth - 1) * layer


@pytest.mark.parametrize("window", [0, 1, 4])
def test_recurrent_memory_does_not_grow_with_the_sequence(paper, window):
    def held(steps):
        torch.manual_seed(0)
        units = nn.ModuleList([paper.Recurrent(5, 8), nn.Sequential(nn.Linear(8, 3))])
        rule = paper.RecurrentTargets(units, sgd(0.1), (steps, 5), window)
        return measure(rule, (torch.randn(6, steps, 5), torch.arange(6) % 3)).live_bytes

    assert held(16) == held(64)


# --- training --------------------------------------------------------------------------


def test_the_greedy_schedule_freezes_finished_layers_bit_by_bit(paper):
    task = load_data("digits").flat().take(200)
    torch.manual_seed(0)
    rule = paper.build_dense([64, 8, 8, 10], sgd(0.1, 0.9), rule=paper.Greedy, span=1)
    seen = []

    def note():
        seen.append([[p.clone() for p in unit.parameters()] for unit in rule.units])

    note()
    end = rule.on_train_epoch_end
    rule.on_train_epoch_end = lambda: (note(), end())
    fit(rule, task, 3, 20)
    for epoch in range(3):
        same = [
            all(torch.equal(a, b) for a, b in zip(old, new, strict=True))
            for old, new in zip(seen[epoch], seen[epoch + 1], strict=True)
        ]
        assert same == [unit != epoch for unit in range(3)]


def test_targets_are_buffers_and_survive_a_checkpoint(paper):
    one, other = (paper.build_dense(small_sizes(3), sgd(0.1)) for _ in range(2))
    assert_fixed_but_saved(one, other, "P0")
