"""Rules learn in training steps, from training data, and in their units."""

import pytest
import torch
from cheats import Disguised, InPredict, InScore, ScoreRemembers, ShadowNetwork

from bpfree_common import Backprop, cnn, sgd
from bpfree_common.errors import ContractError
from bpfree_common.measuring.conduct import (
    differences,
    refuse_learning_outside_of_steps,
    state,
)

BATCH = (torch.randn(5, 20), torch.arange(5) % 4)


@pytest.mark.parametrize("kind", [InPredict, InScore, ScoreRemembers])
def test_rules_that_learn_when_asked_are_refused(kind):
    with pytest.raises(ContractError, match="may learn in training steps only"):
        refuse_learning_outside_of_steps(kind.build(3), BATCH)


@pytest.mark.parametrize("kind", [Disguised, ShadowNetwork])
def test_rules_that_only_answer_are_not(kind):
    refuse_learning_outside_of_steps(kind.build(3), BATCH)


def test_normalisation_in_evaluation_learns_nothing():
    units = cnn((1, 4, 4), [3], 4)
    units[0].append(torch.nn.BatchNorm2d(3))
    batch = (torch.randn(5, 1, 4, 4), BATCH[1])
    refuse_learning_outside_of_steps(Backprop(units, sgd(0.1)), batch)


def closure(rule):
    box = [torch.zeros(3)]

    def keep():
        return box

    rule.keep = keep
    return lambda: box[0].add_(1)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rule: lambda: rule.units[0][0].bias.data.add_(1),
        lambda rule: lambda: setattr(rule, "note", 3),
        lambda rule: lambda: setattr(rule, "notes", [[torch.ones(2)]]),
        closure,
    ],
    ids=["weight", "attribute", "tensor in lists", "closure"],
)
def test_any_change_of_what_a_rule_keeps_is_seen(spoil):
    rule = Disguised.build(2)
    change = spoil(rule)
    before = state(rule)
    assert differences(before, state(rule)) == []
    change()
    assert len(differences(before, state(rule))) >= 1
