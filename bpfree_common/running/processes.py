"""Process hygiene: children die with their parent, and a kill leaves no orphan."""

import contextlib
import ctypes
import os
import signal
import sys

import psutil

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36

#: The environment variable that marks every process of a run, whoever its parent is.
MARK = "BPFREE_RUN"


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process as soon as process `parent` is gone (Linux).

    Elsewhere the Jupyter kernel's own parent poller does the same within seconds.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we could ask
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent dies, daemons too (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_tree(pid: int) -> None:
    """Kill a process and all its descendants, and wait until they are gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        _kill([*root.children(recursive=True), root])


def kill_children() -> None:
    """Kill all descendants of this process: a kernel and what it has started."""
    _kill(psutil.Process().children(recursive=True))


def kill_marked(mark: str) -> None:
    """Kill every process whose environment says `BPFREE_RUN=mark`, but not this one."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark and process.pid != os.getpid():
                found.append(process)
    _kill(found)


def _kill(family: list[psutil.Process]) -> None:
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=5)
