"""A rule's own network, read off the rule: activation, weights, and opponents on it."""

import math

import pytest
import torch
from scipy import integrate, stats
from torch import nn
from torch.nn import functional as F

from bpfree_common.errors import ContractError
from bpfree_common.learning import LearningRule, adam, mlp, textbook
from bpfree_common.learning.end_to_end import EndToEnd
from bpfree_common.learning.networks import LabelledLinear, TaughtLinear, cnn
from bpfree_common.learning.opponents import Backprop
from bpfree_common.learning.own_network import (
    ACTIVATIONS,
    GAINS,
    read,
    suit_depth,
)

WIDTHS = [64, 48, 32]
SIZES = [80, *WIDTHS, 10]


def dense(units=None, widths=WIDTHS) -> tuple:
    torch.manual_seed(0)
    rule = Backprop(units or mlp([80, *widths, 10], "tanh", "xavier"), adam(1e-3))
    return rule, read(rule, (80,), widths, 10)


class Labelled(LearningRule):
    """Two ReLU layers that see image and label, read by goodness; heads of ten rows."""

    def __init__(self, overwrite: bool):
        pixels = 80 - 10 * overwrite
        units = [LabelledLinear(pixels, 10, 64), TaughtLinear(64, 48)]
        super().__init__(nn.ModuleList(units), adam(1e-3))
        self.skip = 10 * overwrite

    def predict(self, x):
        g = []
        for code in torch.eye(10):
            label = code.expand(len(x), -1)
            h = F.relu(self.units[0](x[:, self.skip :], label))
            g.append(F.relu(self.units[1](h)).square().sum(1))
        return torch.stack(g, 1)


class Blocks(LearningRule):
    """Blocks that each see the image: no chain of layers."""

    def __init__(self):
        blocks = [
            nn.Sequential(nn.Linear(80, 64), nn.ReLU(), nn.Linear(64, 10)) for _ in WIDTHS
        ]
        super().__init__(nn.ModuleList(blocks), adam(1e-3))

    def predict(self, x):
        return sum(unit(x) for unit in self.units)


# --- reading ----------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_plain_network_is_read_with_its_activation_and_very_weights(activation):
    rule, network = dense(mlp(SIZES, activation))
    assert network.activation == activation
    assert network.predicts_like(rule)
    x = torch.rand(5, 80)
    assert torch.equal(Backprop(network.plain(), adam(1e-3)).predict(x), rule.predict(x))
    kinds = {type(m) for m in network.plain().modules()}
    assert kinds & set(ACTIVATIONS.values()) == {ACTIVATIONS[activation]}


def test_the_copy_learns_without_the_rule():
    rule, network = dense()
    before = rule.units[0][0].weight.clone()
    with torch.no_grad():
        for p in network.plain().parameters():
            p.add_(1)
    assert torch.equal(rule.units[0][0].weight, before)


def test_a_convolutional_network_is_read_too():
    torch.manual_seed(0)
    rule = Backprop(cnn((3, 16, 16), [4, 6], 10, "tanh"), adam(1e-3))
    network = read(rule, (3, 16, 16), [4, 6], 10)
    assert network.activation == "tanh"
    assert network.predicts_like(rule)


@pytest.mark.parametrize("overwrite", [True, False])
def test_layers_that_see_labels_lend_their_image_columns_and_get_a_read_out(overwrite):
    torch.manual_seed(0)
    rule = Labelled(overwrite)
    network = read(rule, (80,), [64, 48], 10)
    first, second, readout = (unit[0] for unit in network.plain())
    pixels = rule.units[0].image.weight
    assert torch.equal(first.weight[:, -pixels.shape[1] :], pixels)
    assert torch.equal(second.weight, rule.units[1].weight)
    assert readout.weight.shape == (10, 48)
    assert not network.predicts_like(rule)
    fan_in = 80 if overwrite else 90
    expected = 1 / math.sqrt(3)  # uniform within 1 / sqrt(fan-in)
    assert network.hidden[0].scale == pytest.approx(expected, rel=0.03), fan_in


