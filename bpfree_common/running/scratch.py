"""A short temporary folder per run, for sockets; and what killed runs left of theirs.

Names of Unix sockets are limited to about 100 characters, and some machines have
temporary folders that are longer than that.
"""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from bpfree_common.errors import ReportError
from bpfree_common.running import owner

PREFIX, OWNER = "bpfree-", "owner"
LONGEST = 70  # characters of a folder's path that leave room for a socket's name


def open_scratch() -> Path:
    """A fresh folder of this process, as short as can be had. Raises ReportError."""
    for root in [*_roots(), None]:
        try:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
            (folder / OWNER).write_text(owner.name())
            return folder
        except OSError as error:
            reason = error.strerror
    raise ReportError(
        f"cannot write into the temporary folder {tempfile.gettempdir()} ({reason}): "
        "make room there, or choose another with TMPDIR"
    )


def fits(folder: Path) -> bool:
    """Whether sockets can be made in `folder`."""
    return len(os.fsencode(folder)) <= LONGEST


def clear_leftovers() -> None:
    """Remove the folders of processes that no longer live."""
    for root in _roots():
        for folder in root.glob(f"{PREFIX}*"):
            with suppress(OSError):
                if owner.is_dead(folder, (folder / OWNER).read_text()):
                    shutil.rmtree(folder, ignore_errors=True)


def _roots() -> list[Path]:
    """Folders for temporary files whose paths are short enough, best first."""
    names = [tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR"), "/tmp"]
    short = LONGEST - len(PREFIX) - 8
    return [Path(n) for n in dict.fromkeys(names) if n and len(os.fsencode(n)) <= short]
