"""Runs at a paper's own scale: how they are tuned, multiplied, and shown."""

import json

import pytest
import torch

from bpfree_common import paths
from bpfree_common.errors import DeviceError
from bpfree_common.learning import training
from bpfree_common.learning.training import Run
from bpfree_common.papers import catalogue
from bpfree_common.records import staleness
from bpfree_common.studies import Comparison, Study, at_scale, tuning

SLUG = "counter_current_learning"  # its catalogue has numbers of the paper's own


@pytest.fixture
def reports(tmp_path, monkeypatch):
    monkeypatch.setenv("BPFREE_REPORTS", str(tmp_path))
    return tmp_path


@pytest.fixture
def large(reports):
    """A record at the paper's scale: the rule 97.0 %, backpropagation 98.0 %."""
    source = paths.PROJECT / "reports" / "standard" / SLUG / "record.json"
    record = json.loads(source.read_text())
    values = {SLUG: [0.968, 0.972, 0.970], "backprop": [0.98] * 3, "frozen": [0.9] * 3}
    record["profile"], record["seeds"] = "paper", [0, 1, 2]
    record["budget"]["share"] = 1.0
    record["environment"]["matmul_precision"] = "medium"
    record["metrics"] = [
        {"arm": arm, "name": "test accuracy", "unit": "fraction", "values": seen,
         "mean": sum(seen) / 3, "std": 0.0, "interval": None}
        for arm, seen in values.items()
    ]  # fmt: skip
    folder = reports / "paper" / SLUG
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps(record))
    return record


# --- what is shown ----------------------------------------------------------------------


def test_the_paper_ours_and_backprop_stand_side_by_side_with_the_gap(large):
    (row,) = at_scale.table("standard")
    assert row["rule, paper: here"].startswith("98.13: 97.0 (")
    assert row["off by"] == "-1.13: outside half a point"
    assert row["backprop, paper: here"].startswith("98.19: 98.0 (")
    assert row["gap, paper: here"].startswith("-0.06: -1.0 (")
    assert row["frozen, here"].startswith("90.0 (")
    assert (row["seeds"], row["share of updates"]) == (3, "1.00")
    assert row["device, products"] == "cpu, medium"


def test_only_the_page_of_committed_records_shows_them(large):
    assert at_scale.table("quick") == []
    assert "No run at a paper's own scale" in at_scale.shown("quick").data


def test_without_such_runs_the_page_says_so(reports):
    assert "No run at a paper's own scale" in at_scale.shown("standard").data


def test_the_papers_number_is_that_of_the_data_set_of_the_run(large):
    (found,) = at_scale.rows("paper")
    found.record["parameters"]["dataset"] = "fashion-mnist"
    assert at_scale.published(found)["dataset"] == "Fashion-MNIST"
    found.record["parameters"]["dataset"] = "fsdd"
    assert at_scale.published(found) is None
    assert at_scale._row(found)["off by"] == "-"


@pytest.mark.parametrize(
    ("said", "value"),
    [("98.13 +- 0.10", 98.13), (52, 52.0), ("about 97", None), (None, None)],
)
def test_a_number_is_read_where_one_stands_in_front(said, value):
    assert at_scale.number(said) == value


def test_a_record_at_scale_makes_the_page_stale_that_shows_it(reports, large):
    page = catalogue.get("overview")
    assert f"{SLUG} at scale" in staleness.pages(page, "standard", reports)
    assert f"{SLUG} at scale" not in staleness.pages(page, "quick", reports)
    before = staleness.pages(page, "standard", reports)
    large["seeds"] = [0]
    (reports / "paper" / SLUG / "record.json").write_text(json.dumps(large))
    assert staleness.pages(page, "standard", reports) != before


# --- how they are run -------------------------------------------------------------------


def test_settings_may_be_compared_after_a_part_of_the_epochs(monkeypatch):
    asked = []

    def train(arm, build, hyper, task, seed, epochs, *budget, **options):
        asked.append((seed, epochs))
        return Run(arm, seed, hyper, None, validation=0.5, test=0.5)

    monkeypatch.setattr(tuning.training, "train", train)
    budget = tuning.Budget(50, 8, seeds=(0,), tuning_seeds=(1000,), tuning_epochs=5)
    found = tuning.tune("arm", None, torch.nn.Identity(), budget, tuning.fixed(0.01))
    assert asked == [(1000, 5), (0, 50)]
    assert found.as_dict()["epochs"] == 5


def test_a_word_that_is_no_precision_is_refused(monkeypatch):
    monkeypatch.setenv("BPFREE_PRECISION", "double")
    with pytest.raises(DeviceError, match="'double' is none of highest, high, medium"):
        training.precision()
    monkeypatch.delenv("BPFREE_PRECISION")
    assert training.precision() == "highest"


def test_a_precision_holds_for_a_block_and_no_longer():
    before = torch.get_float32_matmul_precision()
    with pytest.raises(ZeroDivisionError), training.multiplying("medium"):
        assert torch.get_float32_matmul_precision() == "medium"
        raise ZeroDivisionError
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize(("profile", "epochs"), [("paper", 4), ("standard", None)])
def test_at_scale_the_main_comparison_is_tuned_on_a_tenth_of_its_epochs(
    monkeypatch, profile, epochs
):
    seen = []
    monkeypatch.setenv("BPFREE_PROFILE", profile)
    monkeypatch.setenv("BPFREE_PRECISION", "medium")
    study = Study(SLUG, {})
    monkeypatch.setattr(study, "_tune", lambda *given: seen.append(given[3]))
    monkeypatch.setattr(study, "metric", lambda *given: None)
    monkeypatch.setattr(Comparison, "test", lambda *given: None)
    arms = dict.fromkeys([SLUG, "backprop", "textbook", "frozen"])
    study.compare(arms, None, 40, 8, [0.1])
    assert [budget.tuning_epochs for budget in seen] == [epochs] * 4
    assert {b.precision for b in seen} == {"medium" if profile == "paper" else "highest"}
