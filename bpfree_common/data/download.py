"""Downloads that end: one published file or folder, verified before it is anywhere.

Nothing is put in its place until its SHA-256 is the published one: half a file, another
file, or the page of a captive portal never stays. pooch does the transfer and tries
again; what it lacks is an end, so a server that drips or never stops is left.
"""

import contextlib
import gzip
import os
import shutil
import sys
import tarfile
import tempfile
import threading
import time
import zlib
from pathlib import Path

from bpfree_common import progress
from bpfree_common.data.checksum import checksum

LARGEST = 250_000_000  #: bytes; no published file of the catalogue has more
PATIENCE, SLOWEST = 60.0, 20_000.0  #: seconds of grace, then bytes per second on average
SILENCE = 30.0  #: seconds that a server may say nothing
RETRIES = 1
OTHER = "did not come: its address sent something else (a network's log-in page?)"
ROOM, DAY = ".download-", 86_400.0  # prefix of temporary folders, seconds


class Failed(Exception):
    """A download came to nothing; the message is the reason, without a subject."""


def fetch(url: str, sha256: str, target: Path, folder: bool = False) -> None:
    """Bring the file at `url` to `target`, or the folder of that name in its archive.

    Several processes may fetch the same target at once. Raises Failed; then nothing is
    left behind.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _clear(target.parent)
        room = tempfile.TemporaryDirectory(
            prefix=ROOM, dir=target.parent, ignore_cleanup_errors=True
        )
    except OSError as error:
        raise Failed(
            f"cannot be kept in {target.parent} ({error.strerror}): "
            "set BPFREE_CACHE to a folder of yours"
        ) from None
    with room as name:
        came = _transfer(url, None if folder else sha256, Path(name))
        if folder:
            came = _unpack(came, Path(name) / "unpacked", target.name)
            if checksum(_bytes_in(came)) != sha256:
                raise Failed(OTHER)
        _place(came, target)


def _clear(folder: Path) -> None:
    """Remove what a download that was killed has left: by its age, for a process number
    says nothing on a disk that several machines share.
    """
    for room in folder.glob(f"{ROOM}*"):
        with contextlib.suppress(OSError):
            if time.time() - room.stat().st_mtime > DAY:
                shutil.rmtree(room, ignore_errors=True)


def _bytes_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _place(came: Path, target: Path) -> None:
    """Move into place at once; another process may have been there first."""
    try:
        came.replace(target)
    except OSError as error:
        if not target.is_dir():  # a full folder cannot be replaced, and need not be
            raise Failed(f"cannot be kept as {target} ({error.strerror})") from None


def _transfer(url: str, sha256: str | None, room: Path) -> Path:
    """Download to `room` in a thread that is left alone when it takes too long."""
    transfer = _Transfer(url, sha256, room)
    thread = threading.Thread(target=transfer.run, daemon=True)
    thread.start()
    try:
        while thread.is_alive() and not transfer.too_slow():
            thread.join(0.2)
    finally:
        slow = thread.is_alive()
        transfer.stopped = True
    if slow:
        raise Failed(f"could not be downloaded (fewer than {SLOWEST:.0f} bytes a second)")
    if transfer.error is not None:
        raise Failed(transfer.error)
    return transfer.path


class _Transfer:
    """One transfer by pooch, and the progress bar that pooch feeds."""

    def __init__(self, url: str, sha256: str | None, room: Path):
        self.url, self.sha256, self.path = url, sha256, room / "file"
        self.error: str | None = None
        self.stopped = False
        self.total, self.arrived, self.this_try = 0, 0, 0
        self._start, self._bar = time.monotonic(), None

    def too_slow(self) -> bool:
        """Whether too little has come, all tries together, for the time it took."""
        seconds = time.monotonic() - self._start
        return self.arrived < SLOWEST * (seconds - PATIENCE)

    def run(self) -> None:
        """Transfer to `self.path`; afterwards `self.error` is None or the reason."""
        import pooch
        import requests

        pooch.get_logger().setLevel("ERROR")
        known = self.sha256 and f"sha256:{self.sha256}"
        source = pooch.create(
            self.path.parent,
            base_url="",
            registry={self.path.name: known},
            urls={self.path.name: self.url},
            retry_if_failed=RETRIES,
        )
        # a server that compresses would change the bytes whose checksum is known
        loader = pooch.HTTPDownloader(
            progressbar=self,
            chunk_size=2**14,
            timeout=SILENCE,
            headers={"Accept-Encoding": "identity"},
        )
        try:
            source.fetch(self.path.name, downloader=loader)
        except Failed as error:
            self.error = str(error)
        except requests.exceptions.RequestException as error:
            status = getattr(error.response, "status_code", "")
            why = f"{type(error).__name__} {status}".strip()
            self.error = f"could not be downloaded ({why})"
        except ValueError:  # pooch's word for a checksum that is another
            self.error = OTHER
        except Exception as error:  # a thread has nobody to raise to
            self.error = f"could not be downloaded ({type(error).__name__}: {error})"

    # --- the bar, as pooch asks for it ---

    def reset(self) -> None:
        """The transfer is complete; pooch counts its bytes anew."""
        self.this_try = 0

    def update(self, count: int) -> None:
        """`count` more bytes have come. Raises Failed when enough is enough."""
        if self.stopped:
            raise Failed("was given up")
        self.arrived += count
        self.this_try += count
        if max(self.this_try, self.total) > LARGEST + 2**14:
            raise Failed(f"could not be downloaded (more than {LARGEST:,} bytes)")
        self._show()

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._bar is not None:
            self._bar.close()

    def _show(self) -> None:
        """In the runner's live view, or else as a bar where somebody looks."""
        if "BPFREE_PROGRESS" in os.environ:
            done, total = self.this_try, max(self.this_try, self.total)
            progress.report(f"downloading {self.url}", done, total)
        elif sys.stderr.isatty() or "ipykernel" in sys.modules:
            from tqdm import tqdm

            if self._bar is None:  # a bar without a total has no truth value
                self._bar = tqdm(
                    total=self.total or None, unit="B", unit_scale=True, leave=False
                )
            self._bar.n = self.this_try
            self._bar.update(0)


def _unpack(archive: Path, part: Path, name: str) -> Path:
    """The files of the archive's folder `name`, flat, in the new folder `part`."""
    part.mkdir()
    size = 0
    try:
        with tarfile.open(archive) as members:
            for member in members:
                size += member.size
                if size > LARGEST:
                    raise Failed(f"unpacks to more than {LARGEST:,} bytes")
                path = Path(member.name)
                if member.isfile() and path.parent.name == name:
                    (part / path.name).write_bytes(members.extractfile(member).read())
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error):
        raise Failed(OTHER) from None
    return part
