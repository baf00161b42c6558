"""The last act of a run, whatever ends it: nothing running, nothing left lying about.

A small process of its own, forked when a run begins, waits until the runner closes its
end of a pipe, by finishing or by being killed. It then kills whatever carries the run's
mark and removes the run's folders.
"""

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

from bpfree_common.running import owner, processes, publish


class Guard:
    """Guards one run; `release` ends it when there is nothing left to do."""

    def __init__(self, mark: str, scratch: Path, reports: Path):
        wait, self._hold = os.pipe()
        mine = owner.name()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._hold)
            _watch(wait, mark, scratch, reports, mine)
        os.close(wait)

    def release(self) -> None:
        """Say that the run has ended and cleaned up by itself."""
        os.write(self._hold, b"done")
        os.close(self._hold)
        os.waitpid(self.pid, 0)


def _watch(wait: int, mark: str, scratch: Path, reports: Path, mine: str) -> None:
    """In the child: never returns."""
    try:
        with suppress(OSError):
            os.setsid()  # a signal to the runner's group is not for us
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        _close_files(keep=wait)
        if not os.read(wait, 4):
            processes.kill_marked(mark)
            shutil.rmtree(scratch, ignore_errors=True)
            publish.remove_staging(reports, mine)
    finally:
        os._exit(0)


def _close_files(keep: int) -> None:
    """Hold none of the runner's files: a reader of its output must see the end."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    for number in range(3, 256):
        if number != keep:
            with suppress(OSError):
                os.close(number)
