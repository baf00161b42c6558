"""The tuner: what it tries, when it stops, and what it never sees."""

import math

import pytest
import torch

from bpfree_common.learning.training import Run
from bpfree_common.studies import fixed, tuning
from bpfree_common.studies.tuning import Tried, search, settings_of


def landscape(optimum: float):
    """Validation metrics with one peak, by the logarithm of the rate; what was asked."""
    asked = []

    def evaluate(setting: dict) -> Tried:
        asked.append(setting["lr"])
        return Tried(setting, [-abs(math.log(setting["lr"] / optimum))])

    return evaluate, asked


def test_an_optimum_inside_the_grid_is_not_searched_further():
    evaluate, asked = landscape(0.1)
    tried, at_edge = search(evaluate, settings_of([0.03, 0.1, 0.3]))
    assert asked == [0.03, 0.1, 0.3]
    assert not at_edge
    assert tuning.best(tried).hyper == {"lr": 0.1}


@pytest.mark.parametrize("optimum", [0.004, 3.0])
def test_the_grid_widens_until_the_optimum_lies_inside(optimum):
    evaluate, asked = landscape(optimum)
    tried, at_edge = search(evaluate, settings_of([0.03, 0.1, 0.3]))
    assert not at_edge
    assert min(asked) < tuning.best(tried).hyper["lr"] < max(asked)


def test_two_rates_and_one_rate_are_edges():
    for grid in ([0.1, 0.3], [0.1]):
        evaluate, asked = landscape(0.1)
        _, at_edge = search(evaluate, settings_of(grid))
        assert not at_edge
        assert min(asked) < 0.1 < max(asked)


def test_a_landscape_without_a_peak_ends_at_a_flagged_edge():
    evaluate, asked = landscape(1e9)
    _, at_edge = search(evaluate, settings_of([0.03, 0.1, 0.3]))
    assert at_edge
    assert len(asked) == 3 + tuning.WIDEN


def test_rates_are_compared_among_settings_that_share_all_else():
    grid = settings_of(
        [{"lr": 0.1, "m": 0.0}, {"lr": 0.3, "m": 0.0}, {"lr": 1.0, "m": 0.9}]
    )

    def evaluate(setting):
        return Tried(setting, [setting["m"] - abs(math.log(setting["lr"]))])

    tried, at_edge = search(evaluate, grid)
    assert not at_edge
    rates = [t.hyper["lr"] for t in tried if t.hyper["m"] == 0.9]
    assert min(rates) < 1.0 < max(rates)


def test_a_diverged_setting_is_never_chosen_and_is_null_in_the_record():
    tried = [Tried({"lr": 1.0}, [math.nan, 0.9]), Tried({"lr": 0.1}, [0.2, 0.2])]
    assert tuning.best(tried).hyper == {"lr": 0.1}
    assert tried[0].as_dict()["validation"] is None
    assert tried[0].as_dict()["values"] == [None, 0.9]


def test_the_papers_rate_may_stand_in_the_grid_twice():
    assert settings_of([0.1, 0.3, 0.1]) == [{"lr": 0.1}, {"lr": 0.3}]


@pytest.mark.parametrize(("grid", "words"), [([], "empty"), ([{"m": 1}], "no 'lr'")])
def test_a_grid_without_rates_is_refused(grid, words):
    with pytest.raises(ValueError, match=words):
        settings_of(grid)


def test_settings_that_the_question_fixes_are_not_searched_around(monkeypatch):
    asked = []

    def train(arm, build, hyper, task, seed, *budget, **options):
        asked.append((hyper["lr"], seed))
        return Run(arm, seed, hyper, None, validation=0.5, test=0.5)

    monkeypatch.setattr(tuning.training, "train", train)
    budget = tuning.Budget(1, 8, seeds=(0, 1), tuning_seeds=(1000,))
    task = torch.nn.Identity()  # only moved to a device
    found = tuning.tune("arm", None, task, budget, fixed(0.01))
    assert asked == [(0.01, 1000), (0.01, 0), (0.01, 1)]
    assert (found.at_edge, found.as_dict()["fixed"]) == (False, True)
    again = tuning.tune("arm", None, task, budget, [0.01])
    assert len(again.tried) > 1
    assert not again.fixed


def test_a_logger_is_made_for_each_run_that_is_reported(monkeypatch):
    given = []

    def train(arm, build, hyper, task, seed, *budget, logger=None, **options):
        given.append((seed, logger))
        return Run(arm, seed, hyper, None, validation=0.5, test=0.5)

    monkeypatch.setattr(tuning.training, "train", train)
    budget = tuning.Budget(
        1, 8, seeds=(0, 1), tuning_seeds=(1000,), logger=lambda arm, seed: f"{arm} {seed}"
    )
    tuning.tune("mine", None, torch.nn.Identity(), budget, fixed(0.01))
    assert given == [(1000, None), (0, "mine 0"), (1, "mine 1")]
