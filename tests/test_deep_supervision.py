"""Deep supervision: identities hold, defects are caught, only the cut form is local."""

import pytest
import torch
from support import (
    GLOBAL,
    LOCAL,
    assert_caught,
    assert_identities_hold,
    small_batch,
    small_sizes,
    take_steps,
)
from torch import nn
from torch.nn import functional as F

from bpfree_common import load_rule
from bpfree_common.learning import adam, mlp, opponents, sgd, training
from bpfree_common.measuring.audit import audit

SLUG = "deep_supervision"
BACKPROP = "with alpha = 0 it is backprop, bit for bit, and companions get nothing"
SUM = "a layer's credit is the output's and that of companions at or above"
GAMMA = "a companion below gamma contributes exactly nothing"
HINGE = "squared hinge: closed forms, and zero just where all margins are 1"
PAIRS = "pairwise hinge: its sum written out, and no score is preferred"
ARM = "cut, with softmax and alpha = 1, it is the collection's deep supervision"
ADDED = "crossing, with softmax, it is that arm with its losses added"
FADE = "alpha fades as stated"

MUTATIONS = {
    "a margin of the wrong sign": ("F.relu(1 - t * s)", "F.relu(1 + t * s)", HINGE),
    "a hinge that is not squared": (
        "F.relu(1 - t * s).square().sum(1)",
        "F.relu(1 - t * s).sum(1)",
        HINGE,
    ),
    "the right class counts as wrong": (
        "(wrong * F.relu(1 - margin)",
        "(F.relu(1 - margin)",
        PAIRS,
    ),
    "alpha weighs the output": (
        "(loss + companions).backward()",
        "(self.alpha * loss + companions).backward()",
        BACKPROP,
    ),
    "gamma is added": (
        "self.loss(layer.scores(z), y) - self.gamma",
        "self.loss(layer.scores(z), y) + self.gamma",
        GAMMA,
    ),
    "the switch is left out": (
        "alpha * F.relu(self.loss(layer.scores(z), y) - self.gamma)",
        "alpha * (self.loss(layer.scores(z), y) - self.gamma)",
        GAMMA,
    ),
    "companions teach their own layer only": (
        "layer(z.detach() if self.cut else z)",
        "layer(z.detach())",
        SUM,
    ),
    "companions teach no layer": (
        "self.loss(layer.scores(z), y)",
        "self.loss(layer.scores(z.detach()), y)",
        SUM,
    ),
    "the cut form leaks": (
        "layer(z.detach() if self.cut else z)",
        "layer(z)",
        ARM,
    ),
    "the output teaches the last layer of the cut form": (
        "output(z.detach() if self.cut else z), y)",
        "output(z), y)",
        ARM,
    ),
    "only the last companion counts": (
        "companions = companions + own",
        "companions = own",
        ADDED,
    ),
    "companions' rate is the network's": (
        'group["lr"] *= self.head_rate',
        'group["lr"] *= 1.0',
        "companions' weights move head_rate times as far, the others as ever",
    ),
    "alpha grows": ("return 1 - t\n", "return t\n", FADE),
    "companions leave late": ("float(t < 0.25)", "float(t < 0.75)", FADE),
    "alpha is never faded": ("self.fade(past)", "1.0", FADE),
}


def test_identities_of_deep_supervision_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_deep_supervision_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


def rule_of(units: int, optimizer=adam(1e-3), **options):  # noqa: B008
    paper = load_rule(SLUG)
    sizes = small_sizes(units - 1)
    network = paper.with_companions(mlp(sizes), torch.zeros(1, sizes[0]))
    return paper.DSN(network, optimizer, **options)


@pytest.mark.parametrize("loss", ["squared_hinge", "pairwise_hinge"])
def test_the_crossing_form_is_global_and_grows_with_depth(loss):
    loss = getattr(load_rule(SLUG), loss)
    found = audit(lambda units: rule_of(units, loss=loss), small_batch())
    found.expect(**GLOBAL, live_memory="linear", forward=1)


def test_the_cut_form_is_local_and_its_memory_is_flat():
    found = audit(lambda units: rule_of(units, cut=True), small_batch())
    found.expect(**LOCAL, live_memory="flat", forward=1)


def test_steps_of_the_cut_form_are_those_of_the_laboratory():
    """Not one gradient only: weights after several steps, with momentum and decay."""
    x, y = small_batch()
    recipe, after = sgd(0.05, momentum=0.9, weight_decay=1e-3), []
    for form in ("ours", "theirs"):
        torch.manual_seed(1)
        if form == "ours":
            rule = rule_of(3, recipe, cut=True, loss=F.cross_entropy)
        else:
            rule = opponents.DeepSupervision(mlp(small_sizes(2)), recipe, x)
        take_steps(rule.double(), (x.double(), y), 4)
        after.append([*rule.parameters()])
    for a, b in zip(*after, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)


def test_alpha_fades_over_the_steps_of_a_training():
    """With the companions removed at a quarter, later steps are backprop's."""
    paper, seen = load_rule(SLUG), []
    x, y = torch.randn(32, 16), torch.arange(32) % 3
    data = training.Data("noise", 3, x, y, x, y, x, y)

    class Watched(paper.DSN):
        def credit(self, batch):
            logged = super().credit(batch)
            seen.append(bool(self.units[0].head.weight.grad.any()))
            return logged

    units = paper.with_companions(mlp(small_sizes(2)), x)
    rule = Watched(units, sgd(0.01), fade=paper.removed, steps=8)
    training.fit(rule, data, epochs=2, batch_size=8)
    assert seen == [True] * 2 + [False] * 6


def test_fixed_companions_stay_as_they_were_drawn_and_the_network_learns():
    rule = rule_of(3, sgd(0.1, momentum=0.9), head_rate=0.0)
    heads = [unit.head.weight.detach().clone() for unit in rule.units[:-1]]
    body = rule.units[0].body[0].weight.detach().clone()
    take_steps(rule, small_batch(), 3)
    assert all(
        torch.equal(h, u.head.weight) for h, u in zip(heads, rule.units, strict=False)
    )
    assert not torch.equal(body, rule.units[0].body[0].weight)


def test_opponents_start_as_the_rule_does():
    torch.manual_seed(2)
    ours = rule_of(4)
    torch.manual_seed(2)
    theirs = opponents.Backprop(mlp(small_sizes(3)), adam(1e-3))
    x, _ = small_batch()
    assert torch.equal(ours.predict(x), theirs.predict(x))


def test_companions_read_all_positions_of_a_map():
    paper = load_rule(SLUG)
    conv = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU())
    output = nn.Sequential(nn.Flatten(), nn.Linear(2 * 64, 4))
    units = paper.with_companions(nn.ModuleList([conv, output]), torch.zeros(1, 1, 8, 8))
    assert units[0].head.weight.shape == (4, 2 * 64)


@pytest.mark.parametrize("hidden", [0, 1, 3])
def test_the_form_of_the_championship_crosses_layers(hidden):
    rule = load_rule(SLUG).build_dense([16, *[8] * hidden, 3], adam(1e-3))
    rule.check_contract()
    assert not rule.cut
    rule.credit(small_batch())
    assert all(p.grad is not None for p in rule.parameters())
