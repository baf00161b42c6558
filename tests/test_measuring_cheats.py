"""Every cheat of the zoo is given away, by the name that it is entered with."""

import pytest
import torch
from cheats import CLASSES, INPUTS, ZOO, Disguised, FiniteDifferences

from bpfree_common import mlp, sgd
from bpfree_common.errors import AuditMismatch, ContractError
from bpfree_common.measuring.audit import audit
from bpfree_common.measuring.cost import measure

X = torch.randn(5, INPUTS, generator=torch.Generator().manual_seed(0))
PROBE = (X, torch.arange(5) % CLASSES)
CLEAN = {"crossings": 0, "locking": "none", "weight_transport": "none"}


@pytest.mark.parametrize("cheat", ZOO, ids=[cheat.rule.__name__ for cheat in ZOO])
def test_a_cheat_is_betrayed_by_name(cheat):
    if cheat.refusal:
        with pytest.raises(ContractError, match=cheat.refusal):
            audit(cheat.rule.build, PROBE, depths=(2, 4))
        return
    found = audit(cheat.rule.build, PROBE, depths=(2, 4, 8))
    row = found.row()
    if cheat.row:
        assert {name: row[name] for name in cheat.row} == cheat.row
    else:
        assert any(words.startswith(cheat.finding) for words in found.findings)
    with pytest.raises(AuditMismatch):
        found.expect(**CLEAN)


def test_what_the_cheats_pretend_to_be_is_not_accused():
    audit(Disguised.build, PROBE, depths=(2, 4)).expect(**CLEAN)


def test_there_are_more_kinds_of_cheats_than_fourteen():
    assert len({cheat.rule for cheat in ZOO}) == len(ZOO) > 14


def test_finite_differences_pay_an_evaluation_for_every_weight():
    sizes = [3, 2, CLASSES]
    weights = 3 * 2 + 2 + 2 * CLASSES + CLASSES
    rule = FiniteDifferences(mlp(sizes), sgd(0.1))
    counted = measure(rule, (torch.randn(5, 3), torch.arange(5) % CLASSES))
    assert counted.evaluations == counted.forward == 1 + weights
