"""Whose is this folder, and does its owner still live?

A process number alone proves nothing: another host or container counts its own, and a
number is given out again. An owner's name therefore holds the host, its PID namespace,
the number and the instant at which that process started.
"""

import os
import re
import socket
import time
from pathlib import Path

import psutil

#: What another host or container left is dead when it has not been touched for a day.
SILENCE = 86_400


def name(pid: int | None = None) -> str:
    """The name of a process (this one by default), fit for a file name: no `-` in it."""
    pid = pid or os.getpid()
    return f"{_here()}.{pid}.{_started(pid)}"


def is_dead(folder: Path, owner: str) -> bool:
    """Whether the owner of `folder` is gone for certain, so that it may be removed."""
    match = re.fullmatch(r"(.+)\.(\d+)\.(\d+)", owner)
    if match is None:
        return False
    here, pid, started = match[1], int(match[2]), int(match[3])
    if here == _here():
        return _started(pid) != started
    try:
        return time.time() - folder.stat().st_mtime > SILENCE
    except FileNotFoundError:
        return False


def _here() -> str:
    """Host and PID namespace: where a process number means something."""
    host = re.sub(r"[^A-Za-z0-9]", "_", socket.gethostname())[:40]
    try:
        return f"{host}.{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:  # not Linux
        return f"{host}.0"


def _started(pid: int) -> int:
    """Hundredths of a second at which a process started; 0 if it is gone or a zombie."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return 0
        return _ticks(pid) or round(process.create_time() * 100)
    except psutil.NoSuchProcess:
        return 0


def _ticks(pid: int) -> int:
    """Linux: clock ticks since boot, which no change of the clock moves; else 0."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[19])
