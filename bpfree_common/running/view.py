"""What the user sees while notebooks run: a live table, or plain lines in a log."""

import os
import statistics
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bpfree_common import records
from bpfree_common.papers import catalogue


class View:
    """Follows jobs: a live table on a terminal, one line per event elsewhere."""

    def __init__(self, jobs: list, workers: int):
        self.console = Console()
        self.workers = workers
        self.total, self.done, self.failed = len(jobs), 0, 0
        self.took: list[float] = []
        self.live = Live(console=self.console, refresh_per_second=4, transient=True)

    def __enter__(self) -> "View":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_) -> None:
        if self.live.is_started:
            self.live.stop()

    def started(self, job) -> None:
        """Say why a notebook is run."""
        self._say(f"start   {job.slug} ({job.profile}; {job.reason})")

    def finished(self, job) -> None:
        """Say how a notebook ended; for a failure, which cell and where to look."""
        self.done += 1
        if job.result.get("ok"):
            self.took.append(job.seconds)
            self._say(
                f"ok      {job.slug} in {job.seconds:.1f} s [{self.done}/{self.total}]"
            )
            return
        self.failed += 1
        trace = job.result.get("trace")
        if trace:
            self._say(trace.rstrip())
        cell = job.result.get("cell")
        where = f" in cell [{cell}]" if cell else ""
        self._say(
            f"FAILED  {job.slug}{where}: {job.result.get('ename')}: "
            f"{job.result.get('error')} [{self.done}/{self.total}]"
        )

    def update(self, running: list, waiting: list) -> None:
        """Refresh the live table."""
        if self.live.is_started:
            self.live.update(self._table(running, waiting))

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _table(self, running: list, waiting: list) -> Table:
        left = time_left(running, waiting, self.workers, self.took)
        about = "" if left is None else f", about {clock(left)} left"
        title = f"{self.done} of {self.total} done{about}"
        table = Table(title=title, title_justify="left")
        for column in ("notebook", "cell", "doing", "epoch", "elapsed", "left"):
            table.add_column(column)
        for job in running:
            at = job.position()
            left = "" if job.expected is None else clock(job.expected - job.seconds)
            epoch = f"{at['epoch']}/{at['epochs']}" if "epoch" in at else ""
            cell = f"{at['cell'] + 1}/{at['cells']}" if "cell" in at else "starting"
            doing = Text(at.get("stage", ""))  # not as markup
            table.add_row(job.slug, cell, doing, epoch, clock(job.seconds), left)
        return table


def time_left(
    running: list, waiting: list, workers: int, took: list[float]
) -> float | None:
    """Seconds until all jobs have ended, as their last runs went; None if unknown.

    took: seconds of the jobs that have ended, an estimate for those that never ran.
    """
    jobs = [*running, *waiting]
    known = [job.expected for job in jobs if job.expected is not None] or took
    if not known:
        return None
    usual = statistics.mean(known)
    rests = [
        max(0.0, (usual if job.expected is None else job.expected) - job.seconds)
        for job in jobs
    ]
    return max([sum(rests) / workers, *rests], default=0.0)


def to_open(slugs: list[str], place: str, reports: Path) -> str:
    """What to look at after a run, relative to the current folder; empty if nothing.

    The page that shows all records, if it was among `slugs`; one report; or their folder.
    """
    written = [s for s in slugs if records.folder(s, place, reports).is_dir()]
    pages = [s for s in written if catalogue.get(s).reads_records]
    target = reports / place
    if pages or len(written) == 1:
        slug = (pages or written)[0]
        target = records.folder(slug, place, reports) / f"{slug}.ipynb"
    return os.path.relpath(target) if written else ""


def clock(seconds: float) -> str:
    """Minutes and seconds; what should be over already shows as 0:00."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02d}"
