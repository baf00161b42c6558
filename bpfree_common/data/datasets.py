"""Data files: the catalogue with checksums, and where each file is found.

A file is looked for in `$BPFREE_DATA`, then in the user's cache, then at its official
address. It is read once, and the very bytes that were verified are handed on: nothing
that is swapped afterwards can be parsed. A file whose checksum is wrong is refused by
name and left as it is. A folder of many small files counts as one file.

BPFREE_OFFLINE set to 1, true or yes forbids the network; 0, false, no or nothing allows
it. This module knows files only; `bpfree_common.data.tasks` makes tensors of them.
"""

import os
import stat
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import yaml

from bpfree_common import paths, progress
from bpfree_common.data import download as downloads
from bpfree_common.data.checksum import checksum
from bpfree_common.errors import DataCorrupted, DataError, DataMissing, choices

OFFLINE = {"1": True, "true": True, "yes": True}
ONLINE = {"": False, "0": False, "false": False, "no": False}


@dataclass(frozen=True)
class Contents:
    """The verified bytes of a data set.

    form: which of its forms was found. files: in the order of the catalogue, the bytes
    of each file; for a folder the bytes of every file in it, by name.
    """

    form: str
    files: list[bytes | dict[str, bytes]]


@cache
def catalogue() -> dict[str, dict]:
    """Every data set: about, licence, and its forms with file names and checksums."""
    return yaml.safe_load((paths.LABORATORY / "data" / "datasets.yaml").read_text())


def offline() -> bool:
    """Whether BPFREE_OFFLINE forbids the network. Raises DataError if it is unclear."""
    text = os.environ.get("BPFREE_OFFLINE", "").strip().lower()
    if text not in OFFLINE | ONLINE:
        raise DataError(
            f"BPFREE_OFFLINE={text!r} is neither 1, true, yes nor 0, false, no"
        )
    return (OFFLINE | ONLINE)[text]


def form(name: str) -> str:
    """The form of data set `name` to use: the first that is here, else downloadable.

    Raises DataError when `name` is unknown or a folder cannot be looked into.
    """
    forms = _known(name)["forms"]
    for candidate, files in forms.items():
        if all(_local(file) for file in files):
            return candidate
    return list(forms)[-1]


def contents(name: str, download: bool = True) -> Contents:
    """The verified bytes of data set `name`, downloaded if need be.

    Raises DataMissing when a file is not here and cannot come, DataCorrupted when its
    bytes are not the published ones, DataError when it cannot be read; each names it.
    """
    chosen = form(name)
    wanted = _known(name)["forms"][chosen]
    return Contents(chosen, [_obtain(file, name, download)[1] for file in wanted])


def files(name: str, download: bool = True) -> list[Path]:
    """Where the files of data set `name` lie, each verified, downloaded if need be.

    To parse a file take `contents`: what lies at a path can be swapped. Raises as it
    does.
    """
    wanted = _known(name)["forms"][form(name)]
    return [_obtain(file, name, download)[0] for file in wanted]


def available(name: str) -> bool:
    """Whether data set `name` can be read; downloads it first if need be.

    False means that it is not on this machine and may not come: BPFREE_OFFLINE forbids
    the network, or a file has no address. Then a study leaves out what needs it, and
    its record says so. The answer never depends on the network of the day: where the
    network is allowed, an address that does not answer raises DataMissing, and a
    corrupted file always raises DataCorrupted.
    """
    wanted = _known(name)["forms"][form(name)]
    here = all(_local(file) for file in wanted)
    if not here and (offline() or not reachable(name)):
        return False
    files(name)
    return True


def reachable(name: str) -> bool:
    """Whether every file of data set `name` is here or has an official address.

    Asks the disk and the catalogue only: it says nothing of whether the address answers.
    """
    wanted = _known(name)["forms"][form(name)]
    return all(_local(file) or "url" in file for file in wanted)


def checksums(name: str) -> dict[str, str]:
    """SHA-256 of every file of data set `name`, in the form that is used."""
    return {f["name"]: f["sha256"] for f in _known(name)["forms"][form(name)]}


def _known(name: str) -> dict:
    if name not in catalogue():
        raise DataError(f"there is no data set {name!r}: {choices(name, catalogue())}")
    return catalogue()[name]


def _candidates(file: dict) -> list[Path]:
    """The places where `file` may lie, best first."""
    if "package" in file:
        return [Path(find_spec(file["package"]).origin).parent / file["name"]]
    roots = [root for root in (paths.data_dir(), paths.cache() / "data") if root]
    return [root / file["name"] for root in roots]


def _local(file: dict) -> Path | None:
    """Where `file` lies, or None. Raises DataError when a folder may not be searched."""
    for path in _candidates(file):
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise _unreadable(path, error) from None
        return path
    return None


def _obtain(file: dict, dataset: str, download: bool):
    """(path, verified content) of a file; for a folder the content is a dict."""
    path = _local(file) or (_download(file, dataset) if download else None)
    if path is None:
        raise _absent(file, dataset, "is not on this machine")
    try:
        found = _read_folder(path) if file.get("folder") else _read(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    if found is None or checksum(found) != file["sha256"]:
        raise DataCorrupted(
            f"{path} is corrupted (its SHA-256 is not the published one): "
            "move it away and run `make data`, or restore it"
        )
    return path, found


def _read(path: Path) -> bytes | None:
    """All bytes of a file; None for what is no file, or too large to be a known one.

    Opened without waiting, and looked at only then: a pipe would wait for ever, and a
    device never ends.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_size > downloads.LARGEST:
            return None
        with open(handle, "rb", closefd=False) as stream:  # noqa: PTH123
            return stream.read(found.st_size + 1)
    finally:
        os.close(handle)


def _read_folder(path: Path) -> dict[str, bytes] | None:
    """The bytes of every file in a folder, by name; None if there is anything else."""
    if not path.is_dir():
        return None
    found = {each.name: _read(each) for each in sorted(path.iterdir())}
    return None if None in found.values() else found


def _download(file: dict, dataset: str) -> Path:
    if "url" not in file:
        raise _absent(file, dataset, "has no official address")
    if offline():
        raise _absent(file, dataset, "is not here and BPFREE_OFFLINE is set")
    target = paths.cache() / "data" / file["name"]
    progress.announce(f"downloading {file['url']}")
    try:
        downloads.fetch(file["url"], file["sha256"], target, bool(file.get("folder")))
    except downloads.Failed as error:
        raise _absent(file, dataset, str(error)) from None
    return target


def _absent(file: dict, dataset: str, reason: str) -> DataMissing:
    how = "put it under $BPFREE_DATA"
    if "url" in file:
        how = f"bring it from {file['url']} to $BPFREE_DATA, or try again with a network"
    return DataMissing(
        f"data set {dataset!r}: {file['name']} {reason}; {_nearly(dataset)}{how}"
    )


def _nearly(dataset: str) -> str:
    """What another form of the data set lacks, if a part of it is here."""
    for name, wanted in _known(dataset)["forms"].items():
        lacking = [file["name"] for file in wanted if not _local(file)]
        if 0 < len(lacking) < len(wanted):
            return f"of its form {name!r} only {', '.join(lacking)} is missing; "
    return ""


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} cannot be read ({error.strerror}): mend its permissions")
