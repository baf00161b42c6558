"""Jobs: one notebook, several named sets of parameters, each with a report of its own."""

import json
import subprocess
import sys

import pytest
from conftest import FINISH, PARAMETERS, TINY, cell

from bpfree_common.errors import CatalogueError, ParameterError
from bpfree_common.papers import catalogue

GROUP = "group: {title: G, short: G, notebook: shared, jobs: {a: {word: a}, b: {word: b}}"


def load(tmp_path, text: str) -> dict[str, catalogue.Entry]:
    path = tmp_path / "papers.yaml"
    path.write_text(text)
    return catalogue.load(path)


# --- the catalogue ----------------------------------------------------------------------


def test_every_job_is_an_entry_that_shares_the_notebook(tmp_path):
    found = load(tmp_path, f"{GROUP}, profiles: {{standard: {{number: 5}}}}}}")
    assert list(found) == ["group-a", "group-b"]
    for name in "ab":
        entry = found[f"group-{name}"]
        assert entry.path.name == "shared.ipynb"
        assert (entry.of, entry.title) == ("group", f"G: {name}")
        assert entry.changes("quick") == {"word": name}
        assert entry.changes("standard") == {"number": 5, "word": name}
        assert entry.runs_at == ["quick", "standard"]


def test_quick_expects_only_the_jobs_that_are_named_for_it(tmp_path):
    found = load(tmp_path, f"{GROUP}, quick_jobs: [b]}}")
    assert not found["group-a"].has("quick")
    assert found["group-b"].has("quick")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{GROUP}, quick_jobs: [c]}}", "group: quick_jobs names 'c', which is no job"),
        ("g: {title: t, short: s, jobs: [a]}", "g: jobs is a list, not a dict"),
        (
            "g: {title: t, short: s, jobs: {a: 5}}",
            "g: write each job as `name: {parameter",
        ),
        ("g: {title: t, short: s, quick_jobs: [a]}", "g: quick_jobs names 'a'"),
        ("g: {title: t, short: s, job: {word: a}}", "g: .*unexpected keyword .*'job'"),
        (f"{GROUP}}}\ngroup-a: {{title: t, short: s}}", "'group-a' stands here twice"),
    ],
)
def test_a_slip_in_jobs_is_refused_by_name(tmp_path, text, message):
    with pytest.raises(CatalogueError, match=message):
        load(tmp_path, text)


def test_a_page_reads_the_jobs_that_it_names_or_says_that_there_are_none(
    tmp_path, monkeypatch
):
    text = f"{GROUP}}}\npage: {{title: t, short: s, reads_records: [group]}}\n"
    found = load(tmp_path, text + "lost: {title: t, short: s, reads_records: [gone]}")
    monkeypatch.setattr(catalogue, "load", lambda path=None: found)
    assert catalogue.read_by(found["page"]) == ["group-a", "group-b"]
    with pytest.raises(CatalogueError, match="lost: there are no jobs of 'gone'"):
        catalogue.read_by(found["lost"])
    with pytest.raises(CatalogueError, match="group stands for 2 jobs: group-a, group-b"):
        catalogue.get("group")


def test_a_job_may_use_a_word_of_its_own_and_no_other_may(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue.paths, "NOTEBOOKS", tmp_path)
    write(tmp_path / "shared.ipynb", cell(PARAMETERS, "parameters"))
    text = GROUP.replace("b: {word: b}", "c: {word: c}")
    found = load(tmp_path, f"{text}}}")
    assert found["group-c"].resolve("quick")["word"] == "c"
    with pytest.raises(ParameterError, match="word='c' is not one of: a, b"):
        found["group-a"].resolve("quick", {"word": "c"})
    with pytest.raises(ParameterError, match="word='d' is not one of: a, b, c"):
        found["group-c"].resolve("quick", {"word": "d"})


# --- the runner -------------------------------------------------------------------------

JOB = """
from bpfree_common import load_rule
print("rule", load_rule(word).VALUE)
"""

CATALOGUE = f"""
{GROUP}, quick_jobs: [a]}}
page: {{title: page, short: page, reads_records: [group]}}
a: {{title: a, short: a, family: forward_only}}
b: {{title: b, short: b, family: forward_only}}
"""


def write(path, *cells) -> None:
    content = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(content))


def rule(project, slug: str, value: int) -> None:
    """The notebook of a rule whose rule cell holds one number."""
    parameters = cell(PARAMETERS, "parameters")
    write(
        project.notebooks / "forward_only" / f"{slug}.ipynb",
        parameters,
        cell(f"VALUE = {value}", "rule"),
        cell(TINY.format(slug=slug, body="") + FINISH.format(slug=slug)),
    )


@pytest.fixture
def group(project):
    """Two rules, a job for each, and a page that reads the records of the jobs."""
    (project.notebooks / "forward_only").mkdir()
    for slug in "ab":
        rule(project, slug, 1)
    finish = FINISH.replace("{slug!r}", "f'group-{{word}}'").format()
    start = TINY.replace("{slug!r}", "f'group-{{word}}'").format(body=JOB)
    parameters = cell(PARAMETERS, "parameters")
    write(project.notebooks / "shared.ipynb", parameters, cell(start), cell(finish))
    told = PARAMETERS + 'profile: str = "quick"  # quick, standard | profile\n'
    finish = FINISH.format(slug="page").replace(
        '"word": word}', '"word": word, "profile": profile}'
    )
    start = TINY.format(slug="page", body="")
    write(
        project.notebooks / "page.ipynb", cell(told, "parameters"), cell(start + finish)
    )
    (project.notebooks / "papers.yaml").write_text(CATALOGUE)
    return project


def said(project) -> dict[str, str]:
    """What `check` says of the page and of both jobs."""
    command = [sys.executable, "-m", "bpfree_common", "check"]
    done = subprocess.run(
        [*command, "page", "group"],
        env=project.environment(),
        capture_output=True,
        text=True,
    )
    return dict(line.split(": ", 1) for line in done.stdout.splitlines())


def test_an_entry_with_jobs_runs_them_all_and_each_leaves_its_own_record(group):
    done = group.run("group")
    assert done.returncode == 0, done.stdout + done.stderr
    for word in "ab":
        content, record = group.report(f"group-{word}")
        assert (record["method"], record["parameters"]["word"]) == (f"group-{word}", word)
        assert list(record["hashes"]["builds_on"]) == [word]
        assert content["cells"]


def test_a_run_of_everything_leaves_out_the_jobs_that_quick_does_not_name(group):
    assert group.run().returncode == 0
    assert group.report("group-a")
    assert group.report("group-b") is None
    assert group.run("group-b").returncode == 0
    assert group.report("group-b")


def test_an_edit_of_a_rule_makes_its_own_job_stale_and_the_page_and_no_other(group):
    assert group.run("group", "page").returncode == 0
    fresh = {"page": "up to date", "group-a": "up to date", "group-b": "up to date"}
    assert said(group) == fresh
    rule(group, "b", 2)
    changed = {"page": "changed: records", "group-b": "changed: rule of b"}
    assert said(group) == fresh | changed
    done = group.run("group", "page")
    assert done.returncode == 0
    assert "start   group-b" in done.stdout
    assert "start   group-a" not in done.stdout
    assert said(group) == fresh
