"""The door: `new` writes a rule that runs, and says what a paper still lacks."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from bpfree_common import load_rule, paths, records
from bpfree_common.__main__ import main
from bpfree_common.errors import CatalogueError
from bpfree_common.papers import catalogue, notebook, scaffold
from bpfree_common.records import provenance
from bpfree_common.running import plan

TITLE = 'One "bit" per weight: signs — and that is all'


@pytest.fixture
def checkout(tmp_path):
    """A copy of the notebooks, beside which tests may be written."""
    skip = shutil.ignore_patterns(".ipynb_checkpoints", catalogue.OWN)
    return shutil.copytree(paths.NOTEBOOKS, tmp_path / "notebooks", ignore=skip).parent


@pytest.fixture
def inside(checkout, monkeypatch):
    """The same, and this process works in it."""
    monkeypatch.setattr(paths, "NOTEBOOKS", checkout / "notebooks")
    monkeypatch.setattr(paths, "CATALOGUE", checkout / "notebooks" / "papers.yaml")
    return checkout


def command(checkout, *arguments: str) -> subprocess.CompletedProcess:
    """`python -m ...` in the copy."""
    own = {
        "BPFREE_NOTEBOOKS": str(checkout / "notebooks"),
        "BPFREE_REPORTS": str(checkout / "reports"),
        "PYTHONPATH": os.pathsep.join([str(checkout / "tests"), str(paths.PROJECT)]),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=paths.PROJECT,
        env=os.environ | own,
        capture_output=True,
        text=True,
        timeout=500,
    )


def snapshot(folder) -> dict:
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def new(*more: str, slug="sign_readout", title=TITLE, family="local_loss") -> int:
    return main(["new", slug, "--title", title, "--family", family, *more])


# --- what is written runs ---------------------------------------------------------------


def test_a_new_rule_runs_is_tested_and_is_told_what_a_paper_lacks(checkout):
    arguments = ("new", "sign_readout", "--title", TITLE, "--family", "local_loss")
    assert command(checkout, "bpfree_common", *arguments).returncode == 0
    done = command(checkout, "bpfree_common", "run", "sign_readout")
    assert done.returncode == 0, done.stdout + done.stderr
    record = records.load("sign_readout", "quick", checkout / "reports")
    assert (record["method"], record["title"]) == ("sign_readout", TITLE)
    assert {c["name"] for c in record["claims"]} == {
        "above_frozen", "near_backprop", "flat_memory"
    }  # fmt: skip
    test = f"{checkout}/tests/test_sign_readout.py"
    done = command(checkout, "pytest", "-c", "pyproject.toml", test)
    assert done.returncode == 0, done.stdout
    assert "...." in done.stdout, "the identities, and three defects"
    files = ("tests/test_conventions.py", "tests/test_standard.py")
    done = command(checkout, "pytest", *files, "-k", "sign_readout", "--tb=short")
    said = done.stdout
    assert "TypeError" not in said
    assert "papers.yaml, sign_readout: fill in authors, year, venue, headline" in said
    advice = "run `make reports PROFILE=standard M=sign_readout` and commit"
    # pytest repeats the reason in its summary, cut to the terminal's width or not
    lines = said.splitlines()
    failed = [line for line in lines if line.startswith("FAILED")]
    told = [line for line in lines if advice in line and not line.startswith("FAILED")]
    assert len(failed) == len(told) + 1 > 1, "a sentence for each, no traceback"


def test_the_notebook_has_the_anatomy_and_no_trace_of_the_template(inside):
    new()
    path = catalogue.get("sign_readout").path
    content = notebook.read(path)
    code = "\n".join(notebook.source(c) for c in content["cells"] if "id" in c)
    assert path == inside / "notebooks" / "local_loss" / "sign_readout.ipynb"
    assert notebook.source(content["cells"][0]).startswith(f"# {TITLE}\n")
    assert '"template"' not in code and "'template'" not in code
    for part in ('Study("sign_readout"', "study.card()", "study.found()"):
        assert part in code
    ids = [cell["id"] for cell in content["cells"]]
    assert len(set(ids)) == len(ids)


def test_the_entry_is_added_and_nothing_else_of_the_catalogue_changes(inside):
    before = paths.CATALOGUE.read_text()
    new("--short", "1 bit: sign")
    after = paths.CATALOGUE.read_text()
    assert after.startswith(before)
    entry = catalogue.get("sign_readout")
    assert (entry.title, entry.short, entry.family) == (
        TITLE,
        "1 bit: sign",
        "local_loss",
    )
    assert entry.declared_claims == catalogue.get("template").declared_claims
    entry.resolve("standard")


@pytest.mark.parametrize(
    ("slug", "short"),
    [
        ("sign_readout", "Sign readout"),
        ("direct_random_target_projection", "DRTP"),
        ("perceptron", "Perceptron"),
        ("a" * 60, "A"),
    ],
)
def test_a_short_name_is_made_of_the_words(slug, short):
    assert scaffold.shortened(slug) == short


# --- what cannot be is refused, and nothing is written ----------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"family": "local_los"}, "unknown family 'local_los': did you mean local_loss?"),
        ({"slug": "Sign-Readout"}, "'Sign-Readout' cannot name a notebook: write small"),
        ({"slug": "../escape"}, "cannot name a notebook"),
        ({"slug": "lambda"}, "'lambda' cannot name a notebook"),
        ({"slug": "x" * 61}, "cannot name a notebook"),
        ({"slug": "frozen"}, "'frozen' is an arm of every comparison"),
        ({"slug": "pepita"}, "pepita.ipynb already: choose another name"),
        ({"title": " "}, "the title ' ' of sign_readout is not a line of text"),
        ({"title": "two\nlines"}, "is not a line of text"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(inside, capsys, options, message):
    before = snapshot(inside)
    assert new(**options) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
    assert snapshot(inside) == before


def test_a_short_name_that_axes_cannot_show_is_refused(inside):
    with pytest.raises(CatalogueError, match="more than 14 characters"):
        scaffold.new("sign_readout", TITLE, "local_loss", "x" * 15)


def test_a_file_that_is_there_is_never_overwritten(inside):
    (inside / "tests").mkdir()
    (inside / "tests" / "test_sign_readout.py").write_text("precious")
    before = snapshot(inside)
    with pytest.raises(CatalogueError, match="test_sign_readout.py is there already"):
        scaffold.new("sign_readout", TITLE, "local_loss")
    assert snapshot(inside) == before


def test_a_folder_that_cannot_be_written_leaves_nothing_behind(inside):
    (inside / "tests").write_text("a file where a folder should be")
    before = snapshot(inside)
    with pytest.raises(CatalogueError, match="cannot be written"):
        scaffold.new("sign_readout", TITLE, "local_loss")
    assert snapshot(inside) == before


# --- a user's own -----------------------------------------------------------------------


def test_a_rule_of_ones_own_is_found_and_is_no_paper(inside):
    papers = paths.CATALOGUE.read_text()
    assert new("--mine", slug="mine") == 0
    assert paths.CATALOGUE.read_text() == papers
    assert {p.name for p in (paths.NOTEBOOKS / catalogue.OWN).iterdir()} == {
        "mine.ipynb", "test_mine.py", "papers.yaml"
    }  # fmt: skip
    entry = catalogue.get("mine")
    assert (entry.own, entry.is_paper) == (True, False)
    assert list(catalogue.load())[-1] == "mine"
    found = plan.plan(["mine"], "quick", {}, inside / "reports")
    assert [job.slug for job in found.jobs] == ["mine"]
    assert plan.plan(["mine"], "paper", {}, inside / "reports").absent == ["mine"]


def test_git_ignores_it():
    done = subprocess.run(
        ["git", "check-ignore", "-q", f"notebooks/{catalogue.OWN}/mine.ipynb"],
        cwd=paths.PROJECT,
    )
    assert done.returncode == 0 or not (paths.PROJECT / ".git").exists()


def test_a_rule_of_ones_own_may_build_on_a_paper(inside):
    new("--mine", slug="mine_on_pepita")
    path = paths.NOTEBOOKS / catalogue.OWN / "papers.yaml"
    text = path.read_text()
    path.write_text(
        text.replace("# builds_on: [another_notebook]", "builds_on: [pepita]")
    )
    entry = catalogue.get("mine_on_pepita")
    content = json.loads(entry.path.read_text())
    cell = next(c for c in content["cells"] if "rule" in notebook.tags(c))
    more = (
        '\n\nfrom bpfree_common import load_rule\n\nPEPITA = load_rule("pepita").PEPITA'
    )
    cell["source"] = notebook.source(cell) + more
    entry.path.write_text(json.dumps(content))
    assert load_rule("mine_on_pepita").PEPITA is load_rule("pepita").PEPITA
    assert provenance.rules(entry.builds_on)["pepita"] == provenance.rule_hash("pepita")
    from bpfree_common.rules import mine_on_pepita

    assert mine_on_pepita is load_rule("mine_on_pepita")


def test_slips_in_ones_own_catalogue_name_that_file(inside):
    own = paths.NOTEBOOKS / catalogue.OWN
    own.mkdir()
    for text, message in {
        "a: {title: t, short: s, family: x}": "^my/papers.yaml, a: unknown family 'x'",
        "pepita: {title: t, short: s}": "^my/papers.yaml, pepita: the collection has",
        "a: {title: t, short: s, own: true}": "^my/papers.yaml, a: .*unexpected keyword",
    }.items():
        (own / "papers.yaml").write_text(text)
        with pytest.raises(CatalogueError, match=message):
            catalogue.load()
    (own / "papers.yaml").write_text("")
    (own / "lonely.ipynb").write_text("{}")
    with pytest.raises(
        CatalogueError, match="lonely.ipynb has no entry in my/papers.yaml"
    ):
        catalogue.get("lonely")
