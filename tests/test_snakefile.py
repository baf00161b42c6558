"""Many machines: Snakemake runs the notebooks, and the runner decides what is stale."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bpfree_common import paths

SNAKEMAKE = shutil.which("snakemake", path=os.environ.get("PATH", "")) or shutil.which(
    "snakemake", path=str(Path(sys.executable).parent)
)
pytestmark = pytest.mark.skipif(
    SNAKEMAKE is None, reason="there is no snakemake on PATH: pip install snakemake"
)


def snakemake(project, *arguments: str, name: str = "") -> subprocess.CompletedProcess:
    """Run the Snakefile on a project's quick notebooks, in the project's folder."""
    shutil.copy(paths.PROJECT / "Snakefile", project.root)
    settings = [f"python={sys.executable}", "profile=quick", f"notebooks={name}"]
    command = [SNAKEMAKE, "--cores", "2", *arguments, "--config", *settings]
    return subprocess.run(
        command, cwd=project.root, env=project.environment(), text=True,
        capture_output=True, timeout=240,
    )  # fmt: skip


def records(project) -> dict[str, int]:
    found = project.reports.glob("quick/*/record.json")
    return {path.parent.name: path.stat().st_mtime_ns for path in found}


def test_a_failure_stops_no_other_and_what_is_missing_is_made_later(project):
    project.add("good")
    bad = project.add("bad", "1 / 0")
    first = snakemake(project, "--keep-going")
    assert first.returncode != 0
    made = records(project)
    assert list(made) == ["good"]
    failed = project.reports / "failed" / "quick"
    assert [path.name for path in failed.iterdir()] == ["bad.ipynb"]
    bad_now = bad.read_text().replace("1 / 0", "1 / 1")
    bad.write_text(bad_now)
    second = snakemake(project)
    assert second.returncode == 0, second.stderr
    assert records(project).keys() == {"good", "bad"}
    assert records(project)["good"] == made["good"]  # made once
    third = snakemake(project)
    assert "Nothing to be done" in third.stderr + third.stdout


def test_a_report_whose_notebook_fails_now_is_kept(project):
    project.add("good")
    assert snakemake(project).returncode == 0
    before = project.report("good")
    project.add("good", "1 / 0")
    assert snakemake(project).returncode != 0
    assert project.report("good") == before


def test_a_name_that_no_notebook_has_is_one_sentence(project):
    project.add("good")
    done = snakemake(project, name="godo")
    assert done.returncode != 0
    assert "no notebook 'godo' has a quick profile" in done.stderr
