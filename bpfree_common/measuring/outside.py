"""Notices what a training step does outside of PyTorch: threads, processes, files."""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

_EVENTS = {
    "subprocess.Popen": "starts a process",
    "os.fork": "starts a process",
    "os.posix_spawn": "starts a process",
    "socket.connect": "opens a connection",
}
_listeners: list[Callable[[str], None]] = []
_installed: list[bool] = []


def _heard(event: str, args: tuple) -> None:
    if not _listeners:
        return
    if event in _EVENTS:
        _listeners[-1](_EVENTS[event])
    elif event == "open" and _writes(*args):
        _listeners[-1](f"writes the file {Path(os.fsdecode(args[0])).name!r}")


def _writes(path, mode, flags) -> bool:
    """Whether a file is opened for writing; Python's own caches do not count."""
    if isinstance(path, int) or ".pyc" in os.fsdecode(path):
        return False
    if mode is not None:
        return any(c in mode for c in "wax+")
    return bool(flags & (os.O_WRONLY | os.O_RDWR))


class Outside:
    """Calls `tell` with a few words for every such thing done inside the block.

    Python calls its audit hooks for good, so one hook serves all blocks. Threads have no
    event in all of its versions; their `start` is replaced inside the block.
    """

    def __init__(self, tell: Callable[[str], None]):
        self.tell = tell

    def __enter__(self) -> "Outside":
        if not _installed:
            sys.addaudithook(_heard)
            _installed.append(True)
        _listeners.append(self.tell)
        self._start = start = threading.Thread.start

        def told(thread: threading.Thread) -> None:
            self.tell("starts a thread")
            start(thread)

        threading.Thread.start = told
        return self

    def __exit__(self, *_) -> None:
        threading.Thread.start = self._start
        _listeners.remove(self.tell)
