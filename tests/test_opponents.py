"""The opponents do what their names say: gradients, cuts, signs, memory, cost."""

import pytest
import torch
from support import image_batch, small_batch
from torch import nn
from torch.nn import functional as F

from bpfree_common import cnn, mlp, sgd
from bpfree_common.errors import ContractError
from bpfree_common.learning import Regularisers
from bpfree_common.learning.alignment import compute_credit, compute_gradient
from bpfree_common.learning.opponents import (
    Accumulation,
    Backprop,
    Checkpointing,
    DeepSupervision,
    Frozen,
    SignSGD,
)
from bpfree_common.measuring import cost
from bpfree_common.measuring.audit import transport

SIZES = [16, 12, 12, 3]
SHAPE = (2, 8, 8)


class Residual(nn.Module):
    """A unit that is no `nn.Sequential`."""

    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x):
        return x + torch.tanh(self.linear(x))


def dense():
    torch.manual_seed(1)
    return mlp(SIZES, "tanh").double()


def convolutional():
    torch.manual_seed(1)
    return cnn(SHAPE, [3, 4], 3, "tanh").double()


def residual():
    torch.manual_seed(1)
    return nn.ModuleList([Residual(16), Residual(16), nn.Linear(16, 3)]).double()


def batch_for(units):
    x, y = small_batch()
    if units is convolutional:
        x = torch.randn(6, *SHAPE)
    return x.double(), y


ALL = pytest.mark.parametrize("units", [dense, convolutional, residual])


def assert_equal(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-12)


@ALL
@pytest.mark.parametrize("micro_batches", [1, 2, 4, 6, 100])
def test_accumulated_gradients_are_those_of_the_whole_batch(units, micro_batches):
    rule = Accumulation(units(), sgd(0.1), micro_batches)
    batch = batch_for(units)  # six rows: four parts are unequal
    assert_equal(compute_credit(rule, batch), compute_gradient(rule, batch))
    plain = Backprop(units(), sgd(0.1)).credit(batch)
    assert torch.allclose(rule.credit(batch)["loss"], plain["loss"])


def test_no_micro_batch_is_refused_in_one_sentence():
    with pytest.raises(ContractError, match="micro_batches is 0: give a number of 1"):
        Accumulation(dense(), sgd(0.1), 0)


@ALL
def test_checkpointed_gradients_are_those_of_backpropagation(units):
    rule, batch = Checkpointing(units(), sgd(0.1)), batch_for(units)
    assert_equal(
        compute_credit(rule, batch),
        compute_gradient(Backprop(units(), sgd(0.1)), batch),
    )


def test_checkpointing_and_accumulation_hold_less_than_backpropagation():
    x, y = torch.randn(64, 16), torch.arange(64) % 3
    layers = [m for unit in mlp([16] + [64] * 8 + [3]) for m in unit]
    units = nn.ModuleList([nn.Sequential(*layers[n : n + 6]) for n in (0, 6, 12)])
    arms = {
        kind: cost.measure(kind(units, sgd(0.1)), (x, y))
        for kind in (Backprop, Checkpointing, Accumulation)
    }
    assert arms[Checkpointing].live_bytes < arms[Backprop].live_bytes
    assert arms[Accumulation].live_bytes < 0.6 * arms[Backprop].live_bytes  # 4 parts
    assert arms[Accumulation].flops == arms[Backprop].flops


@ALL
def test_sign_descent_keeps_the_sign_of_every_gradient_and_no_magnitude(units):
    rule, batch = SignSGD(units(), sgd(0.1)), batch_for(units)
    gradient = compute_gradient(rule, batch)
    assert_equal(compute_credit(rule, batch), [g.sign() for g in gradient])


