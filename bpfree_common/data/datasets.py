"""Data files: the catalogue with checksums, and where each file is found.

A file is looked for in `$BPFREE_DATA`, then in the user's cache, then at its official
address. A file whose checksum is wrong is refused by name and left as it is. A folder of
many small files counts as one file: its checksum is that of what `sha256sum *` prints.
This module knows files only; `bpfree_common.data.tasks` makes tensors of them.
"""

import hashlib
import os
import shutil
import tarfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import yaml

from bpfree_common import paths, progress
from bpfree_common.errors import DataError


@cache
def catalogue() -> dict[str, dict]:
    """Every data set: about, licence, and its forms with file names and checksums."""
    return yaml.safe_load((paths.LABORATORY / "data" / "datasets.yaml").read_text())


def form(name: str) -> str:
    """The form of data set `name` to use: the first that is here, else downloadable.

    Raises DataError when `name` is unknown.
    """
    if name not in catalogue():
        raise DataError(
            f"there is no data set {name!r}: choose one of {', '.join(catalogue())}"
        )
    forms = catalogue()[name]["forms"]
    for candidate, files in forms.items():
        if all(_local(file) for file in files):
            return candidate
    return list(forms)[-1]


def files(name: str, download: bool = True) -> list[Path]:
    """The verified files of data set `name`, downloaded if need be.

    Raises DataError, naming the file, when one is missing, unreachable or corrupted.
    """
    chosen = form(name)
    wanted = catalogue()[name]["forms"][chosen]
    return [_obtain(file, name, download) for file in wanted]


def reachable(name: str) -> bool:
    """Whether every file of data set `name` is here or has an official address."""
    wanted = catalogue()[name]["forms"][form(name)]
    return all(_local(file) or "url" in file for file in wanted)


def checksums(name: str) -> dict[str, str]:
    """SHA-256 of every file of data set `name`, in the form that is used."""
    return {f["name"]: f["sha256"] for f in catalogue()[name]["forms"][form(name)]}


def _candidates(file: dict) -> list[Path]:
    """The places where `file` may lie, best first."""
    if "package" in file:
        return [Path(find_spec(file["package"]).origin).parent / file["name"]]
    roots = [root for root in (paths.data_dir(), paths.cache() / "data") if root]
    return [root / file["name"] for root in roots]


def _local(file: dict) -> Path | None:
    return next((path for path in _candidates(file) if path.exists()), None)


def _obtain(file: dict, dataset: str, download: bool) -> Path:
    path = _local(file) or (_download(file, dataset) if download else None)
    if path is None:
        raise _absent(file, dataset, "is not on this machine")
    if sha256(path) != file["sha256"]:
        raise DataError(
            f"{path} is corrupted (its SHA-256 is not the published one): "
            "move it away and run `make data`, or restore it"
        )
    return path


def _download(file: dict, dataset: str) -> Path:
    if "url" not in file:
        raise _absent(file, dataset, "has no official address")
    if os.environ.get("BPFREE_OFFLINE"):
        raise _absent(file, dataset, "is not here and BPFREE_OFFLINE is set")
    import pooch

    pooch.get_logger().setLevel("ERROR")
    target = paths.cache() / "data" / file["name"]
    progress.announce(f"downloading {file['url']}")
    try:
        if file.get("folder"):
            archive = pooch.retrieve(file["url"], None, path=target.parent)
            _unpack(Path(archive), target)
        else:
            known = "sha256:" + file["sha256"]
            pooch.retrieve(file["url"], known, target.name, target.parent)
    except (OSError, ValueError) as error:
        reason = f"could not be downloaded ({type(error).__name__})"
        raise _absent(file, dataset, reason) from None
    return target


def _unpack(archive: Path, target: Path) -> None:
    """Put the files of the archive's folder named like `target` there, in one move."""
    part = target.with_name(f".{target.name}.{os.getpid()}")
    part.mkdir(parents=True)
    with tarfile.open(archive) as members:
        for member in members:
            name = Path(member.name)
            if member.isfile() and name.parent.name == target.name:
                with (part / name.name).open("wb") as stream:
                    shutil.copyfileobj(members.extractfile(member), stream)
    part.rename(target)
    archive.unlink()


def _absent(file: dict, dataset: str, reason: str) -> DataError:
    return DataError(
        f"data set {dataset!r}: {file['name']} {reason}; "
        "put it under $BPFREE_DATA, or run `make data` with a network"
    )


def sha256(path: Path) -> str:
    """64 hex digits: SHA-256 of a file, or of what `sha256sum *` prints in a folder."""
    if path.is_dir():
        inside = sorted(path.iterdir(), key=lambda each: each.name.encode())
        lines = "".join(f"{sha256(each)}  {each.name}\n" for each in inside)
        return hashlib.sha256(lines.encode()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
