"""LLS: identities hold, defects are caught, layers share nothing but activity."""

import math

import pytest
import torch
from support import LOCAL, assert_caught, assert_identities_hold, take_steps
from torch import nn
from torch.nn import functional as F

from bpfree_common import load_rule
from bpfree_common.learning import adam, opponents, sgd
from bpfree_common.measuring.audit import audit
from bpfree_common.measuring.cost import measure

SLUG = "synchronization_learning"
CREDIT = "a layer's credit equals its closed form"
LENGTH = "length does not matter: <v, dL/dv> = 0, and c v has the same loss"
MIX = "m = 1 and M = I are LLS, and a diagonal M is LLS-M"
MATRIX = "M learns by the product of scores and errors"
BASIS = "the basis is sin(omega t) at whole t"

MUTATIONS = {
    "a cosine": ("torch.sin(omega", "torch.cos(omega", BASIS),
    "single precision": ("dtype=torch.float64)", "dtype=torch.float32)", BASIS),
    "the count starts at 1": ("torch.arange(d))", "torch.arange(1, d + 1))", BASIS),
    "square waves of another phase": (
        "S.sign() if",
        "(S + 0.1).sign() if",
        "square waves are the signs of the waves",
    ),
    "no normalisation": ("F.normalize(v, dim=1) if", "v if", LENGTH),
    "the batch is normalised": (
        "F.normalize(v, dim=1) if",
        "F.normalize(v, dim=0) if",
        LENGTH,
    ),
    "the temperature multiplies": (
        "layer.scores(a) / self.tau",
        "layer.scores(a) * self.tau",
        CREDIT,
    ),
    "ascent": ("y).backward()  # one", "y).neg().backward()  # one", CREDIT),
    "credit crosses into the layer below": ("after(a.detach())", "after(a)", CREDIT),
    "the classifier teaches the last layer": (
        "classifier(h), y)",
        "classifier(layer(x)), y)",
        CREDIT,
    ),
    "the matrix is transposed": (
        "else q @ self.M  #",
        "else q @ self.M.T  #",
        "M learns by",
    ),
    "a gain is added": (
        "return q * self.M if",
        "return q + self.M if",
        MIX,
    ),
    "maps are read by their maxima": (
        "F.adaptive_avg_pool2d",
        "F.adaptive_max_pool2d",
        "a map is read as s x s averages, channel by channel",
    ),
    "random codes of length 1": (
        "return math.sqrt(d / 2) * F",
        "return F",
        "neuron 0 gets no signal, and a wave is about sqrt(d / 2) long",
    ),
    "even waves over a whole turn": (
        "step = math.pi /",
        "step = 2 * math.pi /",
        "even waves over C + 1 neurons are orthogonal",
    ),
    "two waves forget the ones": (
        "(tens[:, None] + ones)",
        "(tens[:, None] + 0 * ones)",
        "two waves: numbers with a digit in common have a cosine of 1/2",
    ),
}


def test_identities_of_lls_hold():
    assert_identities_hold(SLUG)


@pytest.mark.parametrize("defect", MUTATIONS)
def test_a_defect_of_lls_is_caught(defect):
    assert_caught(SLUG, *MUTATIONS[defect])


def rule_of(units, **options):
    paper = load_rule(SLUG)
    return paper.LLS(paper.dense_units([16] * units + [4], **options), adam(1e-3))


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.randn(6, 16), torch.arange(6) % 4


@pytest.mark.parametrize("mix", ["", "M", "MxM"])
def test_layers_share_nothing_and_memory_is_flat_in_depth(batch, mix):
    found = audit(lambda units: rule_of(units, mix=mix), batch)
    found.expect(**LOCAL, live_memory="flat", forward=1)
    sizes = dict(found.live_bytes)
    assert sizes[4] == sizes[8] == sizes[16]  # 2 has no layer that keeps a hidden input


def test_lls_that_forgets_to_detach_fails_the_audit(batch):
    paper = load_rule(SLUG)

    class Forgetful(paper.LLS):
        def credit(self, batch):
            h, y = batch
            losses = []
            for layer in self.units[:-1]:
                h = layer(h)
                losses.append(F.cross_entropy(layer.scores(h) / self.tau, y))
            loss = sum(losses) + F.cross_entropy(self.units[-1](h), y)
            loss.backward()
            return {"loss": loss.detach()}

    found = audit(
        lambda n: Forgetful(paper.dense_units([16] * n + [4]), adam(1e-3)), batch
    )
    assert found.crossings == 3
    assert found.locking == "full" and found.live_memory == "linear"


