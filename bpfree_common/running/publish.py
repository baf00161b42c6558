"""Making a finished report appear in one instant.

A report is a folder. The new one is prepared beside the old one, on the same file system,
and the two are exchanged by a single system call: whoever looks, or kills us, at any
moment finds the old report or the new one, whole.

Two places refuse that call. Where the old report lies on another disk, the new one is
first copied there. On an overlay file system, as in containers, a folder that came with
the image cannot be moved at all: its files are removed, the record first, and the new
folder takes the place of the empty one; a kill in between leaves no report, never half.
"""

import ctypes
import errno
import os
import shutil
import sys
import tempfile
from pathlib import Path

from bpfree_common import records
from bpfree_common.errors import ReportError
from bpfree_common.running import owner

STAGING = ".staging"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_DARWIN_RENAME_SWAP = 2
_UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}


def open_staging(reports: Path, profile: str, slug: str) -> Path:
    """A fresh folder to prepare a report in. Raises ReportError if it cannot be made.

    Its name begins with that of this process, see `owner`.
    """
    root = reports / STAGING
    prefix = f"{owner.name()}-{profile.replace('/', '-')}-{slug}-"
    try:
        root.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=prefix, dir=root))
    except OSError as error:
        raise ReportError(
            f"cannot write into the report folder {reports} ({error.strerror}): "
            "make it writable, or choose another with --reports"
        ) from None


def clear_leftovers(reports: Path) -> None:
    """Remove what runners that no longer live have prepared and never published."""
    for folder in _prepared(reports):
        if owner.is_dead(folder, _owner(folder)):
            shutil.rmtree(folder, ignore_errors=True)


def remove_staging(reports: Path, name: str) -> None:
    """Remove what the process called `name` has prepared."""
    for folder in _prepared(reports):
        if _owner(folder) == name:
            shutil.rmtree(folder, ignore_errors=True)


def _prepared(reports: Path) -> list[Path]:
    """Folders in staging, and copies beside reports that lie on another disk."""
    patterns = f"{STAGING}/*-*", "*/.new-*-*", "*/*/.new-*-*"
    return [folder for pattern in patterns for folder in reports.glob(pattern)]


def _owner(folder: Path) -> str:
    return folder.name.removeprefix(".new-").partition("-")[0]


def publish(prepared: Path, final: Path) -> None:
    """Put the folder `prepared` in the place of `final`, atomically and durably."""
    _sync_all(prepared)
    final.parent.mkdir(parents=True, exist_ok=True)
    final = final.resolve()  # a link to another place stays, and the place is renewed
    try:
        _replace(prepared, final)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _replace_by_copy(prepared, final)
    _sync(final.parent)


def _replace(new: Path, final: Path) -> None:
    """Rename `new` to `final`, exchanging the two if there is one; then drop the old."""
    while True:  # another runner may publish, or remove, the same report meanwhile
        try:
            new.rename(final)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        try:
            _exchange(new, final)
        except FileNotFoundError:
            continue
        shutil.rmtree(new)
        return


def _replace_by_copy(prepared: Path, final: Path) -> None:
    """`_replace` where the two are on different disks, or in an overlay's lower layer."""
    name = f".new-{owner.name()}-{final.name}-"
    copy = Path(tempfile.mkdtemp(prefix=name, dir=final.parent))
    try:
        shutil.copytree(prepared, copy, dirs_exist_ok=True)
        copy.chmod(prepared.stat().st_mode)
        _sync_all(copy)
        try:
            _replace(copy, final)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _empty(final)
            copy.rename(final)
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    shutil.rmtree(prepared)


def _empty(report: Path) -> None:
    """Remove a report's files, its record first: without it there is no report."""
    (report / records.NAME).unlink(missing_ok=True)
    for path in report.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _sync_all(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


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
        ctypes.set_errno(errno.ENOSYS)
    if done == 0:
        return
    number = ctypes.get_errno()
    if number not in _UNSUPPORTED:
        raise OSError(number, os.strerror(number), str(b))
    aside = a.with_name(f"{a.name}.old")
    b.rename(aside)
    a.rename(b)
    aside.rename(a)


def move(source: Path, target: Path) -> None:
    """Move a file, to another disk if need be, so that it appears whole."""
    part = target.with_name(f".new-{owner.name()}-{target.name}")
    shutil.move(source, part)
    part.replace(target)
