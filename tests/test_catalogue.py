"""Catalogue, records and loader: what is declared, kept, hashed and imported."""

import json
import os
import traceback

import pytest

from bpfree_common import LearningRule, paths, records
from bpfree_common.errors import CatalogueError, IdentityFailed, ReportError
from bpfree_common.papers import catalogue, loader, notebook
from bpfree_common.papers.claims import ClaimEntry
from bpfree_common.records import staleness


def good_record() -> dict:
    empty = {
        name: {} for name in ("tuning", "curves", "cost", "audit", "timing", "budget")
    }
    return empty | {
        "schema": 2, "method": "template", "title": "", "short": "", "family": None,
        "profile": "quick", "parameters": {}, "seeds": [0], "metrics": [],
        "tuning_seeds": [], "findings": [], "headline": "",
        "identities": [], "claims": [], "figures": [], "environment": {},
        "hashes": records.hashes("template", {}, ["rule"], ["digits"], "quick"),
    }  # fmt: skip


# --- catalogue --------------------------------------------------------------------------


def write_catalogue(folder, text):
    path = folder / "papers.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


ONE = "a: {title: t, short: s"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{ONE}, colour: red}}", "a: .*unexpected keyword .*'colour'"),
        ("a: {title: t}", "a: .*missing .*'short'"),
        (f"{ONE}, family: magic}}", "unknown family 'magic': choose one of forward_only"),
        (f"{ONE}, family: forward_olny}}", "did you mean forward_only"),
        (ONE, r"papers.yaml, line \d is not valid YAML: "),
        ("[a, b]", "papers.yaml holds a list, not one entry per notebook"),
        ("just words", "papers.yaml holds a str"),
        ("7: {title: t, short: s}", "papers.yaml, 7: write `name_of_the_notebook"),
        ("a: 5", "papers.yaml, a: write `name_of_the_notebook"),
        (f"{ONE}}}\n{ONE}}}", "line 2 is not valid YAML: 'a' stands here twice"),
        (f"{ONE}, claims: [a]}}", "a: claims is a list, not a dict"),
        (f"{ONE}, year: soon}}", "a: year is a str, not a int"),
        (f"{ONE}, builds_on: b}}", "a: builds_on is a str, not a list"),
        (f"{ONE}, headline: [5]}}", "a: a row of headline is no mapping"),
        (f"{ONE}, headline: [{{unverified: perhaps}}]}}", "unverified is true or left"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("[" * 5_000, "papers.yaml"),
        (b"\xff\xfea\x00:\x00", "papers.yaml is not valid YAML"),
        (b"a: \xe9", "papers.yaml is not valid YAML: 'utf-8' codec"),
    ],
)
def test_a_bad_entry_is_refused_by_name(tmp_path, text, message):
    with pytest.raises(CatalogueError, match=message) as caught:
        catalogue.load(write_catalogue(tmp_path, text))
    assert len(str(caught.value).splitlines()) == 1


def test_a_running_kernel_sees_a_new_entry(tmp_path):
    path = write_catalogue(tmp_path, f"{ONE}}}")
    first = catalogue.load(path)
    assert catalogue.load(path) is first, "read once while nothing changes"
    write_catalogue(tmp_path, f"{ONE}}}\nb: {{title: t, short: s}}")
    assert list(catalogue.load(path)) == ["a", "b"]


def test_an_edit_of_equal_length_is_seen_too(tmp_path):
    path = write_catalogue(tmp_path, f"{ONE}}}")
    before = path.stat()
    assert catalogue.load(path)["a"].title == "t"
    write_catalogue(tmp_path, f"{ONE}}}".replace("title: t", "title: u"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000))
    assert catalogue.load(path)["a"].title == "u"


