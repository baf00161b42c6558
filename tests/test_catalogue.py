"""Catalogue, records and loader: what is declared, kept, hashed and imported."""

import json
import traceback

import pytest

from bpfree_common import LearningRule, records
from bpfree_common.errors import CatalogueError, ReportError
from bpfree_common.papers import catalogue, loader, notebook


def good_record() -> dict:
    empty = {name: {} for name in ("tuning", "curves", "cost", "audit", "timing")}
    return empty | {
        "schema": 1, "method": "template", "title": "", "short": "", "family": None,
        "profile": "quick", "parameters": {}, "seeds": [0], "metrics": [],
        "identities": [], "claims": [], "figures": [], "environment": {},
        "hashes": records.hashes("template", {}, ["rule"], ["digits"], "quick"),
    }  # fmt: skip


# --- catalogue --------------------------------------------------------------------------


def write_catalogue(folder, text):
    path = folder / "papers.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {title: t, short: s, colour: red}", "a: .*unexpected keyword .*'colour'"),
        ("a: {title: t}", "a: .*missing .*'short'"),
        ("a: {title: t, short: s, family: magic}", "unknown family 'magic'"),
        ("a: {title: t", "not valid YAML"),
    ],
)
def test_a_bad_entry_is_refused_by_name(tmp_path, text, message):
    with pytest.raises(CatalogueError, match=message):
        catalogue.load(write_catalogue(tmp_path, text))


def test_quick_changes_nothing_and_an_unknown_profile_is_refused():
    entry = catalogue.get("template")
    assert entry.changes("quick") == {}
    with pytest.raises(CatalogueError, match="no profile 'huge': choose one of quick"):
        entry.changes("huge")


def test_a_page_of_records_is_told_the_profile():
    assert catalogue.get("overview").resolve("standard")["profile"] == "standard"


def test_a_page_may_have_profiles_of_its_own(tmp_path):
    text = "a: {title: t, short: s, profiles: {standard: {seeds: 3}}}"
    page = catalogue.load(write_catalogue(tmp_path, text))["a"]
    assert page.changes("standard") == {"seeds": 3}
    assert page.changes("quick") == page.changes("paper") == {}


# --- records ----------------------------------------------------------------------------


def test_a_record_survives_writing_and_reading(tmp_path):
    record = good_record()
    records.write(record, tmp_path / "quick" / "template" / "record.json")
    assert records.load("template", "quick", tmp_path) == record


@pytest.mark.parametrize("damage", ["missing", "extra", "verdict", "nan"])
def test_a_broken_record_is_never_written(tmp_path, damage):
    record = good_record()
    if damage == "missing":
        del record["audit"]
    elif damage == "extra":
        record["mood"] = "good"
    elif damage == "verdict":
        claim = dict.fromkeys(("name", "text", "unit", "note"), "")
        record["claims"] = [claim | {"verdict": "yes", "measured": [], "band": []}]
    else:
        record["timing"] = {"seconds": float("nan")}
    with pytest.raises(Exception, match="data|finite"):
        records.write(record, tmp_path / "record.json")
    assert not list(tmp_path.iterdir())


def test_a_damaged_record_is_named_with_what_to_do(tmp_path):
    path = tmp_path / "quick" / "template" / "record.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(good_record())[:-20])
    with pytest.raises(ReportError, match="delete it and run `make reports`"):
        records.load("template", "quick", tmp_path)


def test_timings_do_not_enter_the_canonical_record():
    one, two = good_record(), good_record()
    two["timing"] = {"seconds": 3.0}
    assert records.canonical(one) == records.canonical(two)


@pytest.mark.parametrize("part", ["source", "tags", "markdown"])
def test_what_a_reader_sees_of_a_notebook_counts(tmp_path, part):
    content = notebook.read(catalogue.get("template").path)
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps(content))
    before = notebook.content_hash(path)
    content["cells"][0]["id"] = "another"
    content["metadata"]["kernelspec"] = {}
    path.write_text(json.dumps(content))
    assert notebook.content_hash(path) == before
    index = 0 if part == "markdown" else 3
    if part == "tags":
        content["cells"][index]["metadata"] = {"tags": ["rule"]}
    else:
        content["cells"][index]["source"] = "x = 1"
    path.write_text(json.dumps(content))
    assert notebook.content_hash(path) != before


@pytest.mark.parametrize("cut", [["a\n", "b\n"], ["a\nb\n"], "a\nb\n"])
def test_where_a_stream_was_cut_is_not_a_difference(cut):
    chunks = [cut] if isinstance(cut, str) or len(cut) == 1 else [cut[:1], cut[1:]]
    outputs = [{"output_type": "stream", "name": "stdout", "text": c} for c in chunks]
    one = {"output_type": "stream", "name": "stdout", "text": "a\nb\n"}
    assert notebook.joined(outputs) == [one]


# --- loader -----------------------------------------------------------------------------


def test_a_rule_is_imported_from_its_notebook_once():
    module = loader.load_rule("template")
    assert module is loader.load_rule("template")
    assert issubclass(module.RandomReadout, LearningRule)
    assert not hasattr(module, "study"), "only the rule cells are run"


def test_tracebacks_show_the_lines_of_the_notebook():
    module = loader.load_rule("template")
    try:
        module.RandomReadout([4, 3, 2], None).credit((None, None))
    except AttributeError:
        text = traceback.format_exc()
    assert "template.ipynb#cell-" in text
    assert "h = unit(h.detach())" in text


def test_a_replacement_must_match_exactly_once():
    path = catalogue.get("template").path
    for old in ("no such text", "self"):
        with pytest.raises(CatalogueError, match=rf"contain {old!r} \d+ times, not once"):
            loader.build(path, "mutant", replace=(old, ""))
