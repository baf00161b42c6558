"""The claim atlas holds every claim of the records, once, with the way to its cell."""

import copy
import json

import fastjsonschema
import numpy as np
import pytest

from bpfree_common import paths
from bpfree_common.__main__ import main
from bpfree_common.papers import notebook
from bpfree_common.publishing import atlas
from bpfree_common.studies import overview


@pytest.fixture(scope="module")
def found():
    return overview.rows("standard")


@pytest.fixture(scope="module")
def made(found):
    return atlas.of(found, "standard")


def cells(*sources: str) -> list[dict]:
    return [{"cell_type": "code", "source": source} for source in sources]


# --- what it holds ----------------------------------------------------------------------


def test_every_claim_of_every_record_stands_in_it_once(found, made):
    wanted = [f"{r.slug}/{c['name']}" for r in found for c in r.record["claims"]]
    assert [claim["id"] for claim in made["claims"]] == wanted
    assert len(set(wanted)) == len(wanted) > 100


def test_it_counts_what_the_overview_counts(found, made):
    for verdict, number in made["verdicts"].items():
        assert number == sum(row.counts().get(verdict, 0) for row in found)
    assert sum(made["verdicts"].values()) == len(made["claims"])


def test_a_claim_says_what_its_record_says(found, made):
    by_id = {claim["id"]: claim for claim in made["claims"]}
    for row in found:
        for kept in row.record["claims"]:
            claim = by_id[f"{row.slug}/{kept['name']}"]
            for key in ("text", "verdict", "band", "unit"):
                assert claim[key] == kept[key]
            shown = {
                m["setting"]: [*(m["interval"] or [None, None]), m["mean"]]
                for m in claim["measured"]
            }
            stated = kept["intervals"].items()
            assert shown == {s: [low, high, mean] for s, (low, mean, high) in stated}
            assert (claim["source"], claim["share"]) == (kept["source"], kept["share"])


def test_a_mean_is_that_of_its_values_and_lies_in_its_interval(made):
    for claim in made["claims"]:
        for measured in claim["measured"]:
            assert np.isclose(measured["mean"], np.mean(measured["values"]))
            low, high = measured["interval"] or (measured["mean"], measured["mean"])
            assert low <= measured["mean"] <= high
        if claim["measured"] == []:
            assert claim["verdict"] == "not attempted at this scale"


def test_the_reason_is_the_one_that_was_written_or_else_the_note(found, made):
    kept = [claim for row in found for claim in row.record["claims"]]
    for claim, old in zip(made["claims"], kept, strict=True):
        assert claim["reason"] in (old["why"], old["note"])
        assert claim["reason"] or not (old["why"] or old["note"])


def test_a_link_leads_to_a_cell_that_names_the_claim(made):
    for claim in made["claims"]:
        about = made["papers"][claim["paper"]]
        path = paths.PROJECT / "reports" / about["report"]
        cell = notebook.read(path)["cells"][claim["cell"]]
        assert f'"{claim["name"]}"' in notebook.source(cell), claim["id"]
        assert claim["page"] == f"{about['page']}#{atlas.anchor(claim['name'])}"


# --- which cell judges a claim ----------------------------------------------------------


def test_the_cell_that_judges_counts_and_not_one_that_only_names_it():
    judged = cells('plot("gap")', 'study.claim("gap", 1)', 'study.why("gap", "so")')
    assert atlas.claim_cells(judged, ["gap"]) == {"gap": 1}


def test_a_claim_judged_in_a_loop_is_found_by_its_name_alone():
    looped = cells("x = 1", 'for n in ["a", "b"]:\n    study.claim(n, 1)')
    assert atlas.claim_cells(looped, ["a", "c"]) == {"a": 1, "c": None}


def test_commands_of_ipython_are_no_obstacle():
    mixed = cells("%matplotlib inline\n!ls", 'study.not_attempted("gap", "why")')
    assert atlas.claim_cells(mixed, ["gap"]) == {"gap": 1}


# --- its schema, its command ------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [("verdict", "proven"), ("source", "hearsay"), ("band", [0]), ("share", -1)],
)
def test_the_schema_refuses_a_claim_that_is_none(made, key, value):
    broken = copy.deepcopy(made)
    broken["claims"][0][key] = value
    with pytest.raises(fastjsonschema.JsonSchemaException, match=key):
        atlas.validator()(broken)


def test_the_command_prints_it_or_writes_it(made, tmp_path, capsys):
    assert main(["atlas"]) == 0
    assert json.loads(capsys.readouterr().out) == made
    assert main(["atlas", "-o", str(tmp_path / "atlas.json")]) == 0
    assert f"({len(made['claims'])} claims)" in capsys.readouterr().out
    assert json.loads((tmp_path / "atlas.json").read_text()) == made


def test_without_records_one_sentence_says_how_to_make_some(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("BPFREE_REPORTS", str(tmp_path))
    assert main(["atlas", "--profile", "paper"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no paper has a record at the paper profile: run `make reports" in said


def test_a_file_that_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / "taken").write_text("a file, no folder")
    assert main(["atlas", "-o", str(tmp_path / "taken" / "atlas.json")]) == 2
    assert "cannot be written" in capsys.readouterr().err