def test_an_unknown_notebook_is_answered_with_the_nearest():
    with pytest.raises(CatalogueError, match="'templat': did you mean template"):
        catalogue.get("templat")
    with pytest.raises(CatalogueError, match="'qqq': choose one of overview, "):
        catalogue.get("qqq")
    with pytest.raises(CatalogueError, match="no profile 'papr': did you mean paper"):
        catalogue.get("template").changes("papr")


def test_a_notebook_without_an_entry_is_told_what_to_add(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(paths, "CATALOGUE", write_catalogue(tmp_path, f"{ONE}}}"))
    (tmp_path / "local_loss").mkdir()
    (tmp_path / "local_loss" / "mine.ipynb").write_text("{}")
    with pytest.raises(CatalogueError, match="mine.ipynb has no entry.*family: local_lo"):
        catalogue.get("mine")


# --- claims -----------------------------------------------------------------------------


def claims_of(folder, *lines: str) -> catalogue.Entry:
    inside = "".join(f"\n      {line}" for line in lines)
    text = (
        f"a:\n  title: t\n  short: s\n  claims:\n    plain: A text.\n    full:{inside}\n"
    )
    return catalogue.load(write_catalogue(folder, text))["a"]


def test_a_claim_may_be_its_text_or_all_that_is_declared_of_it(tmp_path):
    entry = claims_of(
        tmp_path,
        "text: It is fast.",
        "source: third party",
        "band: [1.5, null]",
        "null: 1",
        "unit: times",
        "final_accuracy: true",
    )
    assert entry.claims == {"plain": "A text.", "full": "It is fast."}
    full = ClaimEntry("It is fast.", "third party", (1.5, None), 1, "times", True)
    assert entry.declared_claims == {"plain": ClaimEntry("A text."), "full": full}
    assert list(entry.declared_claims) == list(entry.claims)


def test_a_null_may_be_another_arms_value(tmp_path):
    lines = "text: It is fast.", "source: ours", "band: [null, 0]", "null: measured"
    assert claims_of(tmp_path, *lines).declared_claims["full"].null == "measured"


@pytest.mark.parametrize("null", ["1.5", "2", "9"])
def test_a_band_that_contains_its_null_is_refused(tmp_path, null):
    lines = "text: T.", "source: paper", "band: [1.5, null]", f"null: {null}"
    with pytest.raises(CatalogueError, match="a: claim 'full': the band .* contains its"):
        claims_of(tmp_path, *lines)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("band: [null, null]", "open on both sides"),
        ("band: [2, 1]", "ends below its beginning"),
        ("band: [1]", r"band is \[low, high\]"),
        ("band: 1", r"band is \[low, high\]"),
        ("band: [low, 1]", "neither a number nor null"),
        ("band: [true, 1]", "neither a number nor null"),
        ("band: [.nan, 1]", "neither a number nor null"),
        ("band: [-.inf, 1]", "neither a number nor null"),
        ("null: none", "null is a number or 'measured', not 'none'"),
        ("bnad: [0, 1]", "unknown key 'bnad': did you mean band"),
        ("unit: 5", "unit is a text, not 5"),
        ("final_accuracy: perhaps", "final_accuracy is true or false"),
    ],
)
def test_a_slip_in_a_claim_is_refused_by_name(tmp_path, line, message):
    with pytest.raises(CatalogueError, match=f"a: claim 'full': .*{message}"):
        claims_of(tmp_path, "text: T.", "source: paper", line)


@pytest.mark.parametrize("source", ["source: hearsay", "unit: s"])
def test_a_declared_claim_needs_a_source_that_is_known(tmp_path, source):
    with pytest.raises(CatalogueError, match="source is one of abstract, paper, reposit"):
        claims_of(tmp_path, "text: T.", source)


@pytest.mark.parametrize("text", ["text: ''", "text: 5", "source: paper"])
def test_a_claim_needs_a_text(tmp_path, text):
    with pytest.raises(CatalogueError, match="a: claim 'full' has no text"):
        claims_of(tmp_path, text)


