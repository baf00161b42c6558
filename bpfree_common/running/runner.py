"""Run what is stale, in parallel, and tell the truth about it.

Every notebook runs in a worker process (`bpfree_common.running.execute`) with a
kernel of its own. This module plans, starts, watches and stops the workers; it needs no
PyTorch, so finding that nothing is stale takes a moment.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from bpfree_common import progress, records
from bpfree_common.data import datasets
from bpfree_common.errors import UserError
from bpfree_common.papers import catalogue
from bpfree_common.running import execute, publish
from bpfree_common.running.processes import kill_tree
from bpfree_common.running.view import View

TIMEOUTS = {"quick": 300, "standard": 3_600, "custom": 3_600, "paper": 86_400}
USER_ERRORS = {"DataError", "ParameterError"}


@dataclass
class Job:
    """One notebook to run, and what became of it."""

    slug: str
    profile: str
    parameters: dict
    reason: str
    expected: float | None = None
    staging: Path | None = None
    process: subprocess.Popen | None = None
    started: float = 0.0
    seconds: float = 0.0
    result: dict = field(default_factory=dict)

    def position(self) -> dict:
        """Cell, stage and epoch, as far as the run has said."""
        return progress.read(self.staging / execute.CELLS) | progress.read(
            self.staging / execute.PROGRESS
        )


def plan(
    slugs: list[str],
    profile: str,
    overrides: dict,
    reports: Path,
    force: bool = False,
    figures: bool = False,
) -> tuple[list[Job], list[str]]:
    """The jobs to run and the slugs that are up to date.

    Every parameter is checked before anything starts. Raises UserError.
    """
    jobs, fresh = [], []
    for slug in slugs:
        entry = catalogue.get(slug)
        if profile not in ("quick", *entry.profiles) and entry.is_paper:
            continue
        values = entry.resolve(profile, overrides)
        name = profile if not overrides else "custom"
        reason = _reason(slug, name, reports, force, figures)
        if reason is None:
            fresh.append(slug)
        else:
            jobs.append(Job(slug, name, values, reason, _expected(slug, name, reports)))
    return jobs, fresh


def _reason(slug: str, profile: str, reports: Path, force: bool, figures: bool):
    if force:
        return "asked for"
    if profile == "custom":
        return "parameters given by hand"
    reason = records.stale(slug, profile, reports)
    if reason is None and figures and not figures_of(slug, profile, reports):
        return "no figures"
    return reason


def figures_of(slug: str, profile: str, reports: Path) -> list[Path] | None:
    """The PNG and SVG files that the record lists, or None if one is not there."""
    record = records.load(slug, profile, reports)
    folder = records.folder(slug, profile, reports) / "figures"
    names = [f["name"] for f in record["figures"]] if record else []
    files = [folder / f"{name}.{kind}" for name in names for kind in ("png", "svg")]
    return files if all(f.is_file() for f in files) else None


def _expected(slug: str, profile: str, reports: Path) -> float | None:
    """Seconds that the last run took, to estimate the time left."""
    try:
        record = records.load(slug, profile, reports)
    except UserError:
        return None
    return record["timing"].get("seconds") if record else None


def run(
    jobs: list[Job],
    reports: Path,
    workers: int,
    timeout: float | None = None,
    threads: int = 1,
) -> int:
    """Run `jobs`, pages that read records last. Returns the exit code: 0, 1 or 2."""
    check_data(jobs)
    publish.clear_leftovers(reports)
    papers = [job for job in jobs if not catalogue.get(job.slug).reads_records]
    readers = [job for job in jobs if catalogue.get(job.slug).reads_records]
    papers.sort(key=lambda job: -(job.expected or 1e9))
    with View(jobs) as view:
        for wave in (papers, readers):
            _run_wave(wave, reports, workers, timeout, threads, view)
    failed = [job for job in jobs if not job.result.get("ok")]
    if not failed:
        return 0
    return 2 if all(j.result.get("ename") in USER_ERRORS for j in failed) else 1


def check_data(jobs: list[Job]) -> None:
    """Find, verify and if need be download all data before a kernel starts."""
    wanted = {str(job.parameters.get("dataset")) for job in jobs}
    for name in sorted(wanted & set(datasets.catalogue())):
        datasets.files(name)


def _run_wave(jobs, reports: Path, workers: int, timeout, threads: int, view) -> None:
    waiting, running = list(jobs), []
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop(0)
                _start(job, reports, threads)
                running.append(job)
                view.started(job)
            time.sleep(0.05)
            for job in list(running):
                limit = timeout or TIMEOUTS[job.profile]
                if _finished(job, limit):
                    running.remove(job)
                    view.finished(job)
            view.update(running)
    finally:  # interrupted: leave nothing running and nothing half-written
        for job in running:
            kill_tree(job.process.pid)
            shutil.rmtree(job.staging, ignore_errors=True)


def _start(job: Job, reports: Path, threads: int) -> None:
    job.staging = publish.open_staging(reports, job.profile, job.slug)
    order = {
        "slug": job.slug,
        "profile": job.profile,
        "parameters": job.parameters,
        "notebook": str(catalogue.get(job.slug).path),
        "reports": str(reports),
        "final": str(records.folder(job.slug, job.profile, reports)),
        "failed": str(_failed_path(job, reports)),
    }
    (job.staging / execute.JOB).write_text(json.dumps(order))
    _failed_path(job, reports).unlink(missing_ok=True)
    count = str(threads)
    environment = os.environ | {
        "BPFREE_RUNNER": str(os.getpid()),
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "PYTHONHASHSEED": "0",
    }
    log = (job.staging / "log.txt").open("w")
    command = [sys.executable, "-m", "bpfree_common.running.execute", str(job.staging)]
    job.started = time.monotonic()
    job.process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
    )
    log.close()


def _failed_path(job: Job, reports: Path) -> Path:
    return reports / "failed" / job.profile / f"{job.slug}.ipynb"


def _finished(job: Job, limit: float) -> bool:
    """Whether the job has ended, by itself or because its time is over."""
    job.seconds = time.monotonic() - job.started
    if job.process.poll() is None and job.seconds <= limit:
        return False
    if job.process.poll() is None:
        kill_tree(job.process.pid)
        job.process.wait()
        text = f"stopped after the limit of {limit:g} s for the whole run"
        job.result = execute.failure("Timeout", text)
        partial = job.staging / "report" / f"{job.slug}.ipynb"
        if partial.is_file() and partial.stat().st_size:
            target = _failed_path(job, job.staging.parents[1])
            target.parent.mkdir(parents=True, exist_ok=True)
            partial.replace(target)
    else:
        job.result = progress.read(job.staging / execute.RESULT) or _crash(job)
    if job.result.get("ok") and job.process.returncode != 0:
        job.result = _crash(job)
    shutil.rmtree(job.staging, ignore_errors=True)
    return True


def _crash(job: Job) -> dict:
    """The worker itself ended without a result: say what it last printed."""
    log = (job.staging / "log.txt").read_text().strip().splitlines()
    last = log[-1] if log else "no message"
    code = job.process.returncode
    return execute.failure("WorkerDied", f"the worker ended with code {code}: {last}")


def collect_figures(slugs: list[str], profile: str, reports: Path) -> int:
    """Copy each report's figures to `figures/<profile>/<method>/`; their number."""
    count = 0
    for slug in slugs:
        files = figures_of(slug, profile, reports) or []
        target = reports / "figures" / profile / slug
        shutil.rmtree(target, ignore_errors=True)
        for file in files:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)
            count += 1
    return count
