"""Conventions that keep sixty notebooks one collection."""

import importlib
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from support import standard_record

from bpfree_common import paths, records
from bpfree_common.papers import catalogue, notebook

ENTRIES = {slug: entry for slug, entry in catalogue.load().items() if not entry.own}
NOTEBOOKS = list({entry.path: slug for slug, entry in ENTRIES.items()}.values())
PAPERS = [slug for slug, entry in ENTRIES.items() if entry.is_paper]
REPORTED = [s for s, e in ENTRIES.items() if e.reads_records or "standard" in e.profiles]
PROJECT = tomllib.loads((paths.PROJECT / "pyproject.toml").read_text())["project"]


def cells(slug: str, kind: str = "code") -> list[dict]:
    content = notebook.read(ENTRIES[slug].path)
    return [cell for cell in content["cells"] if cell["cell_type"] == kind]


# --- notebooks --------------------------------------------------------------------------


@pytest.mark.parametrize("slug", NOTEBOOKS)
def test_a_notebook_is_stripped_and_short(slug):
    for cell in cells(slug):
        assert not cell["outputs"]
        assert cell["execution_count"] is None
        assert len(notebook.source(cell).splitlines()) <= 45


@pytest.mark.parametrize("slug", NOTEBOOKS)
def test_a_notebook_declares_its_parameters_and_finishes_with_its_record(slug):
    assert ENTRIES[slug].declared()
    assert notebook.source(cells(slug)[-1]).strip() == "study.finish();"
    assert notebook.tags(cells(slug)[0]) == ["parameters"]


@pytest.mark.parametrize("slug", PAPERS)
def test_a_paper_has_the_anatomy(slug):
    found = [tag for cell in cells(slug) for tag in notebook.tags(cell)]
    for tag in ("rule", "check", "audit", "claims"):
        assert tag in found, f"{ENTRIES[slug].path}: no cell tagged {tag!r}"
    assert found.index("rule") < found.index("check") < found.index("audit")
    for cell in cells(slug):
        if {"check", "audit", "claims"} & set(notebook.tags(cell)):
            assert "nbval-check-output" in notebook.tags(cell)
    last = notebook.read(ENTRIES[slug].path)["cells"][-1]
    assert last["cell_type"] == "markdown"
    assert "What to try next" in notebook.source(last)


@pytest.mark.parametrize("slug", PAPERS)
def test_a_paper_is_described_and_claimed(slug):
    entry = ENTRIES[slug]
    wanted = ("title", "short", "authors", "year", "venue", "idea", "headline")
    missing = ", ".join(name for name in wanted if not getattr(entry, name))
    if missing:
        pytest.fail(f"notebooks/papers.yaml, {slug}: fill in {missing}", pytrace=False)
    assert len(entry.short) <= 14
    assert len(entry.claims) >= 3
    assert "standard" in entry.profiles
    for profile in ("quick", *entry.profiles):
        entry.resolve(profile)  # every value declared, typed and in range


@pytest.mark.parametrize("slug", PAPERS)
def test_a_paper_is_tested_by_three_defects_that_fail_one_identity_each(slug):
    tests, record = module_of_tests(slug), standard_record(slug)
    names = [identity["name"] for identity in record["identities"]]
    failing = [identity for _, _, identity in tests.MUTATIONS.values()]
    assert len(failing) >= 3
    for identity in failing:
        assert sum(identity in name for name in names) == 1, identity
    text = Path(tests.__file__).read_text()
    assert "    assert_identities_hold(SLUG)\n" in text
    assert "    assert_caught(SLUG, *MUTATIONS[defect])\n" in text


def module_of_tests(slug: str):
    try:
        return importlib.import_module(f"test_{slug}")
    except ModuleNotFoundError as error:
        if error.name != f"test_{slug}":
            raise
        pytest.fail(
            f"{slug} has no tests: write tests/test_{slug}.py like test_template.py",
            pytrace=False,
        )


def test_every_notebook_is_in_the_catalogue():
    there = set(paths.NOTEBOOKS.rglob("*.ipynb"))
    there -= set(paths.NOTEBOOKS.rglob(".ipynb_checkpoints/*.ipynb"))
    there -= set((paths.NOTEBOOKS / catalogue.OWN).glob("*.ipynb"))
    assert there == {entry.path for entry in ENTRIES.values()}
    alone = {slug for slug, entry in ENTRIES.items() if not entry.of}
    assert alone <= {path.stem for path in there}


def test_the_laboratory_holds_no_papers_rule():
    modules = set(paths.LABORATORY.rglob("*.py"))
    modules -= {
        paths.LABORATORY / "papers/catalogue.py"
    }  # a family may share a paper's name
    source = "\n".join(path.read_text() for path in modules)
    for slug in PAPERS:
        uses = re.findall(rf"\b{slug}\b", source)
        assert not uses, f"bpfree_common names the paper {slug}"


# --- environment ------------------------------------------------------------------------


def pins() -> dict[str, str]:
    lines = [line.split("==") for line in records.lock_pins()]
    return {name.lower().replace("_", "-"): number for name, number in lines}


def test_the_lock_pins_every_dependency_within_its_bounds():
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pins()[requirement.name.lower()])


def test_the_lock_is_a_plain_list_of_pins():
    for line in records.lock_pins():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), line


def test_this_environment_is_the_locked_one():
    for name, number in pins().items():
        assert version(name).split("+")[0] == number


def test_the_conda_environment_is_a_wrapper_over_the_same_pins():
    text = (paths.PROJECT / "environment.yml").read_text()
    dependencies = yaml.safe_load(text)["dependencies"]
    (pip,) = [d["pip"] for d in dependencies if isinstance(d, dict)]
    assert pip == ["--requirement requirements.lock", "--editable ."]
    names = {re.split("[=<>]", d)[0] for d in dependencies if isinstance(d, str)}
    assert names == {"python", "make", "pip"}, "no pins of its own"
    python = next(d for d in dependencies if str(d).startswith("python"))
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(
        python.split("=")[1]
    )


# --- reports ----------------------------------------------------------------------------


@pytest.mark.parametrize("slug", REPORTED)
def test_no_committed_report_is_stale(slug):
    standard_record(slug)
    reason = records.stale(slug, "standard", paths.PROJECT / "reports")
    if reason:
        pytest.fail(
            f"the standard report of {slug} is stale ({reason}): run `make reports "
            f"PROFILE=standard M={slug}`, or show that it holds with `python -m "
            "bpfree_common confirm`, and commit reports/standard",
            pytrace=False,
        )


@pytest.mark.parametrize("slug", PAPERS)
def test_a_committed_record_is_of_real_data_and_three_seeds(slug):
    record = standard_record(slug)
    assert len(record["seeds"]) >= 3
    assert record["hashes"]["data"], "embedded data alone: choose a published set"
    assert record["parameters"].get("dataset") not in ("digits", "mnist5k")
    assert {c["name"] for c in record["claims"]} == set(ENTRIES[slug].claims)
    assert record["identities"]
