"""A study refuses what would make its record ambiguous."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from bpfree_common import Backprop, adam, load_data, mlp, sgd
from bpfree_common.errors import ContractError
from bpfree_common.studies import Study


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setenv("BPFREE_RUN_DIR", str(tmp_path))
    return Study("template", {"seeds": 2, "epochs": 1})


def build(lr):
    return Backprop(mlp([64, 8, 10]), adam(lr))


def few(count: int):
    return load_data("digits").flat().take(count)


def test_a_grid_may_hold_whole_settings(study):
    recipes = {"adam": adam, "sgd": sgd}
    grid = [
        {"optimizer": name, "lr": lr} for name in recipes for lr in (1e-5, 1e-3, 1e-2)
    ]
    found = study.tune(
        "both",
        lambda lr, optimizer: Backprop(mlp([64, 8, 10]), recipes[optimizer](lr)),
        *(few(128), 1, 32, grid),
    )
    assert found.chosen["optimizer"] == "adam"
    assert {run.seed for run in found.runs} == {0, 1}
    assert all(run.hyper == found.chosen for run in found.runs)


def test_two_arms_of_one_name_are_refused(study):
    study.tune("narrow", build, few(64), 1, 32, [1e-3])
    with pytest.raises(ContractError, match="already an arm 'narrow'"):
        study.tune("narrow", build, few(64), 1, 32, [1e-3])


def test_costs_may_be_relative_to_another_baseline(study):
    task = load_data("digits").flat()
    batch = (task.x_train[:8], task.y_train[:8])
    study.cost({"small": build(1e-3), "same": build(1e-3)}, batch, baseline="small")
    assert study.counted("same")["flops_ratio"] == 1


def test_a_diverged_run_loses_and_leaves_no_infinity_in_the_record(study):
    def diverging(lr):
        return Backprop(mlp([64, 8, 10]), sgd(lr))

    found = study.tune("fast", diverging, few(128), 8, 32, [1e6, 0.3])
    assert found.chosen["lr"] < 1e3
    study.tune("lost", diverging, few(128), 2, 32, [1e30])
    assert all(None in run["loss"] for run in study._curves["lost"])
    json.dumps(study._curves, allow_nan=False)


def test_an_alignment_that_is_no_number_is_null_in_the_record(study, monkeypatch):
    monkeypatch.setattr(
        "bpfree_common.learning.training.alignment",
        lambda *_: [float("nan"), 0.123456789],
    )
    study.tune("lost", build, few(64), 1, 32, [1e-3], track_alignment=True)
    curves = study._curves["lost"]
    assert curves[0]["alignment"] == [[None, 0.12346]] * 2
    json.dumps(curves, allow_nan=False)


def test_subnormal_numbers_are_flushed(study):
    assert float(torch.tensor(1e-39) / 2) == 0


def test_a_figure_is_kept_as_png_and_svg_and_has_a_name_of_its_own(
    study, monkeypatch, tmp_path
):
    monkeypatch.setenv("BPFREE_SVG", "1")
    figure, ax = plt.subplots()
    ax.plot(np.arange(2))
    study.figure(figure, "line", "A line.")
    assert (tmp_path / "figures" / "line.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "figures" / "line.svg").read_text().startswith("<?xml")
    with pytest.raises(ValueError, match="already a figure 'line'"):
        study.figure(figure, "line", "The same.")
