"""Run what is stale, in parallel, and tell the truth about it.

Every notebook runs in a worker process (`execute`) with a kernel of its own. This module
starts, watches and stops the workers; `plan` has decided which. Neither needs PyTorch, so
finding that nothing is stale takes a moment.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

from bpfree_common import records
from bpfree_common.papers import catalogue
from bpfree_common.running import execute, processes, publish, scratch
from bpfree_common.running.environment import environment
from bpfree_common.running.failures import failure
from bpfree_common.running.forked import Forked, Warm, possible
from bpfree_common.running.gpus import gpus, least_used
from bpfree_common.running.guard import Guard
from bpfree_common.running.plan import Job, check_data, figures_of
from bpfree_common.running.view import View

TIMEOUTS = {"quick": 300, "standard": 3_600, "custom": 3_600, "paper": 86_400}
USER_ERRORS = {
    *("DataError", "DataMissing", "DataCorrupted", "DeviceError", "ParameterError")
}
WORTH_WARMING = 3  # jobs from which the warm process pays for itself
GRACE = 3  # seconds for a worker to save its notebook when its time is over
SIGN_OF_LIFE = 60  # seconds between two touches of a staging folder


class Stopped(KeyboardInterrupt):
    """The runner was told to stop by a signal; `exit_code` is the shell's for it."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number


def run(
    jobs: list[Job],
    reports: Path,
    workers: int,
    timeout: float | None = None,
    threads: int = 1,
    svg: bool = False,
) -> int:
    """Run `jobs`, pages that read records last. Returns the exit code: 0, 1 or 2.

    timeout: seconds for one whole notebook; None or 0: its profile's. svg: have figures
    written as SVG too.
    """
    if not jobs:
        return 0
    with signals_stop(), Session(jobs, reports, threads, svg) as session:
        missing = check_data(jobs)
        papers = [job for job in jobs if not catalogue.get(job.slug).reads_records]
        readers = [job for job in jobs if catalogue.get(job.slug).reads_records]
        papers.sort(key=lambda job: -(job.expected or 1e9))
        with View(jobs, workers) as view:
            for job in (job for job in jobs if job.slug in missing):
                job.result = failure("DataError", missing[job.slug])
                view.finished(job)
            for wave in (papers, readers):
                ready = [job for job in wave if job.slug not in missing]
                session.run(ready, workers, timeout, view)
    failed = [job for job in jobs if not job.result.get("ok")]
    if not failed:
        return 0
    return 2 if all(j.result.get("ename") in USER_ERRORS for j in failed) else 1


@contextmanager
def signals_stop():
    """Have SIGTERM and SIGHUP raise `Stopped`, as Ctrl-C raises KeyboardInterrupt."""

    def stop(number, _):
        raise Stopped(number)

    numbers = signal.SIGTERM, signal.SIGHUP
    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


