"""Making a finished report appear in one instant.

A report is a folder. The new one is prepared beside the old one, on the same file system,
and the two are exchanged by a single system call: whoever looks, or kills us, at any
moment finds the old report or the new one, whole.
"""

import ctypes
import os
import shutil
import sys
import tempfile
from pathlib import Path

from bpfree_common.errors import ReportError

STAGING = ".staging"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_DARWIN_RENAME_SWAP = 2


def open_staging(reports: Path, profile: str, slug: str) -> Path:
    """A fresh folder to prepare a report in. Raises ReportError if it cannot be made."""
    root = reports / STAGING
    try:
        root.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-{profile}-{slug}-", dir=root))
    except OSError as error:
        raise ReportError(
            f"cannot write into the report folder {reports} ({error.strerror}): "
            "make it writable, or choose another with --reports"
        ) from None


def clear_leftovers(reports: Path) -> None:
    """Remove what runners that no longer live have left in the staging folder."""
    import psutil

    for folder in (reports / STAGING).glob("*-*"):
        owner = folder.name.partition("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def publish(prepared: Path, final: Path) -> None:
    """Put the folder `prepared` in the place of `final`, atomically and durably."""
    for path in [*prepared.rglob("*"), prepared]:
        _sync(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    if final.exists():
        _exchange(prepared, final)
        shutil.rmtree(prepared)
    else:
        prepared.rename(final)
    _sync(final.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _exchange(a: Path, b: Path) -> None:
    """Exchange two folders; where no system call does it, two renames stand in."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(a), os.fsencode(b)
    if sys.platform == "linux" and hasattr(libc, "renameat2"):
        done = libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE)
    elif sys.platform == "darwin":
        done = libc.renamex_np(*names, _DARWIN_RENAME_SWAP)
    else:
        done = -1
    if done != 0:
        aside = a.with_name(f"{a.name}.old")
        b.rename(aside)
        a.rename(b)
        aside.rename(a)