def test_sign_descent_moves_every_weight_by_the_rate():
    rule, batch = SignSGD(residual(), sgd(0.01)), batch_for(residual)
    before = [p.detach().clone() for p in rule.parameters()]
    optimizer = rule.configure_optimizers()
    rule.credit(batch)
    optimizer.step()
    for p, was in zip(rule.parameters(), before, strict=True):
        assert torch.allclose((p - was).abs(), torch.full_like(p, 0.01))


@ALL
def test_a_frozen_network_teaches_its_read_out_alone(units):
    rule, batch = Frozen(units(), sgd(0.1)), batch_for(units)
    *hidden, readout = compute_credit(rule, batch)
    assert not any(g.any() for g in hidden)
    whole = compute_gradient(Backprop(units(), sgd(0.1)), batch)
    assert torch.allclose(readout, whole[-1])
    optimized = [p for g in rule.configure_optimizers().param_groups for p in g["params"]]
    assert len(optimized) == len([*rule.units[-1].parameters()])


def test_a_frozen_network_pays_for_its_forward_pass_and_the_read_outs_gradient():
    x, y = image_batch()
    found = cost.measure(Frozen(mlp([42, 32, 32, 10]), sgd(0.1)), (x, y))
    layers = [2 * len(y) * i * o for i, o in ((42, 32), (32, 32), (32, 10))]
    assert found.flops == sum(layers) + layers[-1]
    whole = cost.measure(Backprop(mlp([42, 32, 32, 10]), sgd(0.1)), (x, y))
    assert found.live_bytes < whole.live_bytes


# --- deep supervision -------------------------------------------------------------------


def deep(units, **options):
    torch.manual_seed(2)
    example = batch_for(units)[0].float()
    made = units().float()
    return DeepSupervision(made, sgd(0.1), example, **options).double()


def head_losses(rule, batch):
    """The loss of every head and of the read-out, in plain words, all attached."""
    (x, y), losses = batch, []
    for unit in rule.units[:-1]:
        x = unit.body(x)
        features = x.mean((2, 3)) if x.dim() == 4 else x
        losses.append(F.cross_entropy(unit.head(features), y))
    return [*losses, F.cross_entropy(rule.units[-1](x), y)]


def gradients(loss, unit):
    found = torch.autograd.grad(loss, [*unit.parameters()], retain_graph=True)
    return torch.cat([g.flatten() for g in found])


@ALL
def test_locally_supervised_units_learn_from_their_own_heads_alone(units):
    rule, batch = deep(units), batch_for(units)
    losses = head_losses(rule, batch)
    # each loss depends on units below too: only its own unit may learn from it
    wanted = [gradients(n, u) for n, u in zip(losses, rule.units, strict=True)]
    assert_equal(compute_credit(rule, batch), wanted)


@ALL
def test_companion_losses_are_added_and_backpropagated_through_all_units(units):
    rule, batch = deep(units, local=False, weight=0.3), batch_for(units)
    losses = head_losses(rule, batch)
    total = losses[-1] + 0.3 * sum(losses[:-1])
    wanted = [gradients(total, unit) for unit in rule.units]
    assert_equal(compute_credit(rule, batch), wanted)
    assert_equal(compute_gradient(rule, batch), wanted)


@ALL
@pytest.mark.parametrize("local", [True, False])
def test_deep_supervision_starts_from_the_networks_weights_and_predicts_with_it(
    units, local
):
    rule, batch = deep(units, local=local), batch_for(units)
    plain = Backprop(units().float(), sgd(0.1)).double()
    assert torch.equal(rule.predict(batch[0]), plain.predict(batch[0]))
    rule.check_contract()


@pytest.mark.parametrize("local", [True, False])
def test_no_gradient_crosses_a_unit_when_supervision_is_local(local):
    rule, batch = deep(dense, local=local), batch_for(dense)
    T = transport(rule, batch)
    above = [T[l][m] for l in range(len(T)) for m in range(l + 1, len(T))]
    assert any(value > 0 for value in above) != local