class Session:
    """What the workers of one run share: a mark, a scratch folder, a warm process."""

    def __init__(self, jobs: list[Job], reports: Path, threads: int, svg: bool):
        self.reports = reports
        self.mark = uuid.uuid4().hex
        self.count = 0
        self.running: list[Job] = []
        publish.clear_leftovers(reports)
        scratch.clear_leftovers()
        self.scratch = scratch.open_scratch()
        self.guard = Guard(self.mark, self.scratch, reports)
        self.environment = environment(threads, self.mark, self.scratch, svg)
        worth = possible() and len(jobs) >= WORTH_WARMING and scratch.fits(self.scratch)
        self.warm = Warm(self.scratch, self.environment) if worth else None
        self.gpus = gpus()

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_) -> None:
        """Leave nothing running and nothing half-written, interrupted or not."""
        with _undisturbed():
            for job in self.running:
                processes.kill_tree(job.process.pid)
            if self.warm:
                self.warm.stop()
            processes.kill_marked(self.mark)
            for job in self.running:
                shutil.rmtree(job.staging, ignore_errors=True)
            shutil.rmtree(self.scratch, ignore_errors=True)
            self.guard.release()

    def run(self, jobs: list[Job], workers: int, timeout: float | None, view) -> None:
        """Run `jobs`, so many at once, until the last has ended."""
        waiting, touched = list(jobs), time.monotonic()
        while waiting or self.running:
            while waiting and len(self.running) < workers:
                job = waiting.pop(0)
                if self.start(job):
                    view.started(job)
                else:
                    view.finished(job)
            time.sleep(0.05)
            for job in list(self.running):
                if self.finished(job, timeout or TIMEOUTS[job.profile]):
                    self.running.remove(job)
                    view.finished(job)
            if time.monotonic() - touched > SIGN_OF_LIFE:
                touched = self._give_sign_of_life()
            view.update(self.running, waiting)

    def _give_sign_of_life(self) -> float:
        """For runners on other hosts, which cannot see whether this one lives."""
        for job in self.running:
            with suppress(OSError):
                os.utime(job.staging)
        return time.monotonic()

    def start(self, job: Job) -> bool:
        """Start a worker; False, with a result in `job`, if the disk refuses."""
        try:
            job.staging = publish.open_staging(self.reports, job.place, job.slug)
            self._order(job)
            if len(self.gpus) > 1:
                job.gpu = least_used(self.gpus, (each.gpu for each in self.running))
            job.started = time.monotonic()
            with (job.staging / "log.txt").open("w") as log:
                job.process = self._worker(job, log)
        except OSError as error:
            if job.staging:
                shutil.rmtree(job.staging, ignore_errors=True)
            job.result = failure(type(error).__name__, _disk_words(error, self.reports))
            return False
        self.running.append(job)
        return True

    def _order(self, job: Job) -> None:
        """Write what the worker has to do."""
        self.count += 1
        failed = failed_path(job, self.reports)
        order = {
            "slug": job.slug,
            "profile": job.profile,
            "parameters": job.parameters,
            "notebook": str(catalogue.get(job.slug).path),
            "reports": str(self.reports),
            "scratch": str(self.scratch / str(self.count)),
            "final": str(records.folder(job.slug, job.place, self.reports)),
            "failed": str(failed),
        }
        (job.staging / execute.JOB).write_text(json.dumps(order))
        failed.unlink(missing_ok=True)

    def _worker(self, job: Job, log) -> subprocess.Popen | Forked:
        """A worker process: forked from the warm one, or started plainly without it."""
        argument = str(job.staging)
        if self.warm and self.warm.ready():
            with Path(os.devnull).open() as null, suppress(ConnectionError, TimeoutError):
                files = [null.fileno(), log.fileno(), log.fileno()]
                return Forked(
                    self.warm.address, "worker", argument, self.environment, files
                )
        own = {"BPFREE_RUNNER": str(os.getpid())}
        own |= {"CUDA_VISIBLE_DEVICES": job.gpu} if job.gpu else {}
        return subprocess.Popen(
            [sys.executable, "-m", "bpfree_common.running.execute", argument],
            env=self.environment | own,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )

    def finished(self, job: Job, limit: float) -> bool:
        """Whether the job has ended, by itself or because its time is over."""
        job.seconds = time.monotonic() - job.started
        if job.process.poll() is None and job.seconds <= limit:
            return False
        if job.process.poll() is None:
            _stop(job)
            text = f"stopped after the limit of {limit:g} s for the whole run"
            job.result = failure("Timeout", text)
            _keep_partial(job, self.reports)
        else:
            job.result = _result(job, self.reports)
        shutil.rmtree(job.staging, ignore_errors=True)
        return True


@contextmanager
def _undisturbed():
    """Ignore further signals: what is being cleared shall be cleared."""
    numbers = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _stop(job: Job) -> None:
    """End a worker whose time is over; it may still save its notebook."""
    job.process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        job.process.wait(GRACE)
    processes.kill_tree(job.process.pid)
    job.process.wait()


def _keep_partial(job: Job, reports: Path) -> None:
    """Keep the notebook of a run that was stopped, as far as it had come."""
    partial = job.staging / "report" / f"{job.slug}.ipynb"
    if partial.is_file() and partial.stat().st_size:
        execute.keep_failed(partial, failed_path(job, reports))


def failed_path(job: Job, reports: Path) -> Path:
    """Where the notebook of a failed run is kept."""
    return reports / "failed" / job.place / f"{job.slug}.ipynb"


def _result(job: Job, reports: Path) -> dict:
    """What the worker says, or why it could not say anything."""
    code = job.process.returncode
    if code == execute.DISK_FULL:
        return failure("DiskFull", _full(reports))
    try:
        result = json.loads((job.staging / execute.RESULT).read_text())
    except (OSError, ValueError):
        result = {}
    if result and (code == 0) == result["ok"]:
        return result
    _keep_partial(job, reports)
    with (job.staging / "log.txt").open(errors="replace") as log:
        last = (log.read().strip().splitlines() or ["no message"])[-1]
    return failure("WorkerDied", f"the worker ended with code {code}: {last}")


def _full(reports: Path) -> str:
    return f"the disk of {reports} is full: make room and run again"


def _disk_words(error: OSError, reports: Path) -> str:
    full = error.errno in execute.NO_SPACE
    return _full(reports) if full else f"cannot write into {reports} ({error.strerror})"


def collect_figures(slugs: list[str], where: str, reports: Path) -> int:
    """Copy each report's figures to `figures/<where>/<method>/`; their number."""
    count = 0
    for slug in slugs:
        files = figures_of(slug, where, reports) or []
        target = reports / "figures" / where / slug
        shutil.rmtree(target, ignore_errors=True)
        for file in files:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)
            count += 1
    return count