def test_blocks_are_no_chain_of_layers():
    torch.manual_seed(0)
    assert read(Blocks(), (80,), WIDTHS, 10) is None


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm1d(64), nn.BatchNorm1d(64, affine=False), nn.LayerNorm(64)]
)
def test_layers_that_normalise_are_not_read_as_plain_ones(norm):
    units = mlp(SIZES)
    assert dense(units)[1] is not None
    units[0].insert(1, norm)
    assert dense(units)[1] is None


def test_two_activations_have_no_opponent_of_one():
    units = mlp(SIZES)
    units[1][1] = nn.Tanh()
    with pytest.raises(ContractError, match="these activations: relu, tanh"):
        dense(units)


# --- initialisation ---------------------------------------------------------------------


def test_scales_are_those_of_the_named_initialisations():
    wide = [400, 400]
    torch.manual_seed(0)
    found = {}
    for name, units in {
        "default": mlp([80, *wide, 10]),
        "he": textbook([80, *wide, 10]),
        "xavier": mlp([80, *wide, 10], "relu", "xavier"),
    }.items():
        found[name] = dense(units, wide)[1].scales[1]  # square: fan-in = fan-out
    assert found["default"] == pytest.approx(1 / math.sqrt(3), rel=0.01)
    assert found["he"] == pytest.approx(math.sqrt(2), rel=0.01)
    assert found["xavier"] == pytest.approx(1, rel=0.01)


def test_a_start_is_alike_whatever_the_seed_and_unlike_with_another_scale_or_activation():
    wide = [200, 200]
    one, other = (
        dense(mlp([80, *wide, 10], "tanh", "xavier"), wide)[1] for _ in range(2)
    )
    torch.manual_seed(7)
    rule = Backprop(mlp([80, *wide, 10], "tanh", "xavier"), adam(1e-3))
    assert one.starts_like(other)
    assert one.starts_like(read(rule, (80,), wide, 10))
    for units in (
        mlp([80, *wide, 10], "tanh"),
        mlp([80, *wide, 10], "relu", "xavier"),
    ):
        assert not one.starts_like(dense(units, wide)[1])
    unbiased = mlp([80, *wide, 10], "tanh", "xavier")
    unbiased[1][0].bias = None
    assert not one.starts_like(dense(unbiased, wide)[1])


@pytest.mark.parametrize("name", ["relu", "elu", "gelu"])
def test_gains_keep_the_second_moment_of_a_normal_variable(name):
    f = ACTIVATIONS[name]()

    def integrand(z):
        return f(torch.tensor(z)).item() ** 2 * stats.norm.pdf(z)

    moment = sum(integrate.quad(integrand, *ends)[0] for ends in ((-9, 0), (0, 9)))
    assert GAINS[name] == pytest.approx(moment**-0.5, rel=1e-3)


def test_a_start_that_suits_depth_only_scales_the_hidden_weights_of_the_rule():
    units = mlp(SIZES)
    before = [unit[0].weight.clone() for unit in units]
    rule, network = dense(units)
    suit_depth(network)
    for layer, old in zip(network.hidden, before, strict=False):
        assert layer.scale == pytest.approx(math.sqrt(2), rel=1e-5)
        ratio = layer.weight / old
        assert torch.allclose(ratio, ratio[0, 0])
        assert not layer.bias.any()
    assert torch.equal(rule.units[-1][0].weight, before[-1])


# --- end to end -------------------------------------------------------------------------


def test_end_to_end_takes_the_gradient_of_the_rules_own_prediction():
    torch.manual_seed(0)
    rule, x, y = Blocks(), torch.rand(6, 80), torch.arange(6)
    opponent = EndToEnd(rule)
    opponent.check_contract()
    opponent.credit((x, y))
    parameters = list(rule.parameters())
    exact = torch.autograd.grad(F.cross_entropy(rule.predict(x), y), parameters)
    for p, g in zip(parameters, exact, strict=True):
        assert torch.allclose(p.grad, g)


def test_end_to_end_frozen_lets_only_the_last_layer_of_each_unit_learn():
    torch.manual_seed(0)
    opponent = EndToEnd(Blocks(), frozen=True)
    learning = {n for n, p in opponent.units.named_parameters() if p.requires_grad}
    assert learning == {f"{k}.2.{what}" for k in range(3) for what in ("weight", "bias")}
