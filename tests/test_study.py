"""A study refuses what would make its record ambiguous."""

import json

import matplotlib.pyplot as plt
import pytest
import torch

from bpfree_common import Backprop, Study, adam, load_data, mlp, sgd
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


def test_a_grid_may_hold_whole_settings(study):
    task = load_data("digits").flat().take(128)
    recipes = {"adam": adam, "sgd": sgd}
    grid = [
        {"optimizer": name, "lr": lr} for name in recipes for lr in (1e-5, 1e-3, 1e-2)
    ]
    runs = study.tune(
        "both",
        lambda lr, optimizer: Backprop(mlp([64, 8, 10]), recipes[optimizer](lr)),
        *(task, 1, 32, grid),
    )
    found = study.tuning("both")
    assert found["chosen"] == {"optimizer": "adam", "lr": 1e-2} == runs[1].hyper
    assert found["at_edge"]
    assert len(found["grid"]) == 6


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


def test_a_diverged_run_loses_and_leaves_no_infinity_in_the_record(study):
    task = load_data("digits").flat().take(128)
    diverging = study.tune(
        "fast", lambda lr: Backprop(mlp([64, 8, 10]), sgd(lr)), task, 2, 32, [1e6, 1e-2]
    )
    assert {run.hyper["lr"] for run in diverging} == {1e-2}
    study.tune(
        "lost", lambda lr: Backprop(mlp([64, 8, 10]), sgd(lr)), task, 2, 32, grid=[1e30]
    )
    assert all(None in run["loss"] for run in study._parts["curves"]["lost"])
    json.dumps(study._parts["curves"], allow_nan=False)


def test_an_alignment_that_is_no_number_is_null_in_the_record(study, monkeypatch):
    monkeypatch.setattr(
        "bpfree_common.learning.training.alignment",
        lambda *_: [float("nan"), 0.123456789],
    )
    task = load_data("digits").flat().take(64)
    study.tune("lost", build, task, 1, 32, [1e-3], seeds=[0], track_alignment=True)
    curves = study._parts["curves"]["lost"]
    assert curves[0]["alignment"] == [[None, 0.12346]] * 2
    json.dumps(curves, allow_nan=False)


def test_subnormal_numbers_are_flushed(study):
    assert float(torch.tensor(1e-39) / 2) == 0


def test_a_figure_is_shown_as_it_is_kept(study, monkeypatch, tmp_path):
    shown = []
    monkeypatch.setenv("BPFREE_RUN_DIR", str(tmp_path))
    monkeypatch.setenv("BPFREE_SVG", "1")
    monkeypatch.setattr("bpfree_common.former.study.display", shown.append)
    figure, ax = plt.subplots()
    ax.plot([1, 2])
    study.figure(figure, "line", "A line.")
    assert shown[0].data == (tmp_path / "figures" / "line.png").read_bytes()
    assert (tmp_path / "figures" / "line.svg").read_text().startswith("<?xml")
    with pytest.raises(ValueError, match="already a figure 'line'"):
        study.figure(figure, "line", "The same.")
