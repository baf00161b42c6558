"""Shared fixtures: a paper's rule, and a small project in a temporary folder."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

from bpfree_common import load_rule

TINY = """
import json, os
from pathlib import Path
from bpfree_common import records

records.start({slug!r})
Path(os.environ["TINY_PIDS"], str(os.getpid())).touch()
{body}
"""

FINISH = """
record = {{
    "schema": 2, "method": {slug!r}, "title": "", "short": "", "family": None,
    "profile": os.environ["BPFREE_PROFILE"],
    "parameters": {{"number": number, "word": word}}, "seeds": [0], "metrics": [],
    "tuning_seeds": [], "findings": [], "headline": "", "budget": {{}}, "tuning": {{}},
    "curves": {{}}, "cost": {{}}, "audit": {{}}, "identities": [],
    "claims": [], "figures": [], "environment": {{}}, "timing": {{}},
    "hashes": records.run_hashes(
        {slug!r}, {{"number": number, "word": word}}, [], "quick"
    ),
}}
print("number", number)
records.write(record, Path(os.environ["BPFREE_RUN_DIR"]) / "record.json");
"""

PARAMETERS = """
number: int = 3  # 1..10 | a number
word: str = "a"  # a, b | a word
"""


def cell(text: str, *tags: str) -> dict:
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": f"c{abs(hash((text, tags))) % 10**8}",
        "metadata": {"tags": list(tags)},
        "outputs": [],
        "source": text.strip(),
    }


class Project:
    """Notebooks, a catalogue and reports in a temporary folder, and the runner."""

    def __init__(self, root: Path):
        self.root = root
        self.notebooks, self.reports = root / "notebooks", root / "reports"
        self.pids = root / "pids"
        for folder in (self.notebooks, self.pids):
            folder.mkdir()
        (self.notebooks / "papers.yaml").write_text("")

    def add(self, slug: str, body: str = "", finish: bool = True) -> Path:
        """A tiny notebook that runs `body` and then writes its record."""
        cells = [cell(PARAMETERS, "parameters")]
        cells.append(cell(TINY.format(slug=slug, body=textwrap.dedent(body))))
        if finish:
            cells.append(cell(FINISH.format(slug=slug)))
        content = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        path = self.notebooks / f"{slug}.ipynb"
        path.write_text(json.dumps(content))
        entry = f"{slug}: {{title: {slug}, short: {slug}}}\n"
        entries = self.notebooks / "papers.yaml"
        if entry not in entries.read_text():
            with entries.open("a") as stream:
                stream.write(entry)
        return path

    def environment(self) -> dict:
        return os.environ | {
            "BPFREE_NOTEBOOKS": str(self.notebooks),
            "BPFREE_REPORTS": str(self.reports),
            "TINY_PIDS": str(self.pids),
        }

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "bpfree_common", "run", *arguments]

    def run(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        """Run the runner to its end."""
        environment = self.environment() | options.pop("environment", {})
        return subprocess.run(
            self.command(*arguments),
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            **options,
        )

    def living_kernels(self) -> list[int]:
        """Kernels that some notebook ran in and that still live."""
        import psutil

        pids = [int(path.name) for path in self.pids.iterdir()]
        return [pid for pid in pids if psutil.pid_exists(pid)]

    def report(self, slug: str) -> tuple[dict, dict] | None:
        """(notebook, record) of a report; None if there is none; fails if it is half."""
        folder = self.reports / "quick" / slug
        if not folder.exists():
            return None
        notebook = json.loads((folder / f"{slug}.ipynb").read_text())
        return notebook, json.loads((folder / "record.json").read_text())


@pytest.fixture(scope="module")
def paper(request: pytest.FixtureRequest) -> ModuleType:
    """The rule cells of the paper that the test file names as its SLUG."""
    return load_rule(request.module.SLUG)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project."""
    return Project(tmp_path)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The website from the committed reports, built once for all workers of a run."""
    from filelock import FileLock

    from bpfree_common import paths

    root = tmp_path_factory.getbasetemp()
    root = root if worker_id == "master" else root.parent
    built, log = root / "site", root / "site.log"
    with FileLock(root / "site.lock"):
        if not log.exists():  # also of a build that failed: it is not tried twice
            reports = {"BPFREE_REPORTS": str(paths.PROJECT / "reports")}
            command = [sys.executable, "-m", "bpfree_common", "site", "-o", str(built)]
            with log.open("w") as stream:
                subprocess.run(
                    command, env=os.environ | reports, stdout=stream, stderr=stream
                )
    assert (built / "index.html").is_file(), log.read_text()
    return built