def test_making_heads_changes_neither_statistics_nor_mode_of_the_units():
    unit = nn.Sequential(nn.Linear(16, 4), nn.BatchNorm1d(4), nn.Dropout())
    DeepSupervision(nn.ModuleList([unit, nn.Linear(4, 3)]), sgd(0.1), torch.randn(5, 16))
    assert unit[1].num_batches_tracked == 0
    assert unit.training
    assert unit[2].training


def test_deep_supervision_of_no_hidden_unit_is_refused():
    with pytest.raises(ContractError, match="needs a hidden unit"):
        DeepSupervision(mlp([16, 3]), sgd(0.1), torch.randn(1, 16))


# --- regularisers -----------------------------------------------------------------------


def arms():
    x = torch.randn(1, 16)
    return {
        "backprop": lambda lr: Backprop(mlp(SIZES), sgd(lr)),
        "frozen": lambda lr: Frozen(mlp(SIZES), sgd(lr)),
        "supervision": lambda lr: DeepSupervision(mlp(SIZES), sgd(lr), x),
        "images": lambda lr: Backprop(cnn(SHAPE, [3, 4], 3), sgd(lr)),
    }


@pytest.mark.parametrize("arm", arms())
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_one_argument_puts_the_same_regularisers_on_every_arm(arm, norm):
    torch.manual_seed(0)
    rule = Regularisers(0.01, 0.25, norm).on(arms()[arm])(lr=0.1)
    rule.check_contract()
    (group,) = rule.configure_optimizers().param_groups
    assert group["weight_decay"] == 0.01
    x, y = batch_for(convolutional if arm == "images" else dense)
    x = x.float()
    assert rule.credit((x, y))["loss"].isfinite()
    for unit in rule.units[:-1]:
        body = getattr(unit, "body", unit)
        x = body[0](x)
        if norm != "none":
            x = body[1](x)
            assert x.mean().abs() < 0.05
            assert float(x.detach().var()) == pytest.approx(1, abs=0.2)
        assert isinstance(body[-1], nn.Dropout)
        assert body[-1].p == 0.25
    assert not any(isinstance(m, nn.Dropout) for m in rule.units[-1].modules())
    trained = {id(p) for p in group["params"]}
    if arm == "frozen":
        assert trained == {id(p) for p in rule.units[-1].parameters()}
    else:
        assert len(trained) == len([*rule.parameters()])


def test_no_regulariser_leaves_an_arm_as_it_is():
    torch.manual_seed(0)
    plain = arms()["backprop"](lr=0.1)
    torch.manual_seed(0)
    same = Regularisers().on(arms()["backprop"])(lr=0.1)
    assert str(plain.units) == str(same.units)
    assert torch.equal(plain(torch.ones(2, 16)), same(torch.ones(2, 16)))


def test_decayed_weights_shrink_as_the_optimiser_defines():
    rule = Regularisers(weight_decay=0.5).on(arms()["backprop"])(lr=0.1)
    optimizer, before = rule.configure_optimizers(), rule.units[0][0].weight.clone()
    for p in rule.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert torch.allclose(rule.units[0][0].weight, before * (1 - 0.1 * 0.5))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"norm": "batch"}, "a unit is a Residual: normalisation and dropout need"),
        ({"dropout": 0.1}, "a unit is a Residual: normalisation and dropout need"),
    ],
)
def test_what_a_regulariser_cannot_change_is_refused(options, message):
    build = Regularisers(**options).on(lambda lr: Backprop(residual(), sgd(lr)))
    with pytest.raises(ContractError, match=message):
        build(lr=0.1)


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(ContractError, match="norm is 'bach': choose one of none, batch"):
        Regularisers(norm="bach")


def test_an_optimiser_without_weight_decay_is_refused():
    recipe = Regularisers(weight_decay=0.1).recipe(torch.optim.LBFGS)
    with pytest.raises(ContractError, match="LBFGS has no weight decay"):
        recipe([torch.zeros(1, requires_grad=True)])