def test_a_changed_band_makes_a_report_stale_and_plain_texts_count_as_ever(tmp_path):
    shown = []
    for high in ("2", "3"):
        lines = "text: T.", "source: ours", f"band: [1, {high}]", "null: 0"
        shown.append(staleness.shown(claims_of(tmp_path, *lines)))
        (tmp_path / "papers.yaml").unlink()
    assert shown[0] != shown[1]
    for entry in catalogue.load().values():
        if not any(claim.source for claim in entry.declared_claims.values()):
            assert entry.written_claims == entry.claims


# --- profiles ---------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"{}",
        b"5",
        b"null",
        b'{"cells": 5}',
        b'{"cells": [5]}',
        b'{"cells": [{"cell_type": "code"}]}',
        '{"cells": []}'.encode("utf-16"),
        b"<<<<<<< HEAD\n{}",
        b"[" * 100_000,
        b"",
    ],
    ids=lambda content: content[:12].decode(errors="replace"),
)
def test_what_is_no_notebook_is_named(tmp_path, content):
    path = tmp_path / "n.ipynb"
    path.write_bytes(content)
    with pytest.raises(CatalogueError, match="n.ipynb is not a notebook") as caught:
        notebook.read(path)
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(CatalogueError, match="cannot be read"):
        notebook.read(tmp_path)


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


def write_notebook(path, *cells: tuple[str, str]):
    """A notebook of code cells, each given as (tag, source)."""
    content = [
        {"cell_type": "code", "metadata": {"tags": [tag]}, "source": text}
        for tag, text in cells
    ]
    path.write_text(json.dumps({"cells": content}))
    return path


CHECK = """
from bpfree_common.studies import identities_hold, identity

@identity({name!r})
def _():
    return {value}

identities_hold()
"""


def test_the_fast_form_of_a_rule_belongs_to_its_module_in_notebook_order(tmp_path):
    path = write_notebook(
        tmp_path / "n.ipynb",
        ("rule", "def plain(x):\n    return x + x"),
        ("", "raise SystemExit('a cell of the story')"),
        ("fast", "def doubled(x):\n    return 2 * x"),
        ("rule", "def variant(x):\n    return doubled(plain(x))"),
        ("check", CHECK.format(name="fast is plain", value="plain(3) == doubled(3)")),
    )
    module = loader.build(path, "with_fast")
    assert module.variant(1) == 4
    loader.run_checks(path, module)
    broken = loader.build(path, "with_slow", replace=("2 * x", "3 * x"))
    with pytest.raises(IdentityFailed, match="fast is plain"):
        loader.run_checks(path, broken)


def test_a_fast_form_alone_is_no_rule(tmp_path):
    path = write_notebook(tmp_path / "n.ipynb", ("fast", "x = 1"))
    with pytest.raises(CatalogueError, match="no code cell tagged 'rule'"):
        loader.build(path, "only_fast")


def test_every_identity_that_fails_is_named(tmp_path):
    path = write_notebook(
        tmp_path / "n.ipynb",
        ("rule", "ran = []"),
        ("check", CHECK.format(name="first", value="ran.append(1) or False")),
        ("check", CHECK.format(name="second", value="ran.append(2) or True")),
        ("check", CHECK.format(name="third", value="ran.append(3) or 0.5")),
        ("check", "from_an_unfinished_cell"),
    )
    module = loader.build(path, "three_checks")
    with pytest.raises(IdentityFailed, match="first: false; third: off by 0.5") as caught:
        loader.run_checks(path, module)
    assert module.ran == [1, 2, 3]
    assert "second" not in str(caught.value)
    assert "cell 4 did not run (NameError" in str(caught.value)


def test_a_check_that_breaks_by_itself_is_an_error_of_its_own(tmp_path):
    path = write_notebook(tmp_path / "n.ipynb", ("rule", ""), ("check", "no_such_name"))
    with pytest.raises(NameError):
        loader.run_checks(path, loader.build(path, "broken_check"))
