"""A study under the standard: opponents, seeds, the first screen, and its record."""

import json

import pytest
import torch

from bpfree_common import records
from bpfree_common.errors import CatalogueError, ContractError
from bpfree_common.learning import opponents
from bpfree_common.learning.networks import mlp
from bpfree_common.learning.optim import adam
from bpfree_common.studies import Study
from bpfree_common.studies.comparison import Comparison

SIZES = [64, 8, 10]
PARAMETERS = {"seeds": 3, "epochs": 1, "batch_size": 64, "width": 8, "depth": 2}


@pytest.fixture
def study(tmp_path, monkeypatch) -> Study:
    monkeypatch.setenv("BPFREE_RUN_DIR", str(tmp_path))
    torch.manual_seed(0)
    return Study("template", dict(PARAMETERS))


def arms() -> dict:
    def backprop(lr):
        return opponents.Backprop(mlp(SIZES), adam(lr))

    return {
        "template": backprop,
        "backprop": backprop,
        "textbook": lambda lr: opponents.Backprop(mlp(SIZES, init="he"), adam(lr)),
        "frozen": lambda lr: opponents.Frozen(mlp(SIZES), adam(lr)),
    }


@pytest.fixture
def task(study):
    return study.data("digits").flat().take(200)


@pytest.mark.parametrize("absent", ["template", "backprop", "textbook", "frozen"])
def test_a_comparison_without_an_opponent_is_refused(study, task, absent):
    fewer = {name: build for name, build in arms().items() if name != absent}
    with pytest.raises(ContractError, match=f"'{absent}', or a reason"):
        study.compare(fewer, task, 1, 64, [1e-3])


def test_an_opponent_that_cannot_exist_needs_a_reason(study, task):
    fewer = {name: build for name, build in arms().items() if name != "textbook"}
    without = {"textbook": "a graph network has one initialisation in use"}
    found = study.compare(fewer, task, 1, 64, [1e-3, 1e-2, 1e-1], without=without)
    assert set(found.arms) == set(fewer)


def test_equal_arms_are_equal_and_seeds_choose_or_report_but_never_both(study, task):
    found = study.compare(arms(), task, 1, 64, [1e-3, 1e-2, 1e-1])
    gap = found.difference("template", "backprop")
    assert (gap.low, gap.mean, gap.high) == (0.0, 0.0, 0.0)
    assert found.equivalent("template", "backprop", 0.01)
    assert {run.seed for run in found.runs["template"]} == {0, 1, 2}
    assert min(study.tuning_seeds) > 1
    assert all(len(t.values) == 2 for t in study.tuned("template").tried)


def test_the_record_tells_every_setting_and_every_interval(study, task, tmp_path):
    study.compare(arms(), task, 1, 64, [1e-3, 1e-2, 1e-1])
    study.finding("It runs.")
    for name in study.entry.claims:
        study.not_attempted(name, "this test judges nothing")
    study.finish()
    record = json.loads((tmp_path / records.NAME).read_text())
    tuned = record["tuning"]["template"]
    assert tuned["tried"] == len(tuned["settings"]) >= 3
    assert tuned["chosen"] in [s["hyper"] for s in tuned["settings"]]
    (metric,) = [m for m in record["metrics"] if m["arm"] == "template"]
    assert metric["interval"][0] <= metric["mean"] <= metric["interval"][1]
    assert len(metric["values"]) == 3
    assert record["findings"] == ["It runs."]


def test_an_arm_is_tuned_once_under_a_name(study, task):
    study.tune("extra", arms()["backprop"], task, 1, 64, [1e-3, 1e-2, 1e-1])
    with pytest.raises(ContractError, match="already an arm 'extra'"):
        study.tune("extra", arms()["backprop"], task, 1, 64, [1e-3])


def test_doubling_trains_the_chosen_setting_twice_as_long(study, task):
    found = study.compare(arms(), task, 1, 64, [1e-3, 1e-2, 1e-1])
    longer = study.again(found, {"template": arms()["template"]}, task)
    assert longer.arms["template"].chosen == found.arms["template"].chosen
    assert [len(run.history) for run in longer.runs["template"]] == [2, 2, 2]


def test_what_was_doubled_is_doubled_once_and_two_comparisons_are_told_apart(study, task):
    options = {"grid": [1e-3, 1e-2, 1e-1], "epochs": 1, "batch_size": 64}
    main = study.compare(arms(), task, **options)
    pair = {"backprop": arms()["backprop"]}
    side = study.side(pair, task, prefix="side", **options)
    first = study.again(main, pair, task).arms["backprop"]
    assert study.again(main, pair, task).arms["backprop"] is first
    assert study.again(side, pair, task).arms["backprop"] is not first
    names = [m["arm"] for m in study._record()["metrics"] if m["arm"].endswith("epochs")]
    assert names == ["backprop, 2 epochs", "side: backprop, 2 epochs"]
    unnamed = Comparison(main.budget, dict(side.arms))
    with pytest.raises(ContractError, match="give one comparison a prefix"):
        study.again(unnamed, pair, task)


def test_a_score_that_is_no_accuracy_is_called_what_it_is(study, task):
    measure = {"measure": "log-likelihood", "unit": "nats"}
    builds = {"a": arms()["backprop"]}
    found = study.side(builds, task, 1, 64, [1e-3, 1e-2, 1e-1], "text", **measure)
    study.again(found, builds, task)
    (row,) = found.rows("a")
    assert list(row)[1] == "log-likelihood, nats, 95 % interval"
    assert row["log-likelihood, nats, 95 % interval"] == found.estimate("a").text(1, 2)
    kept = [(m["arm"], m["name"], m["unit"]) for m in study._record()["metrics"]]
    assert kept == [
        ("text: a", "log-likelihood", "nats"),
        ("text: a, 2 epochs", "log-likelihood", "nats"),
    ]


def test_the_interval_of_a_fraction_ends_where_fractions_do(study):
    study.metric("a", "test accuracy", [0.9, 1.0, 1.0], "fraction")
    study.metric("a", "gain", [0.9, 1.0, 1.0], "nats")
    fraction, free = (m["interval"][1] for m in study._record()["metrics"])
    assert fraction == 1.0 < free


def test_a_claim_that_the_catalogue_does_not_know_is_refused(study):
    with pytest.raises(CatalogueError, match="no claim 'better'"):
        study.claim("better", [1.0, 2.0])
    with pytest.raises(CatalogueError, match="no claim 'better'"):
        study.why("better", "because")


def test_what_is_no_number_never_becomes_a_metric(study):
    with pytest.raises(ValueError, match="finite"):
        study.metric("template", "test accuracy", [0.5, float("nan")], "fraction")
