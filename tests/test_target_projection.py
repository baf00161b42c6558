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
from bpfree_common.former.audit import audit
from bpfree_common.former.cost import measure
from bpfree_common.learning.baselines import Backprop
from bpfree_common.learning.networks import mlp
from bpfree_common.learning.optim import sgd
from bpfree_common.learning.training import fit

SLUG = "target_projection"
TPSGD = "tpSGD is the gradient of |Y P - h|^2 / 2 in each layer"
DRTP = "DRTP is the gradient of <Y P, h> in each layer"
VARIANTS = "the l1 and logistic variants are gradients of their losses"
READ_OUT = "the read-out has the true gradient of its own weights"
CONV = "convolutions: the gradient of the mean over positions"
SAME_NETWORK = "the convolutional network is the one that backpropagation trains"
EVERY = "recurrent, every step: delta_t = (h_t - Y P)(1 - h_t^2)"
WINDOW = "recurrent, whole window: BPTT of the layer's own loss"
GREEDY = "greedy: only the unit whose turn it is changes, and as in tpSGD"
UNIFORM = "DRTP's targets are uniform within sqrt(6 / n)"

MUTATIONS = {
    "flipped sign of the residual": (
        "torch.sub(h, T, out=T)",
        "torch.sub(T, h, out=T)",
        TPSGD,
    ),
    "no slope": ("not isinstance(activation, nn.Tanh)", "True", TPSGD),
    "factor 2 of the loss that is not halved": (
        "delta.div_(len(y) *",
        "delta.mul_(2).div_(len(y) *",
        TPSGD,
    ),
    "sum for mean": ("delta.div_(len(y) * h", "delta.div_(h", TPSGD),
    "targets of the wrong class": ("select(0, y)", "select(0, (y + 1) % 3)", TPSGD),
    "DRTP sees its own output": ('if loss != "inner":', "if True:", DRTP),
    "DRTP that stops": ("signal = T  #", "signal = 0 * T  #", DRTP),
    "l1 without the sign": ("signal.sign_()", "signal", VARIANTS),
    "logistic with the slope": ('if loss == "logistic" or', "if", VARIANTS),
    "error of the read-out is a sum": (
        "log_p.shape[1])) / len(y)",
        "log_p.shape[1]))",
        READ_OUT,
    ),
    "bias forgotten": ("delta.sum(0)\n", "0 * delta.sum(0)\n", TPSGD),
    "sum over positions": ("* h.shape[2:].numel()", "* 1", CONV),
    "averages in place of maxima": (
        "units[l].pop(2)",
        "units[l].pop(2) and nn.AvgPool2d(2)",
        SAME_NETWORK,
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
    audited(paper, loss=loss).expect(**LOCAL, memory="none", live_memory="flat")


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
        assert held == 3 * layer
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
