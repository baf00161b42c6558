"""What the user sees while notebooks run: a live table, or plain lines in a log."""

from rich.console import Console
from rich.live import Live
from rich.table import Table


class View:
    """Follows jobs: a live table on a terminal, one line per event elsewhere."""

    def __init__(self, jobs: list):
        self.console = Console()
        self.total, self.done, self.failed = len(jobs), 0, 0
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

    def update(self, running: list) -> None:
        """Refresh the live table."""
        if self.live.is_started:
            self.live.update(self._table(running))

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _table(self, running: list) -> Table:
        table = Table(title=f"{self.done} of {self.total} done", title_justify="left")
        for column in ("notebook", "cell", "doing", "epoch", "elapsed", "left"):
            table.add_column(column)
        for job in running:
            at = job.position()
            left = "" if job.expected is None else clock(job.expected - job.seconds)
            epoch = f"{at['epoch']}/{at['epochs']}" if "epoch" in at else ""
            cell = f"{at['cell'] + 1}/{at['cells']}" if "cell" in at else "starting"
            doing = at.get("stage", "")
            table.add_row(job.slug, cell, doing, epoch, clock(job.seconds), left)
        return table


def clock(seconds: float) -> str:
    """Minutes and seconds; what should be over already shows as 0:00."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02d}"
