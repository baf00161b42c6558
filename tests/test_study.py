"""A study refuses what would make its record ambiguous."""

import pytest

from bpfree_common import Backprop, Study, adam, load_data, mlp
from bpfree_common.errors import ContractError


@pytest.fixture
def study():
    return Study("template", {"seeds": 2, "epochs": 1})


def build(lr):
    return Backprop(mlp([64, 8, 10]), adam(lr))


def test_a_side_experiment_is_tuned_and_recorded_like_the_main_one(study):
    task = load_data("digits").flat().take(128)
    runs = study.tune("narrow", build, task, 1, 32, grid=[1e-5, 1e-2])
    assert [run.seed for run in runs] == [0, 1]
    assert {run.hyper["lr"] for run in runs} == {1e-2}
    found = study.tuning("narrow")
    assert [row["lr"] for row in found["grid"]] == [1e-5, 1e-2]
    assert found["chosen"] == {"lr": 1e-2}


def test_two_arms_of_one_name_are_refused(study):
    task = load_data("digits").flat().take(64)
    study.tune("narrow", build, task, 1, 32, grid=[1e-3], seeds=[0])
    with pytest.raises(ContractError, match="already an arm 'narrow'"):
        study.tune("narrow", build, task, 1, 32, grid=[1e-3], seeds=[0])


def test_costs_may_be_relative_to_another_baseline(study):
    task = load_data("digits").flat()
    batch = (task.x_train[:8], task.y_train[:8])
    study.cost({"small": build(1e-3), "same": build(1e-3)}, batch, baseline="small")
    assert study.counted("same")["flops_ratio"] == 1
