"""Process hygiene: children die with their parent, and a kill leaves no orphan."""

import contextlib
import ctypes
import os
import signal
import sys

import psutil

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process as soon as process `parent` is gone (Linux).

    Elsewhere the Jupyter kernel's own parent poller does the same within seconds.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we could ask
        os._exit(1)


def kill_tree(pid: int) -> None:
    """Kill a process and all its descendants, and wait until they are gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        _kill([*root.children(recursive=True), root])


def kill_children() -> None:
    """Kill all descendants of this process: a kernel and what it has started."""
    _kill(psutil.Process().children(recursive=True))


def _kill(family: list[psutil.Process]) -> None:
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=5)