def test_stepping_each_layer_inside_the_loop_gives_the_same_weights(batch):
    """The authors' form: every layer steps before the next one is run."""
    x, y = batch[0].double(), batch[1]
    ours = rule_of(3).double()
    ours.recipe = sgd(0.1)
    theirs = ours.clone()
    steppers = [torch.optim.SGD(unit.parameters(), 0.1) for unit in theirs.units]
    for _ in range(3):
        h = x
        for layer, stepper in zip(theirs.units[:-1], steppers, strict=False):
            a = layer.body(h.detach())
            stepper.zero_grad()
            F.cross_entropy(layer.scores(a) / 0.5, y).backward()
            stepper.step()
            h = a.detach()
        steppers[-1].zero_grad()
        F.cross_entropy(theirs.units[-1](h), y).backward()
        steppers[-1].step()
    take_steps(ours, (x, y), 3)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_step_of_the_convolutional_network_holds_its_largest_layer_only():
    paper = load_rule(SLUG)
    x, y = torch.rand(4, 1, 8, 8), torch.arange(4)

    def live(more, kind):
        plan = [(4, 2, "")] * (2 + more) + [(4, 2, "grid")]
        units = paper.conv_units(1, plan, 8, 4)
        units = units if kind is paper.LLS else paper.plain(units)
        return measure(kind(units, sgd(0.1)), (x, y)).live_bytes

    assert live(0, paper.LLS) == live(4, paper.LLS)
    assert live(4, opponents.Backprop) > 2 * live(4, paper.LLS)


def test_opponents_start_as_the_rule_does():
    paper = load_rule(SLUG)
    torch.manual_seed(2)
    ours = paper.LLS(paper.dense_units([16, 16, 4]), adam(1e-3)).eval()
    torch.manual_seed(2)
    theirs = opponents.Backprop(paper.plain(paper.dense_units([16, 16, 4])), adam(1e-3))
    x = torch.randn(5, 16)
    assert torch.equal(ours.predict(x), theirs.eval().predict(x))


def test_learned_codes_are_parameters_and_fixed_ones_are_kept_in_checkpoints():
    paper = load_rule(SLUG)
    options = {"codes": paper.authors_random, "normalise": False}
    fixed, learned = rule_of(2, **options), rule_of(2, **options, learn=True)
    names = {name for name, _ in learned.named_parameters()}
    assert "units.0.S" in names
    assert "units.0.S" not in {name for name, _ in fixed.named_parameters()}
    assert "units.0.S" in fixed.state_dict()
    learned.check_contract()


@pytest.mark.parametrize("form", ["dense", "conv"])
def test_the_form_of_the_championship_is_a_plain_relu_network(form):
    paper = load_rule(SLUG)
    x = torch.rand(3, 1, 8, 8)
    if form == "dense":
        rule, x = paper.build_dense([64, 8, 8, 10], adam(1e-3)), x.flatten(1)
    else:
        rule = paper.build_conv((1, 8, 8), [2, 3], 10, adam(1e-3))
    rule.check_contract()
    kinds = {type(m) for m in rule.modules()}
    assert nn.ReLU in kinds and not kinds & {nn.BatchNorm1d, nn.BatchNorm2d}
    assert rule.predict(x).shape == (3, 10)
    rule.credit((x, torch.arange(3)))
    assert all(p.grad is not None for p in rule.parameters())


def test_too_many_classes_fold_the_waves_onto_each_other():
    """Frequencies that differ, or add up, to nearly whole turns are nearly one wave."""
    paper = load_rule(SLUG)
    S = F.normalize(paper.waves(200, 512).double(), dim=1)
    cosines = (S @ S.T).fill_diagonal_(0)
    k, j = divmod(int(cosines.abs().argmax()), 200)
    step = (512 - 50) / 199  # sin(a t) and sin(b t) are alike if a - b or a + b is whole
    apart = [(k - j) * step, 100 + (k + j) * step]
    off = [abs(math.remainder(turn, 2 * math.pi)) for turn in apart]
    assert min(off) * 512 < math.pi
    assert 0.7 < float(cosines[k, j].abs()) < 0.9
